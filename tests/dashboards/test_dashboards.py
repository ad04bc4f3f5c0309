"""Dashboards as code: what is built is what was agreed, and every name in them is one that runs log under."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from hydra import compose, initialize_config_module
from lightning.pytorch.loggers import Logger
from matplotlib import pyplot
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from cvkan import build, dashboards
from cvkan.cli import resolvers
from cvkan.gallery import Rows, best_name

GOLDEN = Path(__file__).parent
ROOT = GOLDEN.parents[1]
DOMAINS = {path.stem: OmegaConf.load(path).domain for path in sorted((ROOT / "conf/domain").glob("*.yaml"))}
SMALL = ["data.n_train=16", "data.n_val=16", "data.n_test=16"]
TINY = {
    "audio": [*SMALL, "data.n_speakers=10"],
    "image": ["data.limit_train=16"],
    "poetry": ["data.limit_train=16"],
    "radio": [*SMALL, "data.classes=[BPSK,QPSK]", "data.snr_db=[0,10]"],
    "synthetic": SMALL,
    "text": ["data.limit_train=64"],
    "timeseries": [],
}

CHOICES = ["logger=wandb", "model=cvkan", "trainer.max_epochs=1"]  # the logger's callbacks are the point


def model_of(domain: str) -> dict[str, Any]:
    """The dashboard as W&B would be sent it, without the random ids of its panels."""
    workspace = dashboards.workspace(domain, str(DOMAINS[domain].monitor), "team", "cvkan")

    def settled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: settled(item) for key, item in value.items() if key not in ("__id__", "ref")}
        return [settled(item) for item in value] if isinstance(value, list) else value

    return settled(json.loads(json.dumps(workspace._to_model().model_dump(by_alias=True, exclude_none=True))))


def test_every_domain_has_a_dashboard() -> None:
    assert dashboards.BOARDS.keys() == DOMAINS.keys() == TINY.keys()


@pytest.mark.parametrize("domain", ["image", "radio"])
def test_a_dashboard_is_the_agreed_one(domain: str) -> None:
    """After a change that is meant: python tests/dashboards/test_dashboards.py writes the files anew."""
    assert model_of(domain) == json.loads((GOLDEN / f"{domain}.json").read_text())


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_dashboard_shows_the_runs_of_its_domain_and_all_its_names(domain: str) -> None:
    text = json.dumps(model_of(domain))
    assert f'"name": "domain.name"}}, "op": "=", "value": "{domain}"' in text
    names = dashboards.logged_names(domain, DOMAINS[domain].monitor)
    shown = [name for kind in names.values() for name in kind if name != "test/loss"]
    assert [name for name in shown if f'"{name}"' not in text] == []


class Listener(Logger):
    """A gallery that remembers the names of what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, set[str]] = {"metrics": set(), "figures": set(), "tables": set()}

    name, version = "", ""  # type: ignore[assignment]

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.names["metrics"] |= metrics.keys()

    def show_config(self, config: Mapping[str, Any]) -> None:
        """Nothing: a trainer without a run directory has none."""

    def show_figures(self, figures: Mapping[str, Figure], step: int) -> None:
        self.names["figures"] |= figures.keys()
        pyplot.close("all")

    def show_table(self, name: str, rows: Rows, step: int) -> None:
        self.names["tables"].add(name)

    def keep_checkpoint(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Nothing."""

    def close(self, failed: bool) -> None:
        """Nothing."""


@pytest.mark.slow
@pytest.mark.parametrize("domain", DOMAINS)
def test_runs_log_under_the_names_of_their_dashboard(domain: str, tmp_path: Path) -> None:
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        cfg = compose("train", overrides=[*CHOICES, f"domain={domain}", *TINY[domain]])
    pl.seed_everything(0)
    data = build.build_data(cfg)
    data.prepare_data()
    data.setup()
    task = build.build_task(cfg, data)
    listener = Listener()
    trainer = build.build_trainer(
        cfg,
        callbacks=build.build_callbacks(cfg),
        logger=[listener],
        default_root_dir=str(tmp_path),
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_train_batches=2,
        limit_val_batches=2,
    )
    task.before_fit(data)
    trainer.fit(task, datamodule=data)
    trainer.test(task, datamodule=data, verbose=False)
    wanted = dashboards.logged_names(domain, cfg.domain.monitor)
    wanted["metrics"].remove(best_name(cfg.domain.monitor))  # of the run's checkpoint
    missing = {kind: set(names) - listener.names[kind] for kind, names in wanted.items()}
    assert missing == {"metrics": set(), "figures": set(), "tables": set()}
    assert cfg.domain.monitor in listener.names["metrics"]
    assert any(name.startswith("lr-") for name in listener.names["metrics"])


@pytest.mark.slow
def test_the_script_builds_them_offline_and_saves_nothing_without_a_key() -> None:
    script = [sys.executable, str(ROOT / "scripts/build_dashboards.py")]
    checked = subprocess.run([*script, "--check", "image"], capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stdout.split(":")[0]) == (0, "image"), checked.stderr
    refused = subprocess.run([*script, "--entity", "team"], capture_output=True, text=True, timeout=60)
    assert (refused.returncode, refused.stderr.startswith("error: saving needs")) == (2, True)


if __name__ == "__main__":
    for chosen in ("image", "radio"):
        (GOLDEN / f"{chosen}.json").write_text(json.dumps(model_of(chosen), indent=1) + "\n")
