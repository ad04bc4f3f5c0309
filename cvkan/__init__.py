"""cvkan: train complex-valued polarizing Kolmogorov-Arnold networks on real problems.

Everything public is importable from here; a name is imported when it is first used, so that ``import cvkan`` costs
nothing and commands that need no torch never load it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

# What a type checker sees of the names that _EXPORTS imports late; a test compares the two.
if TYPE_CHECKING:
    from cvkan import radio as radio
    from cvkan.analysis.polarization import Polarization as Polarization
    from cvkan.analysis.polarization import Traceable as Traceable
    from cvkan.analysis.polarization import polarization as polarization
    from cvkan.api import poetry_autoencoder as poetry_autoencoder
    from cvkan.core.aggregation import Aggregation as Aggregation
    from cvkan.core.aggregation import AgreementAggregation as AgreementAggregation
    from cvkan.core.aggregation import MagnitudeAggregation as MagnitudeAggregation
    from cvkan.core.aggregation import MagnitudeWeightedAggregation as MagnitudeWeightedAggregation
    from cvkan.core.aggregation import MeanAggregation as MeanAggregation
    from cvkan.core.aggregation import SumAggregation as SumAggregation
    from cvkan.core.backbone import Block as Block
    from cvkan.core.backbone import LayerTrace as LayerTrace
    from cvkan.core.backbone import PolarBackbone as PolarBackbone
    from cvkan.core.centering import Centering as Centering
    from cvkan.core.centering import NoCentering as NoCentering
    from cvkan.core.centering import SampleCentering as SampleCentering
    from cvkan.core.centering import TokenCentering as TokenCentering
    from cvkan.core.classic import ClassicBlock as ClassicBlock
    from cvkan.core.classic import MLPPsi as MLPPsi
    from cvkan.core.classic import SharedPsi as SharedPsi
    from cvkan.core.edge import Edge as Edge
    from cvkan.core.edge import PolarKANLinear as PolarKANLinear
    from cvkan.core.heads import EmergentHeads as EmergentHeads
    from cvkan.core.heads import FactoredHeads as FactoredHeads
    from cvkan.core.heads import Heads as Heads
    from cvkan.core.heads import OffsetHeads as OffsetHeads
    from cvkan.core.linear import ComplexLinear as ComplexLinear
    from cvkan.core.linear import FreeLinear as FreeLinear
    from cvkan.core.local import CausalFilterAggregation as CausalFilterAggregation
    from cvkan.core.local import CausalMeanAggregation as CausalMeanAggregation
    from cvkan.core.local import HierarchicalAggregation as HierarchicalAggregation
    from cvkan.core.local import LocalAggregation as LocalAggregation
    from cvkan.core.local import LocalBoxAggregation as LocalBoxAggregation
    from cvkan.core.norm import ComplexBatchNorm as ComplexBatchNorm
    from cvkan.core.norm import NoNorm as NoNorm
    from cvkan.core.norm import Norm as Norm
    from cvkan.core.norm import PreRMSNorm as PreRMSNorm
    from cvkan.core.norm import SampleRMSNorm as SampleRMSNorm
    from cvkan.core.norm import StreamLogLayerNorm as StreamLogLayerNorm
    from cvkan.core.norm import StreamRMSNorm as StreamRMSNorm
    from cvkan.core.phase_attention import PhaseAttentionAggregation as PhaseAttentionAggregation
    from cvkan.core.polar import as_complex as as_complex
    from cvkan.core.polar import as_planes as as_planes
    from cvkan.core.polar import polar_coordinates as polar_coordinates
    from cvkan.core.polarizing import ChannelMixing as ChannelMixing
    from cvkan.core.polarizing import EdgeMixing as EdgeMixing
    from cvkan.core.polarizing import Gate as Gate
    from cvkan.core.polarizing import PolarAct as PolarAct
    from cvkan.core.polarizing import PolarBlock as PolarBlock
    from cvkan.core.pooling import AttentionPooling as AttentionPooling
    from cvkan.core.pooling import MagnitudePooling as MagnitudePooling
    from cvkan.core.pooling import MaxPooling as MaxPooling
    from cvkan.core.pooling import MeanPooling as MeanPooling
    from cvkan.core.pooling import NoPooling as NoPooling
    from cvkan.core.pooling import Pooling as Pooling
    from cvkan.core.pooling import Readout as Readout
    from cvkan.core.position import LearnedPolarPosition as LearnedPolarPosition
    from cvkan.core.position import LearnedPosition as LearnedPosition
    from cvkan.core.position import NoPosition as NoPosition
    from cvkan.core.position import Position as Position
    from cvkan.core.position import Rotary2DPosition as Rotary2DPosition
    from cvkan.core.position import RotaryPosition as RotaryPosition
    from cvkan.core.regularizers import AnchorRegularizer as AnchorRegularizer
    from cvkan.core.regularizers import CoherenceRegularizer as CoherenceRegularizer
    from cvkan.core.regularizers import DiversityRegularizer as DiversityRegularizer
    from cvkan.core.regularizers import Regularizer as Regularizer
    from cvkan.core.regularizers import SparsityRegularizer as SparsityRegularizer
    from cvkan.core.univariate import Harmonic as Harmonic
    from cvkan.core.univariate import PolynomialPsi as PolynomialPsi
    from cvkan.core.univariate import Psi as Psi
    from cvkan.core.univariate import RBFPsi as RBFPsi
    from cvkan.domains.audio.embedding import STFTEmbedding as STFTEmbedding
    from cvkan.domains.datamodule import DataModule as DataModule
    from cvkan.domains.datamodule import Loading as Loading
    from cvkan.domains.datamodule import TensorSplit as TensorSplit
    from cvkan.errors import DataUnavailableError as DataUnavailableError
    from cvkan.errors import DivergedError as DivergedError
    from cvkan.errors import UserError as UserError
    from cvkan.models.cvkan import CVKAN as CVKAN
    from cvkan.models.embedding import ConvStem as ConvStem
    from cvkan.models.embedding import Embedding as Embedding
    from cvkan.models.embedding import IdentityEmbedding as IdentityEmbedding
    from cvkan.models.embedding import LinearEmbedding as LinearEmbedding
    from cvkan.models.embedding import PatchEmbedding as PatchEmbedding
    from cvkan.models.embedding import RFFTPatchEmbedding as RFFTPatchEmbedding
    from cvkan.models.embedding import TokenEmbedding as TokenEmbedding
    from cvkan.poetry_api.model import PoetryAutoencoder as PoetryAutoencoder
    from cvkan.spec import Batch as Batch
    from cvkan.spec import Spec as Spec
    from cvkan.tasks.base import Task as Task
    from cvkan.tasks.classification import ClassificationTask as ClassificationTask
    from cvkan.tasks.token_selection import TokenSelectionTask as TokenSelectionTask

try:
    __version__ = version("cvkan")
except PackageNotFoundError:  # a bare source tree on the path
    __version__ = "0+unknown"

_EXPORTS = {
    "cvkan.analysis.polarization": ("Polarization", "Traceable", "polarization"),
    "cvkan.api": ("poetry_autoencoder",),
    "cvkan.core.aggregation": (
        "Aggregation",
        "AgreementAggregation",
        "MagnitudeAggregation",
        "MagnitudeWeightedAggregation",
        "MeanAggregation",
        "SumAggregation",
    ),
    "cvkan.core.backbone": ("Block", "LayerTrace", "PolarBackbone"),
    "cvkan.core.centering": ("Centering", "NoCentering", "SampleCentering", "TokenCentering"),
    "cvkan.core.classic": ("ClassicBlock", "MLPPsi", "SharedPsi"),
    "cvkan.core.edge": ("Edge", "PolarKANLinear"),
    "cvkan.core.heads": ("EmergentHeads", "FactoredHeads", "Heads", "OffsetHeads"),
    "cvkan.core.linear": ("ComplexLinear", "FreeLinear"),
    "cvkan.core.local": (
        "CausalFilterAggregation",
        "CausalMeanAggregation",
        "HierarchicalAggregation",
        "LocalAggregation",
        "LocalBoxAggregation",
    ),
    "cvkan.core.norm": (
        "ComplexBatchNorm",
        "NoNorm",
        "Norm",
        "PreRMSNorm",
        "SampleRMSNorm",
        "StreamLogLayerNorm",
        "StreamRMSNorm",
    ),
    "cvkan.core.phase_attention": ("PhaseAttentionAggregation",),
    "cvkan.core.polar": ("as_complex", "as_planes", "polar_coordinates"),
    "cvkan.core.polarizing": ("ChannelMixing", "EdgeMixing", "Gate", "PolarAct", "PolarBlock"),
    "cvkan.core.pooling": (
        "AttentionPooling",
        "MagnitudePooling",
        "MaxPooling",
        "MeanPooling",
        "NoPooling",
        "Pooling",
        "Readout",
    ),
    "cvkan.core.position": (
        "LearnedPolarPosition",
        "LearnedPosition",
        "NoPosition",
        "Position",
        "Rotary2DPosition",
        "RotaryPosition",
    ),
    "cvkan.core.regularizers": (
        "AnchorRegularizer",
        "CoherenceRegularizer",
        "DiversityRegularizer",
        "Regularizer",
        "SparsityRegularizer",
    ),
    "cvkan.core.univariate": ("Harmonic", "PolynomialPsi", "Psi", "RBFPsi"),
    "cvkan.domains.audio.embedding": ("STFTEmbedding",),
    "cvkan.domains.datamodule": ("DataModule", "Loading", "TensorSplit"),
    "cvkan.errors": ("DataUnavailableError", "DivergedError", "UserError"),
    "cvkan.models.cvkan": ("CVKAN",),
    "cvkan.models.embedding": (
        "ConvStem",
        "Embedding",
        "IdentityEmbedding",
        "LinearEmbedding",
        "PatchEmbedding",
        "RFFTPatchEmbedding",
        "TokenEmbedding",
    ),
    "cvkan.poetry_api.model": ("PoetryAutoencoder",),
    "cvkan.spec": ("Batch", "Spec"),
    "cvkan.tasks.base": ("Task",),
    "cvkan.tasks.classification": ("ClassificationTask",),
    "cvkan.tasks.token_selection": ("TokenSelectionTask",),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}
_PACKAGES = ("radio",)

__all__ = ["__version__", *sorted((*_MODULE_OF, *_PACKAGES))]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"cvkan.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'cvkan' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
