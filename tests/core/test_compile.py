"""torch.compile: one graph a block, for batches of any size, with the values and gradients of eager mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from cases import AGGREGATIONS, CAUSAL, D, gaussian, perturbed, planes_of, ragged_mask
from options import BLOCKS, CENTERINGS, HEADS, NORMS, POOLINGS
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from cvkan.core.backbone import Block, PolarBackbone
from cvkan.core.centering import TokenCentering
from cvkan.core.heads import OffsetHeads
from cvkan.core.linear import ComplexLinear
from cvkan.core.norm import NoNorm, PreRMSNorm, SampleRMSNorm, StreamLogLayerNorm, StreamRMSNorm
from cvkan.core.polarizing import ChannelMixing, EdgeMixing, PolarAct, PolarBlock
from cvkan.core.pooling import Pooling, Readout
from cvkan.core.univariate import PolynomialPsi

SHAPES = [(3, 6), (2, 7), (5, 11)]  # batch, tokens

DEFAULTS = {"block": "polar", "aggregation": "agreement", "norm": PreRMSNorm}
OPEN = [name for name in AGGREGATIONS if name not in CAUSAL]  # a norm over all tokens would tell of later ones
# Every option at least once, and each block with a context for all tokens or with one a token. A case takes seconds to
# trace, so options that do not know of each other share one.
CASES: list[dict[str, object]] = [
    *(
        {"aggregation": name, "norm": NORMS[i % len(NORMS)], "heads": HEADS[i % len(HEADS)]}
        for i, name in enumerate(OPEN)
    ),
    *({"aggregation": name} for name in CAUSAL),
    *({"block": name, "aggregation": "magnitude"} for name in BLOCKS if name != "polar"),
    *({"block": name, "aggregation": "local"} for name in ("polar_edge", "classic mlp")),
    *({"block": block, "aggregation": "mean", "per_token": False} for block in ("polar", "classic mlp")),
    *({"block": block, "aggregation": "local", "per_token": False} for block in ("polar", "classic mlp")),
    *({"block": "classic shared", "heads": kind} for kind in HEADS[1:]),
    *({"centering": kind, "aggregation": agg} for kind, agg in zip(CENTERINGS[1:], ("mean", "causal"), strict=True)),
]

QUICK = (1, 4)  # a block takes some seconds to trace


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def make(case: dict[str, object]) -> Block:
    options = {**DEFAULTS, **case}
    block, aggregation = BLOCKS[str(options.pop("block"))], AGGREGATIONS[str(options.pop("aggregation"))]
    made = block(d_complex=D, n_layers=1, n_heads=2, grid=(6,), aggregations={"only": aggregation}, **options)
    return perturbed(made, std=0.1)  # in float64, so that the comparison is sharp


def run(function: Callable[..., object], module: nn.Module, shape: tuple[int, int], masking: bool) -> list[Tensor]:
    """Outputs and gradients of a module on planes (B, N, D)."""
    z = tuple(plane.requires_grad_() for plane in planes_of(gaussian(*shape, D, seed=sum(shape))))
    out = function(z, ragged_mask(*shape) if masking else None)
    outputs = list(out) if isinstance(out, tuple) else [out]
    module.zero_grad()
    sum((x * x).sum() for x in outputs).backward()
    return [*outputs, *(p.grad for p in (*z, *module.parameters()) if p.grad is not None)]


def assert_one_graph(module: nn.Module, masking: bool = True, backend: str = "eager") -> None:
    """The same values and gradients as in eager mode, without a compilation after that for the first shape."""
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=counter)
    n_compiled = 0
    for shape in SHAPES:
        state = {name: value.clone() for name, value in module.state_dict().items()}
        exact = run(module, module, shape, masking)
        module.load_state_dict(state)  # running averages of a norm count a batch once
        found = run(compiled, module, shape, masking)
        for got, expected in zip(found, exact, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
        n_compiled = n_compiled or counter.frame_count
    assert counter.frame_count == n_compiled > 0


def name_of(case: dict[str, object]) -> str:
    return "-".join(getattr(value, "__name__", str(value)) for value in case.values())


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[] if i in QUICK else pytest.mark.slow) for i, case in enumerate(CASES)],
    ids=name_of,
)
def test_block_is_one_graph_for_batches_of_any_size(case: dict[str, object]) -> None:
    assert_one_graph(make(case))


@pytest.mark.slow
@pytest.mark.parametrize("block", ["polar", "polar_edge", "classic mlp"])
def test_backward_pass_of_a_block_is_compiled_too(block: str) -> None:
    assert_one_graph(make({"block": block, "aggregation": "agreement+local"}), backend="aot_eager")


class Ending(nn.Module):
    """What follows the stack: scale, readout, pooling."""

    def __init__(self, pooling: Callable[..., Pooling]) -> None:
        super().__init__()
        self.scale, self.readout, self.pooling = SampleRMSNorm(), Readout("all"), pooling(D, 2)

    def forward(self, z: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        z = self.scale(z, mask)
        return self.pooling(z, self.readout(z), mask)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", POOLINGS)
def test_end_of_the_stack_is_one_graph_for_batches_of_any_size(pooling: Callable[..., Pooling]) -> None:
    assert_one_graph(perturbed(Ending(pooling)))


@pytest.mark.slow
def test_stack_is_one_graph_without_a_mask() -> None:
    block = partial(PolarBlock, psi=PolynomialPsi, aggregations={"a": AGGREGATIONS["agreement+local"]})
    assert_one_graph(perturbed(PolarBackbone(D, 3, 2, (6,), block), std=0.1), masking=False)


@pytest.mark.slow
def test_one_sample_and_one_token_have_the_values_of_eager_mode() -> None:
    module = make({})
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="eager")
    for shape in ((1, 6), (3, 1), (1, 1)):
        for got, expected in zip(run(compiled, module, shape, False), run(module, module, shape, False), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "half"),
    [
        ("polar", torch.bfloat16),
        ("polar", torch.float16),
        ("polar_edge", torch.bfloat16),
        ("classic mlp", torch.float16),
    ],
)
def test_block_is_one_graph_under_autocast(block: str, half: torch.dtype) -> None:
    module = make({"block": block, "aggregation": "phase_attention"}).float()
    counter = CompileCounterWithBackend("eager")
    # With dynamic=True torch 2.11 fails on two autograd functions in a row whose sizes are all unknown, as float16 has
    # them; marking what does vary is enough.
    compiled = torch.compile(module, fullgraph=True, backend=counter)
    for shape in SHAPES:
        z = tuple(plane.float() for plane in planes_of(gaussian(*shape, D)))
        mask = ragged_mask(*shape)
        for tensor in (*z, mask):
            torch._dynamo.mark_dynamic(tensor, [0, 1])
        with torch.autocast("cpu", dtype=half):
            results = [function(z, mask) for function in (compiled, module)]
        torch.testing.assert_close(*results, rtol=2e-2, atol=2e-2)
    assert counter.frame_count == 1


def test_layers_compiled_apart_share_one_graph() -> None:
    counter = CompileCounterWithBackend("eager")
    for _ in range(12):
        layer = torch.compile(make({}), fullgraph=True, dynamic=True, backend=counter)
        layer(planes_of(gaussian(3, 6, D)))
    assert counter.frame_count == 1


@pytest.mark.slow
def test_many_kinds_of_modules_can_be_compiled_apart() -> None:
    kinds = [
        *(ComplexLinear(D, D), PolarAct(D), ChannelMixing(D), EdgeMixing(D), NoNorm(D), PreRMSNorm(D)),
        *(StreamRMSNorm(D), StreamLogLayerNorm(D), TokenCentering(), make({}), make({"heads": OffsetHeads})),
    ]
    assert len(kinds) > torch._dynamo.config.recompile_limit
    for module in kinds:
        compiled = torch.compile(module.double(), fullgraph=True, dynamic=True, backend="eager")
        z = planes_of(gaussian(3, 6, D))
        torch.testing.assert_close(compiled(z), module(z))
