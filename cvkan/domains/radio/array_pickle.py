"""Reading pickled arrays without running anything: a pickle is a program, and this reads its data alone.

NumPy's own functions are not called either. The names that a pickle of arrays calls stand for inert classes here, which
keep what they are given; arrays are made from the bytes afterwards, once type and shape are checked.

Nor can a small pickle cost much time or memory. It may refer to one object many times, and to lists of such lists: each
object is looked at once, and what is made of all of them is no larger than the file.
"""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cvkan.errors import UserError

# A damaged pickle fails in whatever opcode it has come to; one made to harm may nest or grow without end.
DAMAGED = (
    *(pickle.UnpicklingError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, RecursionError, MemoryError, AssertionError, struct.error),
)
REFUSED = b"".join((pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.EXT1, pickle.EXT2, pickle.EXT4))
N_BITS = 64  # of a number
FIX = "Only load pickles of plain containers with NumPy arrays of numbers."


class _Dtype:
    """Stands for ``numpy.dtype(code, align, copy)``; its state begins with (version, byte order)."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def checked(self) -> np.dtype[Any]:
        if not isinstance(self.order, str) or not isinstance(self.code, str):
            raise pickle.UnpicklingError("an array of no known type")
        if self.order not in ("<", ">", "=", "|") or self.code[:1] not in tuple("biufc") or not self.code[1:].isdigit():
            raise pickle.UnpicklingError(f"an array of type {self.order}{self.code}")
        return np.dtype(self.order + self.code)


class _Array:
    """Stands for an array: made empty by ``_reconstruct``, or whole by ``_frombuffer``."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, fortran, self.raw = state
        self.fortran = bool(fortran)

    def to_numpy(self) -> np.ndarray:
        dtype = self.dtype.checked()
        if not isinstance(self.shape, tuple) or not all(isinstance(size, int) and size >= 0 for size in self.shape):
            raise pickle.UnpicklingError("an array of no possible shape")
        raw = self.raw.text if isinstance(self.raw, _Encoded) else self.raw
        if not isinstance(raw, (str, bytes, bytearray)) or len(raw) != dtype.itemsize * math.prod(self.shape):
            raise pickle.UnpicklingError(f"an array {self.shape} of {dtype} with too many or too few bytes")
        content = raw.encode("latin1") if isinstance(raw, str) else raw
        return np.frombuffer(content, dtype=dtype).reshape(self.shape, order="F" if self.fortran else "C")


class _Sealed:
    """What a pickle must not give a state: the opcode BUILD sets attributes of whatever it meets."""

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"it alters a {type(self).__name__.strip('_').lower()}")


class _Scalar(_Sealed):
    """Stands for ``numpy.core.multiarray.scalar(dtype, bytes)``."""

    def __init__(self, dtype: _Dtype, raw: bytes | str) -> None:
        self.array = _Array()
        self.array.__setstate__((1, (), dtype, False, raw))


class _Encoded(_Sealed):
    """Stands for ``_codecs.encode(text, "latin1")``, by which Python 3 writes bytes in old protocols."""

    def __init__(self, text: str, encoding: str) -> None:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("bytes in an unknown encoding")
        self.text = text


class _Function(_Sealed):
    """What a pickle gets for a name that it calls. The function or class itself it could alter for later loads."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _frombuffer(raw: Any, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", raw))
    return array


def _no_bytes() -> bytes:
    """Stands for ``bytes()``, by which Python 3 writes empty ones in old protocols."""
    return b""


# Old and new names of modules.
_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _Encoded,
    **{(module, "bytes"): _no_bytes for module in ("builtins", "__builtin__")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


_InPython: Any = pickle._Unpickler  # the one in C lets a few bytes ask for gigabytes of memo, and hashes any key


class _Unpickler(_InPython):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _Function(_STAND_INS[module, name])

    def load_bytearray8(self) -> None:
        # The inherited one makes room for as many bytes as the pickle says before it looks whether they are there.
        (n_bytes,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(n_bytes)))

    def load_setitem(self) -> None:
        _check_key(self.stack[-2])
        super().load_setitem()

    def load_setitems(self) -> None:
        for key in self.stack[::2]:
            _check_key(key)
        super().load_setitems()

    def load_dict(self) -> None:
        for key in self.stack[::2]:
            _check_key(key)
        super().load_dict()

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **{code: load for code, load in _InPython.dispatch.items() if code not in REFUSED},
        pickle.BYTEARRAY8[0]: load_bytearray8,
        **{pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems, pickle.DICT[0]: load_dict},
    }


def _check_key(key: Any) -> None:
    """Refuse what is slow to hash: a tuple of a tuple twice, that of another twice, and so on."""
    if isinstance(key, tuple) and any(isinstance(part, tuple) for part in key):
        raise pickle.UnpicklingError("it holds a key of tuples within a tuple")


class _Plain:
    """Makes plain containers, numbers and arrays of what was unpickled.

    Args:
        n_bytes: of the file; the arrays cannot hold more.
    """

    def __init__(self, n_bytes: int) -> None:
        self.left = n_bytes
        self.made: dict[int, Any] = {}  # by the id of an object: it may be referred to many times
        self.begun: set[int] = set()

    def of(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, float, complex, str, bytes)):
            return value
        if isinstance(value, int):
            if value.bit_length() > N_BITS:
                raise pickle.UnpicklingError(f"it holds a number of {value.bit_length()} bits")
            return value
        if id(value) not in self.made:
            if id(value) in self.begun:
                raise pickle.UnpicklingError(f"it holds a {type(value).__name__} that holds itself")
            self.begun.add(id(value))
            self.made[id(value)] = self._make(value)
        return self.made[id(value)]

    def _make(self, value: Any) -> Any:
        match value:
            case _Array():
                return self._counted(value.to_numpy())
            case _Scalar():
                return self._counted(value.array.to_numpy())[()].item()
            case _Encoded():
                return self._counted(np.frombuffer(value.text.encode("latin1"), np.uint8)).tobytes()
            case dict():
                return {self.of(key): self.of(item) for key, item in value.items()}
            case list() | tuple():
                return type(value)(self.of(item) for item in value)
        raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")

    def _counted(self, array: np.ndarray) -> np.ndarray:
        self.left -= array.nbytes
        if self.left < 0:
            raise pickle.UnpicklingError("its arrays are larger than the file")
        return array


def load_arrays(path: Path) -> Any:
    """The content of a pickle of arrays, also of one that Python 2 wrote (its strings are read as latin-1).

    Returns:
        Plain containers, numbers, strings and arrays of numbers.

    Raises:
        UserError: the file cannot be read, is damaged, or names anything else. Nothing of it has been run.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="latin1").load()
        return _Plain(path.stat().st_size).of(content)
    except DAMAGED as error:
        raise UserError(f"the pickle is refused: {_reason(error):.200}", path, FIX) from error


def _reason(error: Exception) -> str:
    match error:
        case EOFError() | struct.error():
            return "it is cut short"
        case LookupError():
            return "it is no pickle, a damaged one, or one with more than plain containers"
    return " ".join(str(error).split()) or type(error).__name__
