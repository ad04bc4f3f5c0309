"""Random inputs, non-trivial parameters, and the comparison with the reference, for all tests of the core."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

from cvkan.core import aggregation as agg
from cvkan.core.aggregation import Aggregation
from cvkan.core.local import (
    CausalFilterAggregation,
    CausalMeanAggregation,
    HierarchicalAggregation,
    LocalAggregation,
    LocalBoxAggregation,
)
from cvkan.core.norm import PreRMSNorm
from cvkan.core.phase_attention import PhaseAttentionAggregation
from cvkan.core.polarizing import PolarBlock
from cvkan.core.univariate import PolynomialPsi

Planes = tuple[Tensor, Tensor]

N_TOKENS, D = 6, 4
GRID_2D = (2, 3)


def sum_of(*parts: Callable[..., Aggregation]) -> Callable[..., Aggregation]:
    return partial(agg.SumAggregation, parts=parts)


local = partial(LocalAggregation, kernel_size=3)
# One context for all tokens.
GLOBAL: dict[str, Callable[..., Aggregation]] = {
    "mean": agg.MeanAggregation,
    "magnitude": agg.MagnitudeAggregation,
    "magnitude_weighted": agg.MagnitudeWeightedAggregation,
    "agreement": agg.AgreementAggregation,
}
# No token hears of a later one.
CAUSAL: dict[str, Callable[..., Aggregation]] = {
    "causal": CausalMeanAggregation,
    "causal_filter": partial(CausalFilterAggregation, kernel_size=3),
    "causal+causal_filter": sum_of(CausalMeanAggregation, partial(CausalFilterAggregation, kernel_size=2)),
    "phase_attention_causal": partial(PhaseAttentionAggregation, is_causal=True),
}
AGGREGATIONS: dict[str, Callable[..., Aggregation]] = {
    **GLOBAL,
    **CAUSAL,
    "local": local,
    "local_box": partial(LocalBoxAggregation, kernel_size=3),
    "phase_attention": PhaseAttentionAggregation,
    "hierarchical": partial(HierarchicalAggregation, group_sizes=[2, 2]),
    "agreement+local": sum_of(agg.AgreementAggregation, local),
}


def gaussian(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Complex128 numbers of mean squared magnitude ``scale``^2."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, dtype=torch.complex128, generator=generator)


def ragged_mask(n_batch: int = 3, n_tokens: int = N_TOKENS) -> Tensor:
    """All valid, a hole in the middle, and a single valid token; (B, N) bool."""
    mask = torch.ones(n_batch, n_tokens, dtype=torch.bool)
    mask[1, [1, n_tokens - 1]] = False
    mask[2:, 1:] = False
    return mask


def perturbed(module: nn.Module, seed: int = 1, std: float = 0.3) -> nn.Module:
    """The module in float64 with noise on every parameter: initial zeros would hide errors."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += std * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return module


def make_block(aggregation: str | Callable[..., Aggregation] = "agreement", **options: object) -> PolarBlock:
    """A small block; ``options`` go to :class:`PolarBlock`."""
    constructor = AGGREGATIONS[aggregation] if isinstance(aggregation, str) else aggregation
    sizes = {"d_complex": D, "n_layers": 1, "n_heads": 2, "grid": (N_TOKENS,), "norm": PreRMSNorm, "psi": PolynomialPsi}
    return PolarBlock(**{**sizes, "aggregations": {"only": constructor}, **options})


def planes_of(z: Tensor) -> Planes:
    """Contiguous real and imaginary part of a complex tensor."""
    return z.real.clone(), z.imag.clone()


def gradients(
    outputs: Iterable[Tensor], leaves: list[Tensor], cotangents: Iterable[Tensor], unused: bool = False
) -> list[Tensor]:
    """Gradient of sum <cotangent, output> by the leaves."""
    total = sum((cotangent.conj() * output).real.sum() for cotangent, output in zip(cotangents, outputs, strict=True))
    found = torch.autograd.grad(total, leaves, allow_unused=unused)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]


def assert_same(
    ours: Callable[[Planes], Tensor | Planes],
    theirs: Callable[[Tensor], Tensor],
    z: Tensor,
    module: nn.Module,
    where: Tensor | None = None,
    inert: tuple[str, ...] = (),
) -> None:
    """Values to 1e-10 and all gradients to 1e-9, of input and parameters.

    Args:
        ours: planes (B, N, D) to planes or to one real tensor.
        theirs: the same on complex z (B, N, D).
        z: input.
        module: its parameters are leaves of both.
        where: compare these outputs only; broadcast to the output.
        inert: parameters that by their nature have no influence; any other without gradient is an error.
    """
    parameters = list(module.parameters())
    leaf = z.clone().requires_grad_()
    expected = theirs(leaf)
    planes = tuple(plane.requires_grad_() for plane in planes_of(z))
    result = ours(planes)  # type: ignore[arg-type]
    actual = torch.complex(*result) if isinstance(result, tuple) else result
    cotangent = torch.randn(expected.shape, dtype=expected.dtype, generator=torch.Generator().manual_seed(9))
    if where is not None:
        actual = torch.where(where, actual, 0)
        expected = torch.where(where, expected, 0)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    re, im, *own = gradients([actual], [*planes, *parameters], [cotangent], unused=True)
    by_z, *reference = gradients([expected], [leaf, *parameters], [cotangent], unused=True)
    torch.testing.assert_close(torch.complex(re, im), by_z, rtol=1e-9, atol=1e-9)
    names = [name for name, _ in module.named_parameters()]
    for name, mine, other in zip(names, own, reference, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
        assert name in inert or mine.abs().max() > 0, f"{name} has no influence"
