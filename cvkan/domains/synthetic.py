"""Generated complex tokens: what a polarizing core should do, with the answer known.

Legend: S samples, N tokens, D complex channels, k wanted tokens of a sample.
"""

from __future__ import annotations

import hashlib
import math
from typing import Unpack

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cvkan.analysis.polarization import topk_recovery
from cvkan.core.aggregation import AgreementAggregation, MeanAggregation, agreement
from cvkan.core.polar import as_planes, polar_coordinates
from cvkan.domains.datamodule import DataModule, Loading, TensorSplit
from cvkan.errors import UserError
from cvkan.spec import Batch, Spec

CHUNK = 2000  # samples generated at a time, so that the temporaries stay small beside the result


class Sizes(Loading):
    """Arguments that both generated sources take and hand on to :class:`SyntheticTokens`.

    Attributes:
        n_tokens: tokens N of a sample.
        d_input: complex channels D of a token.
        phase_std: standard deviation in radians of the phases of a signal token.
        n_train: samples of the training part.
        n_val: samples of the validation part.
        n_test: samples of the test part.
        data_seed: seed of the generator, independent of the run's seed. A split does not change with the
            size of another.
    """

    n_tokens: int
    d_input: int
    phase_std: float
    n_train: int
    n_val: int
    n_test: int
    data_seed: int


class SyntheticTokens(DataModule):
    """Base of the generated sources: sizes, one generator a split. Tokens have magnitude 1.

    Args:
        n_tokens, d_input, phase_std, n_train, n_val, n_test, data_seed: see :class:`Sizes`.
        loading: see :class:`~cvkan.domains.datamodule.Loading`.

    Raises:
        UserError: a size is below 1 or ``phase_std`` is negative.
    """

    def __init__(
        self,
        *,
        n_tokens: int,
        d_input: int,
        phase_std: float,
        n_train: int,
        n_val: int,
        n_test: int,
        data_seed: int,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        self.sizes = {"train": n_train, "val": n_val, "test": n_test}
        named = {
            "n_tokens": n_tokens,
            "d_input": d_input,
            **{f"n_{name}": n for name, n in self.sizes.items()},
        }
        for name, value in named.items():
            if value < 1:
                raise UserError(f"{name} must be at least 1, got {value}", f"data.{name}", "Set a positive number.")
        if not phase_std >= 0:
            raise UserError(
                f"phase_std must not be negative, got {phase_std}",
                "data.phase_std",
                "Set radians, 0 or more.",
            )
        self.n_tokens, self.d_input, self.phase_std, self.data_seed = n_tokens, d_input, phase_std, data_seed

    def generate(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Phases (n, N, D) in radians and the targets of ``n`` samples."""
        raise NotImplementedError

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        return {name: self._split(name, n) for name, n in self.sizes.items()}

    def _split(self, name: str, n: int) -> TensorSplit:
        digest = hashlib.sha256(f"{self.data_seed}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
        x = torch.empty(n, self.n_tokens, self.d_input, dtype=torch.complex64)
        targets = []
        for start in range(0, n, CHUNK):
            part = x[start : start + CHUNK]
            phases, target = self.generate(len(part), generator)
            torch.polar(torch.ones(()), phases, out=part)
            targets.append(target)
        return TensorSplit(x=x, y=torch.cat(targets))


class SyntheticHard(SyntheticTokens):
    """Hidden in-phase tokens: which ``n_hidden`` of the tokens share a phase vector?

        theta_d ~ U(0, 2 pi) for each sample;  z_td = exp(i (theta_d + e_td)), e ~ N(0, phase_std^2), t wanted
                                               z_td = exp(i U(0, 2 pi)),                             t other

    in random order. As theta is new in each sample, no token can be told by itself: only by agreement with
    others. ``x`` (N, D) complex64, ``y`` (N,) float32, 1 = wanted.

    Args:
        n_hidden: wanted tokens k of each sample, fewer than ``n_tokens``.
        sizes: see :class:`Sizes`.

    Source: own choice; recovery of a single mean is about 0.75 at 64/6/16 with ``phase_std`` 0.5.
    """

    def __init__(self, *, n_hidden: int, **sizes: Unpack[Sizes]) -> None:
        super().__init__(**sizes)
        n_tokens = self.n_tokens
        if not 1 <= n_hidden < n_tokens:
            raise UserError(
                f"n_hidden must be from 1 to n_tokens - 1 = {n_tokens - 1}, got {n_hidden}",
                "data.n_hidden",
                "Hide fewer tokens or raise data.n_tokens.",
            )
        self.n_hidden = n_hidden
        self.spec = Spec(input_shape=(n_tokens, self.d_input), target="token_mask", n_outputs=1, is_complex=True)

    def generate(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Phases (n, N, D) and the token mask (n, N) float32."""
        mask = _choose(n, self.n_tokens, self.n_hidden, generator)
        phases = _uniform_phases((n, self.n_tokens, self.d_input), generator)
        theta = _uniform_phases((n, 1, self.d_input), generator)
        noise = torch.randn(n, self.n_hidden, self.d_input, generator=generator) * self.phase_std
        phases[mask] = (theta + noise).flatten(0, 1)  # (n k, D)
        return phases, mask.float()

    def baselines(self) -> dict[str, float]:
        """Recovery on the test part without training: by chance, by one mean, by repeated agreement.

        Returns:
            ``baseline/chance_recovery`` (k/N), ``baseline/mean_recovery`` (tokens ranked by their agreement with
            the mean of all) and ``baseline/agreement_recovery`` (with the context of four agreement passes).
        """
        test = self.splits["test"]
        z, y = as_planes(test.tensors["x"]), test.tensors["y"]  # type: ignore[attr-defined]
        grid = (self.n_tokens,)
        figures = {"baseline/chance_recovery": self.n_hidden / self.n_tokens}
        contexts = {
            "mean": MeanAggregation(self.d_input, 1, grid),
            "agreement": AgreementAggregation(self.d_input, 1, grid, 4),
        }
        for name, aggregation in contexts.items():
            with torch.no_grad():
                context = polar_coordinates(aggregation(z))[1]
                score = agreement(polar_coordinates(z)[1], context, 1).squeeze(-1)  # (n, N)
            figures[f"baseline/{name}_recovery"] = float(topk_recovery(score, y).mean())
        return figures


class SyntheticEasy(SyntheticTokens):
    """Signal or noise: half of the samples hold ``n_signal`` tokens with phases near 0.

        signal: n_signal tokens exp(i e), e ~ N(0, phase_std^2), the others exp(i U(0, 2 pi))
        noise:  all exp(i U(0, 2 pi))

    ``x`` (N, D) complex64, ``y`` 1 = signal. A check that everything is connected, not evidence for
    interaction between tokens: a threshold on the mean of cos(phase) solves it.

    Args:
        n_signal: signal tokens of a signal sample, at most ``n_tokens``.
        sizes: see :class:`Sizes`.
    """

    def __init__(self, *, n_signal: int, **sizes: Unpack[Sizes]) -> None:
        super().__init__(**sizes)
        n_tokens = self.n_tokens
        if not 1 <= n_signal <= n_tokens:
            raise UserError(
                f"n_signal must be from 1 to n_tokens = {n_tokens}, got {n_signal}",
                "data.n_signal",
                "Set fewer signal tokens or raise data.n_tokens.",
            )
        self.n_signal = n_signal
        self.spec = Spec(
            input_shape=(n_tokens, self.d_input),
            target="classes",
            n_outputs=2,
            class_names=("noise", "signal"),
            is_complex=True,
        )

    def generate(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Phases (n, N, D) and classes (n,) int64."""
        y = torch.randint(0, 2, (n,), generator=generator)
        mask = _choose(n, self.n_tokens, self.n_signal, generator) & (y[:, None] == 1)
        phases = _uniform_phases((n, self.n_tokens, self.d_input), generator)
        near_zero = torch.randn(phases.shape, generator=generator) * self.phase_std
        return torch.where(mask[:, :, None], near_zero, phases), y


def _choose(n: int, n_tokens: int, k: int, generator: torch.Generator) -> Tensor:
    """Mask (n, N) bool with ``k`` random tokens true in each row."""
    order = torch.rand(n, n_tokens, generator=generator).argsort(dim=1)  # a random permutation a row
    return order < k


def _uniform_phases(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * (2 * math.pi)
