"""The cache of computed arrays: used, never trusted, never needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cvkan.domains.cache import cached_arrays


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cvkan"


def cached(name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    return cached_arrays(name, lambda: {"array": make()})["array"]


@pytest.mark.parametrize("damage", [lambda data: data[:50], lambda data: b"", lambda data: data[:-80] + b"x" * 80])
def test_damaged_cache_file_is_computed_again(cache: Path, damage: Callable[[bytes], bytes]) -> None:
    made = []

    def make() -> np.ndarray:
        made.append(1)
        return np.arange(100)

    cached("a", make)
    path = cache / "a.npz"
    path.write_bytes(damage(path.read_bytes()))
    assert cached("a", make).tolist() == list(range(100))
    assert cached("a", make).tolist() == list(range(100))
    assert len(made) == 2
    assert [path.name for path in cache.iterdir()] == ["a.npz"]  # no temporary file stays


def test_changed_bytes_in_a_cache_file_are_noticed(cache: Path) -> None:
    cached("a", lambda: np.zeros(1000, dtype=np.uint8))
    data = bytearray((cache / "a.npz").read_bytes())
    data[600] ^= 1
    (cache / "a.npz").write_bytes(data)
    assert cached("a", lambda: np.full(3, 5)).tolist() == [5, 5, 5]


def test_unusable_cache_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cached("a", lambda: np.arange(3)).tolist() == [0, 1, 2]
