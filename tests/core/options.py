"""Whole networks from options drawn at random, for the tests of mixed precision and of the compiler."""

from __future__ import annotations

from functools import partial

import torch
from cases import AGGREGATIONS, N_TOKENS, D
from hypothesis import strategies as st
from torch import Tensor, nn

from cvkan.core.backbone import PolarBackbone
from cvkan.core.centering import NoCentering, SampleCentering, TokenCentering
from cvkan.core.classic import ClassicBlock, MLPPsi, SharedPsi
from cvkan.core.heads import EmergentHeads, FactoredHeads, OffsetHeads
from cvkan.core.linear import FreeLinear, RealLinear
from cvkan.core.norm import ComplexBatchNorm, NoNorm, PreRMSNorm, SampleRMSNorm, StreamLogLayerNorm, StreamRMSNorm
from cvkan.core.polar import Planes
from cvkan.core.polarizing import EdgeMixing, PolarBlock
from cvkan.core.pooling import AttentionPooling, MagnitudePooling, MaxPooling, MeanPooling, Readout
from cvkan.core.univariate import PolynomialPsi, RBFPsi

BLOCKS = {
    "polar": partial(PolarBlock, psi=PolynomialPsi),
    "polar free": partial(PolarBlock, linear=FreeLinear),
    "polar rbf": partial(PolarBlock, psi=RBFPsi),
    "polar_edge": partial(PolarBlock, mixing=partial(EdgeMixing, n_harmonics=2)),
    "classic mlp": partial(ClassicBlock, psi=MLPPsi),
    "classic shared": partial(ClassicBlock, psi=SharedPsi),
    "classic original": partial(ClassicBlock, psi=MLPPsi, scale_free=False),
}
HEADS = (EmergentHeads, OffsetHeads, FactoredHeads)
NORMS = (NoNorm, PreRMSNorm, StreamRMSNorm, StreamLogLayerNorm, ComplexBatchNorm)
CENTERINGS = (NoCentering, TokenCentering, SampleCentering)
POOLINGS = (MeanPooling, MagnitudePooling, AttentionPooling, MaxPooling)
N_CLASSES = 3


class Network(nn.Module):
    """What stands between tokens and logits in a model, in float32 but for what autocast narrows."""

    def __init__(self, n_layers: int, block: partial, pooling: type, readout: str) -> None:
        super().__init__()
        self.backbone = PolarBackbone(D, n_layers, 2, (N_TOKENS,), block)
        self.scale = SampleRMSNorm(causal=self.backbone.causal)
        self.readout, self.pooling = Readout(readout), pooling(D, 2)
        self.head = RealLinear(self.readout.n_features(D), N_CLASSES)

    def forward(self, z: Planes, mask: Tensor | None = None) -> Tensor:
        z = self.scale(self.backbone(z, mask), mask)
        return self.head(self.pooling(z, self.readout(z), mask))


@st.composite
def networks(draw: st.DrawFn, depths: tuple[int, ...] = (1, 2), poolings: tuple[type, ...] = POOLINGS) -> Network:
    """Any block with any of its options, its parameters a little off their start."""
    block = BLOCKS[draw(st.sampled_from(sorted(BLOCKS)))]
    aggregation = AGGREGATIONS[draw(st.sampled_from(sorted(AGGREGATIONS)))]
    causal = aggregation(d_complex=D, n_heads=2, grid=(N_TOKENS,)).causal
    norms = [norm for norm in NORMS if norm.causal or not causal]
    options = {
        "aggregations": {"only": aggregation},
        "per_token": draw(st.booleans()),
        "heads": draw(st.sampled_from(HEADS)),
        "norm": draw(st.sampled_from(norms)),
        "centering": draw(st.sampled_from(CENTERINGS)),
    }
    torch.manual_seed(draw(st.integers(0, 9)))
    readout = draw(st.sampled_from(("all", "cart", "mag")))
    pooling = draw(st.sampled_from(poolings))
    network = Network(draw(st.sampled_from(depths)), partial(block, **options), pooling, readout)
    noise = draw(st.sampled_from((0.0, 0.2)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += noise * torch.randn_like(parameter)
    return network
