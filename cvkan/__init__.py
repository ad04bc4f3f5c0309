"""cvkan: train complex-valued polarizing Kolmogorov-Arnold networks on real problems.

Everything public is importable from here; a name is imported when it is first used, so that ``import cvkan`` costs
nothing and commands that need no torch never load it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("cvkan")
except PackageNotFoundError:  # a bare source tree on the path
    __version__ = "0+unknown"

_EXPORTS = {
    "cvkan.core.aggregation": (
        "AgreementAggregation",
        "LocalAggregation",
        "MagnitudeAggregation",
        "MeanAggregation",
        "SumAggregation",
    ),
    "cvkan.core.backbone": ("LayerTrace", "PolarBackbone"),
    "cvkan.models.embedding": ("ConvStem", "IdentityEmbedding", "PatchEmbedding"),
    "cvkan.core.linear": ("ComplexLinear",),
    "cvkan.core.norm": ("NoNorm", "PreRMSNorm", "SampleRMSNorm"),
    "cvkan.core.polar": ("as_complex", "as_planes", "polar_coordinates"),
    "cvkan.core.polarizing": ("Gate", "PolarAct", "PolarBlock"),
    "cvkan.core.pooling": ("AttentionPooling", "MagnitudePooling", "MeanPooling", "NoPooling", "Readout"),
    "cvkan.core.univariate": ("Harmonic", "PolynomialPsi", "RBFPsi"),
    "cvkan.domains.audio.embedding": ("STFTEmbedding",),
    "cvkan.domains.datamodule": ("DataModule", "TensorSplit"),
    "cvkan.errors": ("DataUnavailableError", "DivergedError", "UserError"),
    "cvkan.models.cvkan": ("CVKAN",),
    "cvkan.spec": ("Batch", "Spec"),
    "cvkan.tasks.base": ("Task",),
    "cvkan.tasks.classification": ("ClassificationTask",),
    "cvkan.tasks.token_selection": ("TokenSelectionTask",),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'cvkan' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
