"""IMDB's reviews from a miniature of the published folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cvkan.domains.text.imdb import IMDB
from cvkan.errors import DataUnavailableError, UserError

SETTINGS: dict[str, Any] = {
    **{"download": False, "lowercase": True, "val_fraction": 0.25, "split_seed": 0},
    **{"max_length": 400, "min_count": 1, "max_words": None, "word_dropout": 0.0},
    **{"batch_size": 4, "num_workers": 0, "seed": 0, "limit_train": None},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        for name, opinion in (("neg", "Awful"), ("pos", "Great")):
            folder = tmp_path / "aclImdb" / part / name
            folder.mkdir(parents=True)
            for number in range(8):
                (folder / f"{number}_7.txt").write_text(f"{opinion}!<br /><br />It's film {number}, {part}.")
        (tmp_path / "aclImdb" / part / "labeledBow.feat").write_text("1 0:9")
    unlabelled = tmp_path / "aclImdb" / "train" / "unsup"
    unlabelled.mkdir()
    (unlabelled / "0_0.txt").write_text("unsupervised")
    return tmp_path


def loaded(root: Path, **options: Any) -> IMDB:
    data = IMDB(root=str(root), **{**SETTINGS, **options})
    data.prepare_data()
    data.setup()
    return data


def test_reviews_are_read_and_validation_is_drawn_from_train(root: Path) -> None:
    data = loaded(root)
    sizes = {name: torch.bincount(split.tensors["y"]).tolist() for name, split in data.splits.items()}
    assert sizes == {"train": [6, 6], "val": [2, 2], "test": [8, 8]}
    words = data.spec.vocabulary
    first = [words[number] for number in data.splits["test"].tensors["x"][0].tolist()]
    assert first[:4] == ["awful", "!", "it's", "film"]
    assert not {"br", "<", "unsupervised"} & set(words)
    assert data.spec.class_names == ("negative", "positive")
    assert loaded(root / "aclImdb").fingerprint() == data.fingerprint()


def test_missing_reviews_name_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError) as caught:
        loaded(tmp_path)
    assert all(way in str(caught.value) for way in ("data.root=DIR", "data.download=true", "data=grammar"))


def test_an_empty_review_or_folder_is_named(root: Path) -> None:
    path = root / "aclImdb" / "test" / "pos" / "3_7.txt"
    path.write_text("<br />\n")
    with pytest.raises(UserError, match=r"the review is empty \(.*3_7.txt\)"):
        loaded(root)
    for file in path.parent.iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"there are no reviews \(.*pos\)"):
        loaded(root)
