"""What a run leaves behind, how it repeats, how several run, how it ends when it must end early."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import COMMAND, Result

from cvkan.checkpointing import read_checkpoint

pytestmark = pytest.mark.slow
Train = Callable[..., Result]
SHORT = ("trainer.max_epochs=2", "data.limit_train=128")
LONG = ("domain=synthetic", "data.n_train=256", "data.n_val=64", "data.n_test=64", "trainer.max_epochs=1000")


def wait_for(path: Path, process: subprocess.Popen[str] | None = None) -> None:
    """Until a file is there; it fails after a minute or when the process is gone."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        assert process is None or process.poll() is None, "the process is gone"
        time.sleep(0.02)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_run_directory_holds_exactly_what_is_promised_and_repeats(train_here: Train) -> None:
    result = train_here(*SHORT)

    assert result.code == 0, result.err
    assert result.err == ""
    (run,) = Path("outputs/image").iterdir()
    assert files(run) == [
        *(".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml"),
        *("checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml", "metrics.csv", "metrics.json"),
        *("plots/confusion_matrix.png", "plots/curves.png", "plots/polarization.png", "plots/polarization_layers.png"),
        *("report.html", "run.json", "train.log"),
    ]
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"test/accuracy", "test/f1_macro", "test/loss"} <= metrics.keys()
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "completed"
    assert record["error"] is None
    assert record["seed"] == 0
    assert record["data_source"] == "cvkan.domains.image.digits.Digits"
    assert len(record["data_fingerprint"]) == 64
    assert all(record[name] > 0 for name in ("parameters", "fit_seconds", "samples_per_second", "peak_memory_bytes"))
    assert "epoch 2/2" in (run / "train.log").read_text()
    for text in ("test/accuracy", str(run), "report.html", "polarization.png"):
        assert text in result.out

    assert train_here("--config-dir", run, "--config-name", "config", "output_dir=again").code == 0
    assert json.loads(Path("again/metrics.json").read_text()) == metrics
    assert Path("again/config.yaml").read_bytes() == (run / "config.yaml").read_bytes()


def test_token_selection_figures(train_here: Train) -> None:
    assert train_here(*LONG, "trainer.max_epochs=1", "output_dir=run").code == 0
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert {"test/topk_recovery", "test/auc"} <= metrics.keys()
    assert len(metrics["per_layer_recovery"]) == 2


def test_multirun_makes_a_directory_a_job(train_here: Train) -> None:
    result = train_here("trainer.max_epochs=1", "-m", "norm=none,pre_rms", "data.limit_train=64")

    assert result.code == 0, result.err
    (sweep,) = Path("multirun").iterdir()
    records = {name: json.loads((sweep / name / "run.json").read_text()) for name in ("0", "1")}
    assert all(record["status"] == "completed" for record in records.values())
    assert records["0"]["parameters"] < records["1"]["parameters"]
    assert not Path("outputs").exists()


def test_faulty_job_of_a_multirun_does_not_keep_the_others_from_running(train_here: Train) -> None:
    result = train_here("-m", "seed=-1,0", "trainer.max_epochs=1", "data.limit_train=64")

    assert result.code == 2
    assert result.err.count("error: ") == 1
    (sweep,) = Path("multirun").iterdir()
    assert [path.name for path in sweep.iterdir() if path.is_dir() and not path.name.startswith(".")] == ["1"]
    assert (sweep / "1/metrics.json").exists()


def test_signal_ends_all_jobs_of_a_multirun(train_here: Train) -> None:
    def stop() -> None:
        while not list(Path("multirun").glob("*/0/checkpoints/last.ckpt")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    result = train_here("-m", "seed=0,1", *LONG)
    stopper.join()

    assert result.code == 143
    (sweep,) = Path("multirun").iterdir()
    assert [path.name for path in sweep.iterdir() if path.is_dir() and not path.name.startswith(".")] == ["0"]


def test_single_training_sample_has_baselines_too(train_here: Train) -> None:
    assert train_here("trainer.max_epochs=1", "data.limit_train=1", "output_dir=run").code == 0
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["baseline/linear_accuracy"] == metrics["baseline/majority_accuracy"]


def test_diverged_run_names_step_and_layer(train_here: Train) -> None:
    result = train_here(*SHORT, "optimizer.lr=1e30", "scheduler=constant", "output_dir=run")

    assert result.code == 3
    (line,) = result.err.splitlines()
    assert line.startswith("error: training diverged at step ")
    assert "first in" in line
    record = json.loads(Path("run/run.json").read_text())
    assert record["status"] == "failed"
    assert line == f"error: {record['error']}"
    assert not Path("run/metrics.json").exists()


def test_sigterm_writes_a_checkpoint_first(train_here: Train) -> None:
    def stop() -> None:
        wait_for(Path("run/checkpoints/last.ckpt"))
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    result = train_here(*LONG, "output_dir=run")
    stopper.join()

    assert result.code == 143
    assert json.loads(Path("run/run.json").read_text())["status"] == "interrupted"
    assert read_checkpoint("run/checkpoints/last.ckpt")["global_step"] > 0


def test_ctrl_c_prints_the_command_that_goes_on(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [str(COMMAND), *LONG], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(tmp_path / "outputs/synthetic", process)
    (run,) = (tmp_path / "outputs/synthetic").iterdir()
    wait_for(run / "checkpoints/last.ckpt", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    step = read_checkpoint(run / "checkpoints/last.ckpt")["global_step"]
    command, _, arguments = err.splitlines()[-1].rpartition("go on with: ")[2].partition(" ")
    assert command == "cvkan-train"

    # As printed, but for one more epoch only.
    epochs = step // 4 + 1
    resumed = subprocess.run(
        [str(COMMAND), *shlex.split(arguments), f"trainer.max_epochs={epochs}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((run / "run.json").read_text())["status"] == "completed"
    assert len(list(run.parent.iterdir())) == 1
    assert read_checkpoint(run / "checkpoints/last.ckpt")["global_step"] == 4 * epochs
