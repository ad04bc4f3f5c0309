"""``suite=core``: what a polarizing block costs, forward and backward.

Legend: B batch, N tokens, D complex channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from cvkan.benchmarks.complex_reference import ComplexPolarBlock
from cvkan.benchmarks.rows import Row, compared
from cvkan.benchmarks.suite import Suite
from cvkan.benchmarks.timing import interleaved, one_thread

COMPLEX = "same equations, torch complex64"
WIDE = "transformer layer, width 2D, feed-forward 4D"
EQUAL = "transformer layer, width D, same parameters"


class CoreSuite(Suite):
    """The block against the same equations in complex64, against transformer layers, and against longer inputs.

    All in float32 and eager, on one CPU thread, training mode without dropout. A step is a forward pass, the sum of
    squares of the output as the loss, and the gradients of the input and of all parameters. Tokens stand on a line.

    Args:
        budget: see :class:`Suite`.
        budgets: for each budget ``shapes``, a list of [B, N, D]; ``line``, a mapping with ``d_complex``, the list
            ``n_tokens`` and ``tokens``, the tokens B N of every batch; ``repetitions``; ``min_seconds``
            of one measurement.
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
            for shape in self.settings["shapes"]:
                yield from self.against_others(*shape)
            yield from self.against_length(**self.settings["line"])

    def against_others(self, n_batch: int, n_tokens: int, d_complex: int) -> Iterator[Row]:
        """One shape: step time against the complex reference and the two transformer layers."""
        block = self.make_block(n_tokens, d_complex)
        complex_block = ComplexPolarBlock(block)
        z = torch.randn(n_batch, n_tokens, d_complex, dtype=torch.complex64)
        planes = z.real.contiguous(), z.imag.contiguous()
        layers = {
            WIDE: transformer_layer(2 * d_complex, self.n_heads, d_feedforward=4 * d_complex),
            EQUAL: transformer_layer(d_complex, self.n_heads, n_parameters=count(block)),
        }
        steps = {
            "cvkan": lambda: step_planes(block, planes),
            COMPLEX: lambda: step(complex_block, z),
            WIDE: lambda: step(layers[WIDE], torch.cat(planes, dim=-1)),
            EQUAL: lambda: step(layers[EQUAL], planes[0]),
        }
        seconds = self.measure(steps)
        case = f"polar block B={n_batch} N={n_tokens} D={d_complex}"
        for other in (COMPLEX, WIDE, EQUAL):
            yield compared(case, "forward_backward", seconds["cvkan"], "ms", other, seconds[other], scale=1e3)
        ratio = count(layers[WIDE]) / count(block)
        yield Row(case, "parameters", count(block), "1", WIDE, ratio, ratio, ratio)

    def against_length(self, d_complex: int, n_tokens: Sequence[int], tokens: int) -> Iterator[Row]:
        """Batches of equally many tokens in fewer and longer samples: step time a token, against the shortest."""
        steps = {}
        for n in n_tokens:
            block = self.make_block(n, d_complex)
            planes = torch.randn(tokens // n, n, d_complex), torch.randn(tokens // n, n, d_complex)
            steps[str(n)] = lambda block=block, planes=planes: step_planes(block, planes)
        seconds = self.measure(steps)
        shortest, longest = str(n_tokens[0]), str(n_tokens[-1])
        for longer in list(steps)[1:]:
            yield compared(
                f"polar block N={longer} D={d_complex}",
                "forward_backward_a_token",
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

    def measure(self, steps: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
        """CPU seconds of each step in each repetition."""
        return interleaved(steps, self.settings["repetitions"], self.settings["min_seconds"])

    def make_block(self, n_tokens: int, d_complex: int) -> Any:
        """The block as a model of four layers or fewer has it, in training mode."""
        return self.block(d_complex=d_complex, n_layers=1, n_heads=self.n_heads, grid=(n_tokens,)).train()


def transformer_layer(
    d_model: int, n_heads: int, d_feedforward: int | None = None, n_parameters: int | None = None
) -> nn.Module:
    """Torch's encoder layer (scaled-dot-product attention), with a given feed-forward width or number of parameters."""
    if d_feedforward is None:
        assert n_parameters is not None
        # One hidden unit costs 2 d_model + 1 parameters; what a layer without any has is fixed.
        fixed = count(transformer_layer(d_model, n_heads, d_feedforward=1)) - (2 * d_model + 1)
        d_feedforward = max(1, round((n_parameters - fixed) / (2 * d_model + 1)))
    return nn.TransformerEncoderLayer(d_model, n_heads, d_feedforward, dropout=0.0, batch_first=True).train()


def step(module: nn.Module, x: torch.Tensor) -> None:
    """Forward and backward of a module of one tensor, real or complex."""
    x = x.detach().requires_grad_()
    y = module(x)
    loss = torch.view_as_real(y).square().sum() if y.is_complex() else y.square().sum()
    torch.autograd.grad(loss, [x, *module.parameters()])


def step_planes(module: nn.Module, planes: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Forward and backward of a module of two planes."""
    re, im = (plane.detach().requires_grad_() for plane in planes)
    out_re, out_im = module((re, im))
    loss = out_re.square().sum() + out_im.square().sum()
    torch.autograd.grad(loss, [re, im, *module.parameters()])


def count(module: nn.Module) -> int:
    """Parameters, in real numbers."""
    return sum(parameter.numel() * (2 if parameter.is_complex() else 1) for parameter in module.parameters())
