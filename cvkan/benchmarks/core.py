"""``suite=core``: what a polarizing block costs, forward and backward.

Legend: B batch, N tokens, D complex channels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import torch
from torch import nn

from cvkan.benchmarks.complex_reference import ComplexPolarBlock
from cvkan.benchmarks.memory import peak_bytes
from cvkan.benchmarks.rows import Row, compared
from cvkan.benchmarks.suite import Suite
from cvkan.benchmarks.timing import interleaved, one_thread

OWN = "cvkan"
COMPLEX = "same equations, torch complex64"
EQUAL = "transformer layer, width D, same parameters"
LINEAR = "the linear maps of the block alone"
MODES = ("eager", "compiled")
Step = Callable[[], None]


class CoreSuite(Suite):
    """The block against the same equations in complex64, a transformer layer, its own linear maps, and longer inputs.

    On one CPU thread, training mode without dropout, tokens on a line. A step is a forward pass, the sum of squares
    of the output as the loss, and the gradients of the input and of all parameters. Of each candidate the faster of
    eager and compiled counts. There is no complex bfloat16, so under autocast the complex twin stays complex64.

    Args:
        budget: see :class:`Suite`.
        budgets: for each budget ``shapes``, a list of [B, N, D]; ``compiled``, whether to compile too; ``line``,
            a mapping with ``d_complex``, the list ``n_tokens`` and ``tokens``, the tokens B N of every batch;
            ``repetitions``; ``min_seconds`` of one measurement.
        block: constructor of the block.
        n_heads: heads of the block and of the transformer layers.
        seed: seeds weights and inputs.
    """

    def __init__(
        self,
        budget: str,
        budgets: Mapping[str, Mapping[str, Any]],
        block: Callable[..., nn.Module],
        n_heads: int,
        seed: int,
    ) -> None:
        super().__init__(budget, budgets)
        self.block, self.n_heads, self.seed = block, n_heads, seed

    def run(self) -> Iterator[Row]:
        """Rows of all shapes, then of all token counts."""
        with one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            for n_batch, n_tokens, d_complex in self.settings["shapes"]:
                for half in (False, True):
                    yield from self.against_others(n_batch, n_tokens, d_complex, half)
            yield from self.against_length(**self.settings["line"])

    def against_others(self, n_batch: int, n_tokens: int, d_complex: int, half: bool) -> Iterator[Row]:
        """One shape and precision: time and peak memory of a step against the others, and what bounds it."""
        block = self.make_block(n_tokens, d_complex)
        z = torch.randn(n_batch, n_tokens, d_complex, dtype=torch.complex64)
        planes = z.real.contiguous(), z.imag.contiguous()
        networks: dict[str, tuple[nn.Module, Any]] = {
            OWN: (block, planes),
            COMPLEX: (ComplexPolarBlock(block), z),
            EQUAL: (transformer_layer(d_complex, self.n_heads, n_parameters=count(block)), planes[0]),
            LINEAR: (LinearMaps(block), planes),
        }
        modes = MODES if self.settings["compiled"] else MODES[:1]
        steps = {(name, mode): make_step(*networks[name], mode, half) for name in networks for mode in modes}
        seconds = self.measure(steps)
        case = f"polar block B={n_batch} N={n_tokens} D={d_complex} {'bf16' if half else 'fp32'}"
        best = {name: min(((name, mode) for mode in modes), key=lambda key: median(seconds[key])) for name in networks}
        if len(modes) > 1:
            yield compared(case, "eager", seconds[OWN, "eager"], "ms", COMPLEX, seconds[COMPLEX, "eager"], scale=1e3)
        for other in (COMPLEX, EQUAL, LINEAR):
            against = other if len(modes) == 1 else f"{other} ({best[other][1]})"
            yield compared(case, best[OWN][1], seconds[best[OWN]], "ms", against, seconds[best[other]], scale=1e3)
        peak = {name: peak_bytes(steps[best[name]]) for name in (OWN, COMPLEX, EQUAL)}
        for other in (COMPLEX, EQUAL):
            own_peak, other_peak = peak[OWN], peak[other]
            if own_peak and other_peak:
                yield compared(case, "peak_memory", [own_peak], "MiB", other, [other_peak], scale=2**-20)

    def against_length(self, d_complex: int, n_tokens: Sequence[int], tokens: int) -> Iterator[Row]:
        """Batches of equally many tokens in fewer and longer samples: step time a token, against the shortest."""
        steps = {}
        for n in n_tokens:
            block = self.make_block(n, d_complex)
            planes = torch.randn(tokens // n, n, d_complex), torch.randn(tokens // n, n, d_complex)
            steps[str(n)] = make_step(block, planes, "eager", half=False)
        seconds = self.measure(steps)
        shortest, longest = str(n_tokens[0]), str(n_tokens[-1])
        for longer in list(steps)[1:]:
            yield compared(
                f"polar block N={longer} D={d_complex}",
                "eager_a_token",
                seconds[longer],
                "us",
                f"N={shortest}",
                seconds[shortest],
                scale=1e6 / tokens,
            )
        rounds = list(zip(*seconds.values(), strict=True))
        slowest, fastest = [max(one) for one in rounds], [min(one) for one in rounds]
        spread = [slow / fast for slow, fast in zip(slowest, fastest, strict=True)]
        case = f"polar block N={shortest}..{longest} D={d_complex}"
        yield compared(case, "time_a_token_max_over_min", spread, "1", "constant time a token", [1.0] * len(spread))

    def measure(self, steps: Mapping[Any, Step]) -> dict[Any, list[float]]:
        """CPU seconds of each step in each repetition."""
        return interleaved(steps, self.settings["repetitions"], self.settings["min_seconds"])

    def make_block(self, n_tokens: int, d_complex: int) -> Any:
        """The block as a model of four layers or fewer has it, in training mode."""
        return self.block(d_complex=d_complex, n_layers=1, n_heads=self.n_heads, grid=(n_tokens,)).train()


class LinearMaps(nn.Module):
    """The linear maps of a block one after the other: no faster step than theirs is possible without changing them."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            block.value, block.interaction_out, block.mixing.linear_in, block.mixing.linear_out
        )  # shares the weights, which are only read

    def forward(self, z: tuple[torch.Tensor, torch.Tensor]) -> Any:
        return self.maps(z)


def make_step(module: nn.Module, x: Any, mode: str, half: bool) -> Step:
    """Forward and backward of a module of one tensor, real or complex, or of two planes."""
    module = copy.deepcopy(module)
    if mode == "compiled":
        module.compile()

    def step() -> None:
        leaves = [part.detach().requires_grad_() for part in (x if isinstance(x, tuple) else (x,))]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            out = module(tuple(leaves) if isinstance(x, tuple) else leaves[0])
        parts = out if isinstance(out, tuple) else (torch.view_as_real(out) if out.is_complex() else out,)
        loss = torch.stack([part.float().square().sum() for part in parts]).sum()
        torch.autograd.grad(loss, [*leaves, *module.parameters()])

    return step


def transformer_layer(d_model: int, n_heads: int, n_parameters: int) -> nn.Module:
    """Torch's encoder layer (scaled-dot-product attention) with the feed-forward width that gives n_parameters."""

    def layer(d_feedforward: int) -> nn.Module:
        return nn.TransformerEncoderLayer(d_model, n_heads, d_feedforward, dropout=0.0, batch_first=True).train()

    # One hidden unit costs 2 d_model + 1 parameters; what a layer without any has is fixed.
    fixed = count(layer(1)) - (2 * d_model + 1)
    return layer(max(1, round((n_parameters - fixed) / (2 * d_model + 1))))


def count(module: nn.Module) -> int:
    """Parameters, in real numbers."""
    return sum(parameter.numel() * (2 if parameter.is_complex() else 1) for parameter in module.parameters())
