"""What the loggers keep of a run, read back from their own files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from wandb_file import read

from cvkan.api_key import has_api_key
from cvkan.cli import resolvers
from cvkan.loggers import WandbRun, run_id, sweep_name

CONF = Path(__file__).parents[1] / "conf"
TINY = (
    *("domain=audio", "data.n_train=20", "data.n_val=20", "data.n_test=20", "data.n_speakers=10"),
    *("trainer.max_epochs=1", "data.batch_size=10", "model.d_complex=8", "model.n_layers=1"),
)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, and W&B's cache in a folder of the test."""
    home = tmp_path_factory.mktemp("home")
    for name in ("HOME", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(home))
    for name in ("WANDB_SILENT", "WANDB_INIT_TIMEOUT", "WANDB_RUN_ID", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


def test_the_id_of_a_run_is_kept_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_id(tmp_path / "a")
    assert run_id(tmp_path / "a") == first
    assert run_id(tmp_path / "b") != first
    monkeypatch.setenv("WANDB_RUN_ID", "agents")  # an agent of a W&B sweep says which run it waits for
    assert run_id(tmp_path / "a") == "agents"


def test_a_key_decides_whether_a_run_is_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def logger() -> WandbRun:
        return WandbRun(str(tmp_path / "run"), "cvkan", None, None, ["audio"], None)

    assert not has_api_key()
    assert logger()._offline
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai\n  login user\n  password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert has_api_key()
    assert not logger()._offline
    assert logger().version == run_id(tmp_path / "run/wandb")


def test_outside_a_sweep_there_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    assert sweep_name() is None


@pytest.mark.parametrize("choice", ["wandb", "tensorboard"])
def test_a_logger_brings_its_callbacks_whatever_others_are_chosen(choice: str) -> None:
    """Hydra allows no section in two of the chosen files to come from a third: theirs are copies."""
    resolvers.register()
    chosen = OmegaConf.load(CONF / "callbacks/gradients.yaml").gradients
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        for other in ("callbacks=default", "callbacks=ema", "callbacks=gradients", "domain=text", "domain=poetry"):
            callbacks = compose("train", overrides=[f"logger={choice}", other]).callbacks
            assert callbacks.gradients == chosen
            assert {"show_run", "lr_monitor", "polarization"} <= callbacks.keys()


@pytest.mark.slow
def test_a_run_shows_itself_in_wandb_and_tensorboard(train_here: Callable[..., Any], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ended = train_here(*TINY, "logger=[wandb,tensorboard]", "output_dir=run")
    assert ended.code == 0, ended.err
    assert "wandb sync" in (tmp_path / "run/train.log").read_text()
    found = read(tmp_path / "run/wandb")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert (found["id"], found["project"], found["tags"]) == (run_id(tmp_path / "run/wandb"), "cvkan", ["audio"])
    assert (found["group"], found["name"], found["exit_code"]) == ("", "run", 0)
    assert found["config"]["optimizer"]["lr"] > 0
    assert found["config"]["domain"]["name"] == "audio"
    for name in ("train/loss", "val/accuracy", "lr-AdamW/pg1", "gradients/norm", "polarization/layer1/gini"):
        assert name in found["history"]
    for name in ("test/accuracy", "best/val/accuracy"):
        assert found["history"][name] == {"": pytest.approx(metrics[name])}
    drawn = {path.stem for path in (tmp_path / "run/plots").glob("*.png")} - {"curves"}
    assert {name for name in found["history"] if name.startswith("plots/")} == {f"plots/{name}" for name in drawn}
    assert found["history"]["tables/sounds"]["nrows"] == 10
    models = [artifact for artifact in found["artifacts"] if artifact.type == "model"]
    assert [entry.path for entry in models[0].manifest.contents] == ["best.ckpt"]

    board = EventAccumulator(str(tmp_path / "run/tensorboard"), {"images": 0, "audio": 0}).Reload()
    tags = board.Tags()
    assert {f"plots/{name}" for name in drawn} == set(tags["images"])
    assert len(tags["audio"]) == 10
    assert {"train/loss", "lr-AdamW/pg1", "gradients/norm", "best/val/accuracy"} <= set(tags["scalars"])
    assert {"config/text_summary", "tables/sounds/text_summary"} <= set(tags["tensors"])


@pytest.mark.slow
def test_jobs_of_a_sweep_are_runs_of_one_group_and_a_failed_one_says_so(
    train_here: Callable[..., Any], tmp_path: Path
) -> None:
    ended = train_here("-m", *TINY, "logger=wandb", "optimizer.lr=0.001,1e30", "hydra.sweep.dir=rates")
    assert ended.code == 3, ended.err
    first, second = (read(tmp_path / f"rates/{job}/wandb") for job in range(2))
    assert (first["group"], first["name"], first["exit_code"]) == ("rates", "rates/0", 0)
    assert (second["group"], second["name"], second["exit_code"]) == ("rates", "rates/1", 1)
    assert first["id"] != second["id"]
    assert "test/accuracy" in first["history"]
    assert "test/accuracy" not in second["history"]
