"""RadioML 2016: pickles of every protocol read as data, frames and labels of the dict, pickles that want to do harm."""

from __future__ import annotations

import os
import pickle
import pickletools
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from radio_files import STORED

from cvkan.domains.radio import array_pickle
from cvkan.domains.radio.array_pickle import load_arrays
from cvkan.domains.radio.rml2016 import RML2016
from cvkan.errors import DataUnavailableError, UserError

Cells = dict[Any, Any]


def cells(n: int = 10, n_samples: int = 128) -> Cells:
    generator = np.random.default_rng(0)
    keys = [("QPSK", 2), ("8PSK", 2), ("QPSK", -4), ("8PSK", -4)]
    return {key: generator.standard_normal((n, 2, n_samples)).astype(np.float32) for key in keys}


def source(folder: Path, content: Any, **changes: Any) -> RML2016:
    (folder / "a.pkl").write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=2))
    return RML2016(root=str(folder), file="a.pkl", **{**STORED, **changes})


def python_2_pickle(array: np.ndarray) -> bytes:
    """``{("QPSK", 2): array}`` as Python 2 and its NumPy wrote it: byte strings and the old names of modules."""
    raw = array.tobytes()
    shape = b"".join(b"K" + bytes([size]) for size in array.shape)
    return b"".join(
        (
            b"\x80\x02}(U\x04QPSKK\x02\x86",
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R",
            b"(K\x01(" + shape + b"t",
            b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89T" + len(raw).to_bytes(4, "little") + raw + b"tbu.",
        )
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "<c8", "?"])
def test_arrays_of_every_protocol_come_back(tmp_path: Path, protocol: int, dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    content = {("QPSK", np.int64(2)): array, "f": np.asfortranarray(array), "plain": [1, 2.5, None, "é", b"\xff"]}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol))
    loaded = load_arrays(tmp_path / "a.pkl")
    np.testing.assert_array_equal(loaded["QPSK", 2], array)
    np.testing.assert_array_equal(loaded["f"], array)
    assert loaded["f"].dtype == array.dtype
    assert loaded["plain"] == content["plain"]


def test_pickle_of_python_2(tmp_path: Path) -> None:
    array = np.random.default_rng(0).standard_normal((3, 2, 16)).astype(np.float32)
    content = python_2_pickle(array)
    np.testing.assert_array_equal(pickle.loads(content, encoding="latin1")["QPSK", 2], array)  # it is a right one
    (tmp_path / "a.pkl").write_bytes(content)
    np.testing.assert_array_equal(load_arrays(tmp_path / "a.pkl")["QPSK", 2], array)


def test_every_frame_has_its_label_whatever_the_order_of_the_dict(tmp_path: Path) -> None:
    content = cells()
    data = source(tmp_path, content)
    assert (data.spec.class_names, data.spec.snr_db) == (("8PSK", "QPSK"), (-4.0, 2.0))
    assert data.spec.input_shape == (128,)
    data.setup()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 32, "val": 4, "test": 4}
    batch = data.frames.__getitems__(range(40))
    assert batch["id"].tolist() == list(range(40))
    for frame, (modulation, snr), number in zip(batch["x"].numpy(), batch["y"].tolist(), range(40), strict=True):
        expected = content[data.spec.class_names[modulation], data.spec.snr_db[snr]][number % 10]
        np.testing.assert_array_equal(frame, expected[0] + 1j * expected[1])
    backwards = source(tmp_path, dict(reversed(content.items())))
    backwards.setup()
    assert torch.equal(backwards.splits["test"].ids, data.splits["test"].ids)


def test_subset_and_unknown_class(tmp_path: Path) -> None:
    data = source(tmp_path, cells(), classes=["QPSK"], snr_db=[2])
    data.setup()
    assert len(data.frames) == 10
    with pytest.raises(UserError, match=r"no class '16QAM' in the data .*It holds 8PSK, QPSK"):
        source(tmp_path, cells(), classes=["16QAM"])


class Harm:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch harm",)


class Evaluated:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return eval, ("open('harm', 'w')",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("harm", [Harm(), Evaluated()])
def test_harmful_pickle_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: object, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    for content in (harm, {("QPSK", 2): harm}, {("QPSK", 2): np.array([harm], dtype=object)}):
        with pytest.raises(UserError, match=r"the pickle is refused: .*a\.pkl") as caught:
            source(tmp_path, pickle.dumps(content, protocol))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "harm").exists()
    pickle.loads(pickle.dumps(harm))  # it would have run
    assert (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cnumpy\nload\n.",
        b"cnumpy.core.multiarray\n_reconstruct\n\x94\x85b.",
        b"cnumpy\nndarray\n)R.",
        b"cnumpy\nndarray\n)\x81}X\x03\x00\x00\x00rawN\x73b.",
        b"cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.",
        b"(lp0\ng0\na.",
        b"\x80\x02]" + b"]" * 100_000 + b"a" * 100_000 + b".",
        b"c__builtin__\nglobals\n(tR.",
        b"\x80\x02\x82\x01.",
    ],
)
def test_crafted_opcodes_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError) as caught:
        source(tmp_path, content)
    assert "\n" not in str(caught.value)


NAMES_AND_STATES = [
    (b"cnumpy.core.multiarray\n_reconstruct\n", b"X\x0c\x00\x00\x00__defaults__N"),
    (b"cnumpy.core.multiarray\nscalar\n", b"X\x08\x00\x00\x00__init__N"),
    (b"cnumpy.core.multiarray\nscalar\n", b"X\x0a\x00\x00\x00__reduce__N"),
    (b"c_codecs\nencode\n", b"X\x04\x00\x00\x00nameN"),
]


@pytest.mark.parametrize(("name", "state"), NAMES_AND_STATES)
def test_a_pickle_alters_nothing_that_later_loads_use(tmp_path: Path, name: bytes, state: bytes) -> None:
    before = {key: dict(vars(made)) for key, made in array_pickle._STAND_INS.items()}
    with pytest.raises(UserError, match="it alters a function"):
        source(tmp_path, b"\x80\x02" + name + b"N}(" + state + b"u\x86b.")  # BUILD with (None, {...})
    assert {key: dict(vars(made)) for key, made in array_pickle._STAND_INS.items()} == before
    assert len(source(tmp_path, {("QPSK", np.int64(2)): cells()["QPSK", 2]}).frames) == 10


def test_fingerprint_tells_other_signals(tmp_path: Path) -> None:
    prints = []
    for sign in (1, -1):
        data = source(tmp_path, {key: sign * frames for key, frames in cells().items()})
        data.setup()
        prints.append(data.fingerprint())
    assert prints[0] != prints[1]


def test_damaged_pickles_never_crash(tmp_path: Path) -> None:
    whole = pickle.dumps(cells(2, 4), protocol=2)
    ends = [position for _, _, position in pickletools.genops(whole) if position]
    generator = np.random.default_rng(0)
    refused = 0
    for cut in ends[1:-1:7]:
        with pytest.raises(UserError, match="the pickle is refused"):
            source(tmp_path, whole[:cut])
    for _ in range(200):
        harmed = bytearray(whole)
        harmed[generator.integers(len(whole))] = generator.integers(256)
        try:
            source(tmp_path, bytes(harmed))
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
    assert refused > 20


MALFORMED: list[tuple[Any, str]] = [
    ([1, 2], "the pickle holds a list, no dict of cells"),
    ({}, "no dict of cells"),
    ({"QPSK": np.zeros((1, 2, 4), "f4")}, "the key 'QPSK' is no pair"),
    ({("QPSK", "2"): np.zeros((1, 2, 4), "f4")}, "is no pair of modulation and SNR"),
    ({("BPSK", float("nan")): np.zeros((1, 2, 4), "f4")}, r"the key \('BPSK', nan\) names no finite SNR"),
    ({("BPSK", -np.inf): np.zeros((1, 2, 4), "f4")}, r"the key \('BPSK', -inf\) names no finite SNR"),
    ({("QPSK", 2): [1.0]}, "holds list, no floats"),
    ({("QPSK", 2): np.zeros((1, 2, 4), int)}, "holds int64, no floats"),
    ({("QPSK", 2): np.zeros((1, 4, 2), "f4")}, r"has the shape \(1, 4, 2\)"),
    ({("QPSK", 2): np.zeros((0, 2, 4), "f4")}, r"has the shape \(0, 2, 4\)"),
    ({("QPSK", 2): np.zeros((1, 2, 4), "f4"), ("QPSK", 4): np.zeros((1, 2, 5), "f4")}, r"shape \(1, 2, 5\)"),
    (b"", "the pickle is refused: it is cut short"),
    (b"hello", "the pickle is refused"),
    (b"\x89HDF\r\n\x1a\n", "the pickle is refused: it is no pickle"),
]


@pytest.mark.parametrize(("content", "message"), MALFORMED)
def test_malformed_content_is_named(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        source(tmp_path, content)
    assert "a.pkl" in str(caught.value)


def test_missing_file_names_those_that_are_there(tmp_path: Path) -> None:
    source(tmp_path, cells())
    with pytest.raises(DataUnavailableError, match=r"no file b\.pkl; pickles there: a\.pkl"):
        RML2016(root=str(tmp_path), file="b.pkl", **STORED)


def nested(kind: Callable[[list[Any]], Any], depth: int = 45) -> Any:
    """An object that is twice in another, which is twice in a third: 2**depth when it is written out."""
    value: Any = kind([1, 2])
    for _ in range(depth):
        value = kind([value, value])
    return value


def body(value: Any) -> bytes:
    """A pickle without its first opcode and its last."""
    return pickle.dumps(value, 2)[2:-1]


def array_of(dtype: bytes, shape: bytes, raw: bytes) -> bytes:
    """Opcodes of an array; ``dtype`` is what numpy.dtype is called with."""
    made = b"cnumpy\ndtype\n" + dtype + b"\x85R(K\x03X\x01\x00\x00\x00|tb"
    return b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01" + shape + made + b"\x89" + raw + b"tb"


HUGE = b"J\xff\xff\xff\x7f"  # 2147483647
MANY = b"".join(array_of(body("u1"), HUGE[:1] + b"\x40\x42\x0f\x00\x85", b"h\xff") for _ in range(2000))
TEXT = b"X\x40\x42\x0f\x00" + b"x" * 1_000_000 + b"q\xff"
BOMBS = {
    "lists in lists": (b"\x80\x02" + body(nested(list)) + b".", "holds a list, no dict"),
    "lists in a cell": (pickle.dumps({("QPSK", 2): nested(list)}, 2), "holds list, no floats"),
    "tuples as a key": (b"\x80\x02}" + body(nested(tuple)) + b"K\x01s.", "a key of tuples within a tuple"),
    "tuples as one of the keys": (b"\x80\x02}(" + body(nested(tuple)) + b"K\x01u.", "a key of tuples"),
    "tuples as a key of old": (b"(" + body(nested(tuple)) + b"K\x01d.", "a key of tuples"),
    "tuples in a set": (b"\x80\x04\x8f(" + body(nested(tuple)) + b"\x90.", "more than plain containers"),
    "tuples in a frozen set": (b"\x80\x04(" + body(nested(tuple)) + b"\x91.", "more than plain containers"),
    "room for a memo": (b"\x80\x02Nr\xff\xff\xff\x7f.", "holds a NoneType, no dict"),
    "lists as a type": (b"\x80\x02" + array_of(body(nested(list)), b")", b"C\x00") + b".", "of no known type"),
    "a list as a shape": (
        b"\x80\x02" + array_of(body("f4"), HUGE + b"]K\x00a\x86", b"C\x00") + b".",
        "no possible shape",
    ),
    "a number as bytes": (b"\x80\x02" + array_of(body("f4"), b")", HUGE) + b".", "too many or too few bytes"),
    "many arrays of one text": (b"\x80\x02](" + TEXT + MANY + b"e.", "its arrays are larger than the file"),
    "bytes of one text": (
        b"\x80\x02](" + TEXT + (b"c_codecs\nencode\nh\xff" + body("latin1") + b"\x86R") * 2000 + b"e.",
        "its arrays are larger than the file",
    ),
    "bytes that are not there": (b"\x80\x05\x96" + struct.pack("<Q", 4 << 30) + b".", "cut short"),
    "a number of many digits": (pickle.dumps({("QPSK", 1 << 50_000, 3): 1}), "a number of 50001 bits"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_small_pickle_costs_little(tmp_path: Path, name: str) -> None:
    content, message = BOMBS[name]
    start = time.process_time()
    with pytest.raises(UserError, match=message) as caught:
        source(tmp_path, content)
    assert time.process_time() - start < 2
    assert len(str(caught.value)) < 400


def test_what_holds_itself_is_refused(tmp_path: Path) -> None:
    ring: list[Any] = [1]
    ring.append({"again": (ring,)})
    with pytest.raises(UserError, match="it holds a list that holds itself"):
        source(tmp_path, ring)


def test_array_that_is_named_twice_is_one(tmp_path: Path) -> None:
    array = np.ones((50, 2, 8), np.float32)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([array, {"again": array}]))
    one, other = load_arrays(tmp_path / "a.pkl")
    assert one is other["again"]
