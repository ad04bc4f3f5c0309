"""How much of the truth a decoder is told in training, and how that is run.

At each step of a decoder that goes on from its own output a coin decides whether the true vector before it goes in
instead (scheduled sampling: Bengio et al., 2015). Coins come from torch's global generator, which is seeded for each
batch, so that a resumed run throws them again as they fell.

Legend: B batch, N tokens, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvkan.models.autoencoder import Autoencoder, Decoder


class TeacherForcing:
    """Base of all schemes.

    Attributes:
        tells: it tells a decoder the truth, which must be one that goes on from its own output.
    """

    tells = True

    def check(self, decoder: Decoder, shares: Sequence[float]) -> None:
        """Refuse a truth that nobody would be told.

        Args:
            decoder: that is trained.
            shares: of the truth, in each phase of the curriculum.

        Raises:
            ValueError: the decoder takes none, or there are shares and nothing tells them.
        """
        if self.tells and not decoder.autoregressive:
            raise ValueError(
                f"{type(self).__name__} tells the truth to a decoder that goes on from its own output, "
                f"{type(decoder).__name__} gives all tokens at once; set teacher_forcing=none, or model=recurrent"
            )
        if any(shares) and not self.tells:
            zeros = ",".join("0" for _ in shares)
            raise ValueError(
                f"the curriculum has shares of teacher forcing, {list(shares)}, that teacher_forcing=none does not "
                f"tell; set curriculum=none, or curriculum.teacher_forcing=[{zeros}] for its lengths alone"
            )

    def run(self, autoencoder: Autoencoder, x: Tensor, mask: Tensor, ratio: float) -> Tensor:
        """Vectors (B, N, D) that training compares with x.

        Args:
            autoencoder: with an autoregressive decoder, if the scheme tells it anything.
            x: (B, N, D).
            mask: (B, N), 1 = valid.
            ratio: probability that a step is told the truth, 0 to 1.
        """
        raise NotImplementedError


class Untold(TeacherForcing):
    """The code is all that a decoder is told: for one that gives all tokens at once, or trains as it is tested."""

    tells = False

    def run(self, autoencoder: Autoencoder, x: Tensor, mask: Tensor, ratio: float) -> Tensor:
        return autoencoder(x, mask)


class Segments(TeacherForcing):
    """One coin a step for the whole batch; exact, and fast as steps between two free ones run in one fused call."""

    def run(self, autoencoder: Autoencoder, x: Tensor, mask: Tensor, ratio: float) -> Tensor:
        return autoencoder(x, mask, x, coins(ratio, x.shape[1]))


class PerSample(TeacherForcing):
    """One coin a step and sample; exact, but nearly every step is free for some sample and needs its own call."""

    def run(self, autoencoder: Autoencoder, x: Tensor, mask: Tensor, ratio: float) -> Tensor:
        return autoencoder(x, mask, x, coins(ratio, *x.shape[:2]))


class TwoPass(TeacherForcing):
    """Approximate, in two fused calls whatever the ratio.

    A first pass is told everything; its outputs, without gradient, then stand for the decoder's own where the coins of
    the batch say so. They come of true vectors before them, so that errors do not add up as they do at work.
    Source: Duckworth et al., "Parallel scheduled sampling", 2019, with one pass.
    """

    def run(self, autoencoder: Autoencoder, x: Tensor, mask: Tensor, ratio: float) -> Tensor:
        code = autoencoder.encode(x, mask)
        forced = coins(ratio, x.shape[1])
        everywhere = torch.ones_like(forced)
        told = x
        if not forced[1:].all():
            with torch.no_grad():
                own = autoencoder.decode(code, mask, x, everywhere)
            # Step t hears what stands at t - 1.
            told = torch.where(forced.roll(-1).to(x.device).unsqueeze(-1), x, own)
        return autoencoder.decode(code, mask, told, everywhere)


def coins(ratio: float, *shape: int) -> Tensor:
    """Bool tensor on the CPU, where the order of calls is decided: True with probability ``ratio``."""
    return torch.rand(shape) < ratio
