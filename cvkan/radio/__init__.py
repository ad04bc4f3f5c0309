"""Radio signals as plain tensor functions: constellations, waveforms, channels, images, and the physical limit."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXPORTS = {
    "cvkan.radio.bayes": ("BayesAccuracy", "bayes_accuracy"),
    "cvkan.radio.bound": ("Bound", "bound_for", "crlb_db", "eta", "load_bound"),
    "cvkan.radio.constellations": ("CLASSES", "DEFAULT_CLASSES", "constellation"),
    "cvkan.radio.cumulants": ("cumulants",),
    "cvkan.radio.generator": ("FrameGenerator",),
    "cvkan.radio.images": ("Histogram", "Splat"),
    "cvkan.radio.likelihood": ("SETTINGS", "Setting"),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'cvkan.radio' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
