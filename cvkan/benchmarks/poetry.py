"""``suite=poetry``: a training step of a recurrent autoencoder under teacher forcing.

Legend: B batch, N tokens, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cvkan.benchmarks.rows import Row, compared
from cvkan.benchmarks.suite import Suite
from cvkan.benchmarks.timing import interleaved, one_thread
from cvkan.models.autoencoder import Autoencoder
from cvkan.models.heads import CodeHead
from cvkan.models.memory import NoMemory
from cvkan.models.recurrent import RecurrentEncoder
from cvkan.models.recurrent_decoder import RecurrentDecoder
from cvkan.spec import Spec

STEPPED = "one fused call of length 1 a step"
Decoding = Callable[[Autoencoder, Tensor, Tensor, Tensor], Tensor]


class PoetrySuite(Suite):
    """Runs of true vectors in one fused call against one call a step, with the same coins; one CPU thread.

    A step is encoder, decoder, mean squared error, gradients of all parameters and one update by AdamW.

    Args:
        budget: see :class:`Suite`.
        budgets: for each budget ``n_draws``, the draws of coins that one measurement goes through, ``repetitions`` and
            ``min_seconds``, see :func:`~cvkan.benchmarks.timing.interleaved`.
        cell: ``vanilla``, ``gru`` or ``lstm``.
        d_vector: numbers D of a vector.
        d_hidden: hidden units.
        d_latent: numbers of a code.
        n_tokens: N.
        n_batch: B.
        ratios: probabilities that a step is told the truth.
        seed: seeds weights, vectors and coins.
    """

    def __init__(
        self,
        budget: str,
        budgets: Mapping[str, Mapping[str, Any]],
        cell: str,
        d_vector: int,
        d_hidden: int,
        d_latent: int,
        n_tokens: int,
        n_batch: int,
        ratios: Sequence[float],
        seed: int,
    ) -> None:
        super().__init__(budget, budgets)
        self.cell, self.sizes = cell, (d_vector, d_hidden, d_latent)
        self.n_tokens, self.n_batch, self.ratios, self.seed = n_tokens, n_batch, ratios, seed

    def run(self) -> Iterator[Row]:
        """A row for each ratio.

        Raises:
            RuntimeError: both ways give different vectors.
        """
        with one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            for ratio in self.ratios:
                yield self.row(ratio)

    def row(self, ratio: float) -> Row:
        """CPU time of a training step at one ratio."""
        model = self.make_autoencoder()
        x, mask = torch.randn(self.n_batch, self.n_tokens, self.sizes[0]), torch.ones(self.n_batch, self.n_tokens)
        draws = [torch.rand(self.n_tokens) < ratio for _ in range(self.settings["n_draws"])]
        if not torch.allclose(fused(model, x, mask, draws[0]), stepped(model, x, mask, draws[0]), atol=1e-5):
            raise RuntimeError("runs of true vectors in one call give other vectors than one call a step")
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        candidates = {
            name: partial(train, model, optimizer, decoding, x, mask, draws)
            for name, decoding in {"segments": fused, STEPPED: stepped}.items()
        }
        seconds = interleaved(candidates, self.settings["repetitions"], self.settings["min_seconds"])
        own, others = ([one / len(draws) for one in seconds[name]] for name in ("segments", STEPPED))
        shape = "-".join(map(str, self.sizes))
        case = f"{self.cell} {shape} N={self.n_tokens} B={self.n_batch} ratio {ratio:g}"
        return compared(case, "cpu_a_step", own, "ms", STEPPED, others, scale=1e3)

    def make_autoencoder(self) -> Autoencoder:
        """One layer, no dropout, a code a sequence."""
        d_vector, d_hidden, d_latent = self.sizes
        spec = Spec((self.n_tokens, d_vector), "vectors", d_vector)
        shared: dict[str, Any] = {
            **{"cell": self.cell, "d_hidden": d_hidden, "n_layers": 1, "code": "sequence"},
            **{"bidirectional": False, "residual": False, "dropout": 0.0},
        }
        encoder = RecurrentEncoder(spec, **shared, head=partial(CodeHead, d_latent=d_latent, batch_norm=True))
        return Autoencoder(encoder, RecurrentDecoder(spec, **shared, d_latent=d_latent, memory=NoMemory)).train()


def train(
    model: Autoencoder,
    optimizer: torch.optim.Optimizer,
    decoding: Decoding,
    x: Tensor,
    mask: Tensor,
    draws: Sequence[Tensor],
) -> None:
    """One update of the weights for each draw of coins."""
    for forced in draws:
        optimizer.zero_grad()
        nn.functional.mse_loss(decoding(model, x, mask, forced), x).backward()
        optimizer.step()


def fused(model: Autoencoder, x: Tensor, mask: Tensor, forced: Tensor) -> Tensor:
    """Vectors (B, N, D) as the decoder makes them; coins (N,)."""
    return model(x, mask, x, forced)


def stepped(model: Autoencoder, x: Tensor, mask: Tensor, forced: Tensor) -> Tensor:
    """The same as it is written down most simply."""
    decoder = model.decoder
    assert isinstance(decoder, RecurrentDecoder)
    (layer,) = decoder.stack.layers
    states = decoder.states(model.encode(x, mask).z)
    assert states is not None
    (state,) = states
    outputs = [decoder.start.expand(len(x), 1, -1)]
    for t, is_told in enumerate(forced.tolist()):
        y, state = layer(x[:, t - 1 : t] if t and is_told else outputs[-1], state)
        outputs.append(decoder.out(y))
    return torch.cat(outputs[1:], dim=1)
