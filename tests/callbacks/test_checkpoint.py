from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from toy_run import N_BATCHES, ToyTask, run_toy

from cvkan.checkpointing import read_checkpoint
from cvkan.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::UserWarning:torch")


class Scored(ToyTask):
    """Logs a given score an epoch."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__("none")
        self.scores = scores

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.scores[self.current_epoch])


@pytest.mark.parametrize(
    ("scores", "best_epoch"),
    [([3.0, 1.0, 2.0, 1.0], 4), ([1.0, 2.0, 3.0, 4.0], 1), ([4.0, 3.0, 2.0, 1.0], 4)],
)
def test_best_holds_the_last_epoch_with_the_best_score(scores: list[float], best_epoch: int, tmp_path: Path) -> None:
    run_toy(tmp_path, task=Scored(scores))
    assert sorted(file.name for file in (tmp_path / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    best, last = (read_checkpoint(tmp_path / "checkpoints" / name) for name in ("best.ckpt", "last.ckpt"))
    assert best["global_step"] == best_epoch * N_BATCHES
    assert best["callbacks"]["RunCheckpoint"]["best_score"] == min(scores)
    assert last["global_step"] == 4 * N_BATCHES


def test_a_moved_run_keeps_its_best_score_and_a_lost_file_forgets_it(tmp_path: Path) -> None:
    run_toy(tmp_path / "run", task=Scored([1.0, 2.0]), max_epochs=2)
    shutil.copytree(tmp_path / "run", tmp_path / "moved")
    (tmp_path / "run/checkpoints/best.ckpt").unlink()
    for name, expected in (("moved", N_BATCHES), ("run", 3 * N_BATCHES)):
        path = tmp_path / name
        run_toy(path, path / "checkpoints/last.ckpt", task=Scored([0, 0, 1.5, 1.8]))
        assert read_checkpoint(path / "checkpoints/best.ckpt")["global_step"] == expected


def test_a_checkpoint_says_what_its_classes_are(tmp_path: Path) -> None:
    run_toy(tmp_path, max_epochs=1)
    for name in ("best.ckpt", "last.ckpt"):
        facts = read_checkpoint(tmp_path / "checkpoints" / name)["cvkan"]["data"]
        nothing_known = dict.fromkeys(("snr_definition", "image", "vectors"))
        assert facts == {"class_names": ["below", "above"], "snr_db": [], "vocabulary": [], **nothing_known}


def test_unknown_monitor_names_the_logged_metrics(tmp_path: Path) -> None:
    class Silent(ToyTask):
        def validation_step(self, batch, batch_idx):
            self.log("val/accuracy", 0.5)

    with pytest.raises(UserError, match=r"no metric 'val/loss' is logged .*Choose one of: .*val/accuracy"):
        run_toy(tmp_path, task=Silent())


def test_validation_every_second_epoch_waits_for_its_score(tmp_path: Path) -> None:
    run_toy(tmp_path, task=Scored([9.0, 2.0, 9.0, 1.0]), check_val_every_n_epoch=2)
    assert read_checkpoint(tmp_path / "checkpoints/best.ckpt")["global_step"] == 4 * N_BATCHES


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("run")
    run_toy(path, max_epochs=1)
    return (path / "checkpoints/last.ckpt").read_bytes()


@pytest.mark.parametrize(
    "kind", ["truncated", "empty", "text", "flipped", "code", "foreign", "list", "missing", "folder"]
)
def test_a_file_that_is_no_checkpoint_is_one_line_naming_it(kind: str, written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    if kind == "truncated":
        path.write_bytes(written[: len(written) // 2])
    elif kind == "flipped":
        middle = len(written) // 4
        path.write_bytes(
            written[:middle] + bytes(255 - b for b in written[middle : middle + 64]) + written[middle + 64 :]
        )
    elif kind in ("empty", "text"):
        path.write_bytes({"empty": b"", "text": b"not a checkpoint\n"}[kind])
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        content = {"code": {"cvkan": Path("x"), "state_dict": {}}, "foreign": {"state_dict": {}}, "list": [1]}
        torch.save(content[kind], path)
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert error.value.fix


def test_resuming_from_a_damaged_file_is_a_user_error(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.ckpt"
    path.write_bytes(written[:-100])
    with pytest.raises(UserError, match="damaged"):
        run_toy(tmp_path / "run", path)
