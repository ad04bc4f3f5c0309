"""Reading pickled arrays without running anything: a pickle is a program, and this reads its data alone.

NumPy's own functions are not called either. The names that a pickle of arrays calls stand for inert classes here, which
keep what they are given; arrays are made from the bytes afterwards, once type and shape are checked.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cvkan.errors import UserError

# A damaged pickle fails in whatever opcode it has come to; one made to harm may nest or grow without end.
DAMAGED = (
    *(pickle.UnpicklingError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, RecursionError, MemoryError),
)
FIX = "Only load pickles of plain containers with NumPy arrays of numbers."


class _Dtype:
    """Stands for ``numpy.dtype(code, align, copy)``; its state begins with (version, byte order)."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def checked(self) -> np.dtype[Any]:
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
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else bytes(self.raw)
        if len(raw) != dtype.itemsize * math.prod(self.shape):
            raise pickle.UnpicklingError(f"{len(raw)} bytes for an array {self.shape} of {dtype}")
        return np.frombuffer(raw, dtype=dtype).reshape(self.shape, order="F" if self.fortran else "C")


class _Sealed:
    """What a pickle must not give a state: the opcode BUILD sets attributes of whatever it meets."""

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"it alters a {type(self).__name__.strip('_').lower()}")


class _Scalar(_Sealed):
    """Stands for ``numpy.core.multiarray.scalar(dtype, bytes)``."""

    def __init__(self, dtype: _Dtype, raw: bytes | str) -> None:
        self.array = _Array()
        self.array.__setstate__((1, (), dtype, False, raw))


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


def _encode(text: str, encoding: str) -> bytes:
    """Stands for ``_codecs.encode``, by which Python 3 writes bytes in old protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stands for ``bytes()``, by which Python 3 writes empty ones in old protocols."""
    return b""


# Old and new names of modules.
_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encode,
    **{(module, "bytes"): _no_bytes for module in ("builtins", "__builtin__")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _Function(_STAND_INS[module, name])


def load_arrays(path: Path) -> Any:
    """The content of a pickle of arrays, also of one that Python 2 wrote (its strings are read as latin-1).

    Returns:
        Plain containers, numbers, strings and arrays of numbers.

    Raises:
        UserError: the file cannot be read, is damaged, or names anything else. Nothing of it has been run.
    """
    try:
        with path.open("rb") as file:
            return _to_plain(_Unpickler(file, encoding="latin1").load())
    except DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"the pickle is refused: {reason:.200}", path, FIX) from error


def _to_plain(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.to_numpy()
    if isinstance(value, _Scalar):
        return value.array.to_numpy()[()].item()
    if isinstance(value, dict):
        return {_to_plain(key): _to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_plain(item) for item in value)
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return value
    raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")
