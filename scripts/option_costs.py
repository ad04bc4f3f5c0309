"""What every option of the core costs in the place of the default: parameters, time and memory of a training step.

    OMP_NUM_THREADS=1 python scripts/option_costs.py [--shape 16 256 64] [--only aggregation heads=factored ...]

A step is forward and backward of one block on B samples of N tokens and D channels, on one thread, in float32, without
compiler. The two blocks take turns, and only the ratio of neighbours counts, of process CPU time: median, least and
greatest. Memory is what the forward pass keeps for the backward pass. Positions, poolings and regularizers stand
outside the blocks: theirs is the share of the default block's step that they take alone. The tables of docs/core.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from cvkan.benchmarks.timing import interleaved, one_thread
from cvkan.cli import resolvers
from cvkan.core.pooling import Pooling

CONF = Path(__file__).resolve().parents[1] / "conf"
IN_BLOCK = ("linear", "block", "aggregation", "interaction", "heads", "norm", "centering")
BESIDE = ("position", "pooling", "regularizer")
# Beyond one choice of a group: sums, sizes, and what belongs together. A layout (rows, columns) is "grid".
FURTHER = (
    "aggregation=agreement aggregation.agreement.n_passes=1",
    "aggregation=[agreement,local]",
    "aggregation=[causal,causal_filter]",
    "grid",
    "aggregation=local grid",
    "aggregation=local_box grid",
    "block.mixing.expansion=1.0",
    "block=polar_edge block.mixing.n_harmonics=2",
    "block=classic interaction=broadcast",
    "block=classic psi=shared",
    "psi=rbf",
)
Step = Callable[[], None]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs=3, type=int, default=[16, 256, 64], metavar=("B", "N", "D"))
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--min-seconds", type=float, default=0.3, help="of one measurement")
    parser.add_argument("--only", nargs="*", default=[""], help="options that start like one of these")
    typed = parser.parse_args()
    names = [name for name in options() if name.startswith(tuple(typed.only))]
    resolvers.register()
    torch.manual_seed(0)
    z = tuple(torch.randn(*typed.shape) for _ in range(2))
    print("| option | parameters | time | from - to | memory |\n| --- | --- | --- | --- | --- |")
    with one_thread(), initialize_config_module("cvkan.conf", version_base="1.3"):
        usual = make("", typed.shape, typed.heads)
        for name in ["", *names]:
            other = make(name, typed.shape, typed.heads)
            steps = {"usual": make_step(usual, z), "other": make_step(other, z)}
            seconds = interleaved(steps, typed.repetitions, typed.min_seconds)
            ratios = [mine / its for mine, its in zip(seconds["other"], seconds["usual"], strict=True)]
            spread = f"{min(ratios):.2f} - {max(ratios):.2f}"
            memory = kept(other, z) / kept(usual, z)
            line = (name or "(the default)", str(count(other)), f"{median(ratios):.2f}", spread, f"{memory:.2f}")
            print(f"| {' | '.join(line)} |", flush=True)


def options() -> list[str]:
    """Every choice of the groups that is not the default, then :data:`FURTHER`."""
    usual = [entry for entry in OmegaConf.load(CONF / "train.yaml").defaults if isinstance(entry, DictConfig)]
    defaults = {f"{group}={choice}" for entry in usual for group, choice in entry.items()}
    paths = [path for group in (*IN_BLOCK, *BESIDE) for path in sorted(CONF.glob(f"{group}/*.yaml"))]
    choices = [f"{path.parent.name}={path.stem}" for path in paths]
    return [*(choice for choice in choices if choice not in defaults or choice.startswith("pooling")), *FURTHER]


def make(option: str, shape: list[int], n_heads: int) -> nn.Module:
    """A module of planes (B, N, D): the block with this option, or what stands beside the blocks."""
    _, n_tokens, d_complex = shape
    words = option.split()
    edge = math.isqrt(n_tokens)
    grid = (edge, n_tokens // edge) if "grid" in words or "rotary2d" in option else (n_tokens,)
    cfg: DictConfig = compose("train", overrides=[word for word in words if word != "grid"])
    sizes = {"d_complex": d_complex, "n_heads": n_heads, "grid": grid}
    group, _, name = option.partition("=")
    if group == "position":
        return instantiate(cfg.position)(d_complex=d_complex, grid=grid)
    if group == "pooling":
        pooling, readout = instantiate(cfg.pooling)(d_complex=d_complex, n_heads=n_heads), instantiate(cfg.readout)
        return Pooled(pooling, readout)
    if group == "regularizer":
        return Regularized(instantiate(cfg.regularizer[name]) if name != "none" else None)
    block: partial[nn.Module] = instantiate(cfg.block)
    return block(**sizes, n_layers=1).train()


class Pooled(nn.Module):
    """Readout and pooling."""

    def __init__(self, pooling: Pooling, readout: nn.Module) -> None:
        super().__init__()
        self.pooling, self.readout = pooling, readout

    def forward(self, z: tuple[Tensor, Tensor]) -> tuple[Tensor]:
        return (self.pooling(z, self.readout(z)),)


class Regularized(nn.Module):
    """The value of a regularizer, for samples of four classes."""

    def __init__(self, regularizer: nn.Module | None) -> None:
        super().__init__()
        self.regularizer = regularizer

    def forward(self, z: tuple[Tensor, Tensor]) -> tuple[Tensor]:
        y = torch.arange(len(z[0]), device=z[0].device) % 4
        return (z[0][0, 0, :1] if self.regularizer is None else self.regularizer(z, None, y),)


def make_step(module: nn.Module, z: tuple[Tensor, ...]) -> Step:
    """Forward and backward, with the gradients of input and parameters."""

    def step() -> None:
        leaves = [plane.detach().requires_grad_() for plane in z]
        loss = torch.stack([part.square().sum() for part in module(tuple(leaves))]).sum()
        torch.autograd.grad(loss, [*leaves, *module.parameters()], allow_unused=True)

    return step


def kept(module: nn.Module, z: tuple[Tensor, ...]) -> int:
    """Bytes that a forward pass keeps for the backward pass."""
    storages: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = module(tuple(plane.detach().requires_grad_() for plane in z))
    total = sum(tensor.untyped_storage().nbytes() for tensor in storages.values())
    del out  # alive until here: a freed storage would lend its address to another
    return total


def count(module: nn.Module) -> int:
    """Parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


if __name__ == "__main__":
    main()
