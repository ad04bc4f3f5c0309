"""How polarized tokens are: which of them each layer amplified, and how unequal and how coherent they became.

Pure functions on tensors, and :func:`polarization`, which applies them to every layer of a network.

Legend: B batch, L layers, N tokens, D complex channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cvkan.core.backbone import LayerTrace
from cvkan.core.linear import masked
from cvkan.core.polar import Planes, as_planes, at_least_float32, squared_magnitude, unit_phase
from cvkan.spec import Batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATISTICS = ("magnitude", "gini", "entropy", "coherence")
FIGURES = ("gini", "entropy", "coherence", "gain_spread")


@runtime_checkable
class Traceable(Protocol):
    """A network of complex tokens that can tell what each layer did to them."""

    grid: tuple[int, ...]

    def trace(self, x: Tensor, mask: Tensor | None = None) -> list[LayerTrace]:
        """Stream and token gains after every layer, for a batch (B, ...)."""
        ...


@runtime_checkable
class TokenSource(Protocol):
    """A network that gives the tokens as they enter its first layer."""

    def tokens(self, x: Tensor, mask: Tensor | None = None) -> tuple[Planes, Tensor | None]:
        """Planes (B, N, D) of a batch (B, ...), and the mask of the tokens (B, N)."""
        ...


@runtime_checkable
class BatchReader(Protocol):
    """A task that gives its network something else than a batch as it is."""

    def model_input(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Samples and their mask, as the network takes them."""
        ...


def token_magnitude(z: Planes) -> Tensor:
    """Mean magnitude of each token over its channels: planes (B, N, D) to (B, N)."""
    return torch.sqrt(squared_magnitude(z)).mean(dim=-1)


def topk_recovery(scores: Tensor, wanted: Tensor) -> Tensor:
    """Share of the k wanted tokens among the k highest scores, a sample.

    Args:
        scores: (B, N), higher = more likely wanted.
        wanted: (B, N), 1 = wanted; k is its sum, at least 1.

    Returns:
        Tensor (B,) in [0, 1].
    """
    k = wanted.sum(dim=1, keepdim=True)  # (B, 1)
    rank = scores.argsort(dim=1, descending=True).argsort(dim=1)  # (B, N)
    return ((rank < k) * wanted).sum(dim=1) / k.squeeze(1).clamp(min=1)


def gini(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Gini coefficient over tokens, how unequally they share their sum: 0 = equally, (n - 1)/n = one has it all.

    G = sum_ij |x_i - x_j| / (2 n sum_i x_i) = sum_i (2 i - n - 1) x_(i) / (n sum_i x_i), with x_(1) <= .. <= x_(n)

    Args:
        x: (..., N), not negative.
        mask: (..., N), True = valid; n counts the valid tokens.

    Returns:
        (...) in [0, 1), float32 at least; 0 where all tokens are 0 or none is valid.

    Source: Gini, "Variabilita e mutabilita", 1912; as a measure of sparsity, the preferred one of fifteen: Hurley
        and Rickard, "Comparing measures of sparsity", arXiv:0811.4706.
    """
    x, valid = _over_valid(x, mask)
    n = valid.sum(dim=-1, keepdim=True)  # (..., 1)
    rank = torch.arange(1, x.shape[-1] + 1, device=x.device)
    # Padded tokens come last in the order, where they move no other's rank.
    ordered = x.masked_fill(~valid, torch.inf).sort(dim=-1).values.masked_fill(rank > n, 0.0)
    total = (n * ordered.sum(dim=-1, keepdim=True)).squeeze(-1)
    unequal = ((2 * rank - n - 1) * ordered).sum(dim=-1).clamp(min=0.0)  # rounding may leave -1e-8
    return torch.where(total > 0, unequal / torch.where(total > 0, total, 1.0), 0.0)


def entropy(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Evenness of the shares p_i = x_i / sum x of the tokens: 1 = equal, 0 = one token has it all.

    H = -sum_i p_i log p_i / log n

    Args:
        x: (..., N), not negative.
        mask: (..., N), True = valid; n counts the valid tokens.

    Returns:
        (...) in [0, 1], float32 at least; 1 where all tokens are 0 or fewer than two are valid: nothing is unequal.

    Source: Shannon, "A mathematical theory of communication", 1948; divided by its maximum as in Pielou, "The
        measurement of diversity in different types of biological collections", 1966.
    """
    x, valid = _over_valid(x, mask)
    total = x.sum(dim=-1, keepdim=True)
    n = valid.sum(dim=-1)
    p = x / torch.where(total > 0, total, 1.0)
    nats = -torch.xlogy(p, p).sum(dim=-1)
    defined = (n > 1) & (total.squeeze(-1) > 0)
    return torch.where(defined, nats / n.clamp(min=2).to(x.dtype).log(), 1.0).clamp(0.0, 1.0)


def coherence(z: Tensor | Planes, mask: Tensor | None = None) -> Tensor:
    """Phase coherence of the tokens: mean over channels of the mean resultant length, |mean_t u_t| with u = z / |z|.

    1 where all tokens of a channel have one phase; independent uniform phases of n tokens give about 0.89 / sqrt(n),
    not 0. Tokens of magnitude 0 have no phase and shorten the resultant.

    Args:
        z: planes (..., N, D), or a complex tensor.
        mask: (..., N), True = valid.

    Returns:
        (...) in [0, 1], float32 at least; 0 where no token is valid.

    Source: mean resultant length, Mardia and Jupp, "Directional Statistics", 2000, section 2.3.1.
    """
    z = masked(at_least_float32(as_planes(z)), mask)
    cos, sin = unit_phase(z, squared_magnitude(z))
    n = cos.shape[-2] if mask is None else mask.sum(dim=-1, keepdim=True).clamp(min=1)  # (..., 1)
    return torch.hypot(cos.sum(dim=-2) / n, sin.sum(dim=-2) / n).mean(dim=-1)


def token_spread(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Standard deviation over valid tokens, sqrt(mean_t (x_t - mean x)^2): (..., N) to (...); 0 where none is valid."""
    x, valid = _over_valid(x, mask)
    n = valid.sum(dim=-1, keepdim=True).clamp(min=1)
    deviation = (x - x.sum(dim=-1, keepdim=True) / n) * valid
    return torch.sqrt(deviation.square().sum(dim=-1) / n.squeeze(-1))


def _over_valid(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """x in float32 at least with 0 at padded tokens, whatever they held, and which tokens are valid, both (..., N)."""
    x = x if x.dtype == torch.float64 else x.float()
    valid = torch.ones_like(x, dtype=torch.bool) if mask is None else mask.bool().expand(x.shape)
    return x.masked_fill(~valid, 0.0), valid


@dataclass(frozen=True)
class TokenStatistics:
    """How unequal and how coherent the tokens of a batch are at one place of a network.

    Attributes:
        magnitude: (B, N) mean |z| over the channels of a token, 0 where padded.
        gini: (B,) of the magnitudes over tokens, see :func:`gini`.
        entropy: (B,) of the magnitudes over tokens, see :func:`entropy`.
        coherence: (B,) of the phases over tokens, see :func:`coherence`.
    """

    magnitude: Tensor
    gini: Tensor
    entropy: Tensor
    coherence: Tensor

    @classmethod
    def of(cls, z: Planes, mask: Tensor | None = None) -> TokenStatistics:
        """Of planes (B, N, D); mask (B, N), True = valid."""
        magnitude, _ = _over_valid(token_magnitude(z), mask)
        return cls(magnitude, gini(magnitude, mask), entropy(magnitude, mask), coherence(z, mask))


@dataclass(frozen=True)
class Polarization:
    """What the layers of a network did to the tokens of a batch; float32 on the CPU, layer l at index l - 1.

    Attributes:
        x: the samples (B, ...).
        grid: layout of the tokens, (N,) or (rows, columns).
        mask: (B, N) bool, True = valid.
        gain: (B, L, N) mean over channels of a token's gain in (0, 2), see :class:`LayerTrace`; 0 where padded.
        magnitude: (B, L, N) mean |z| over the channels of a token after the layer; 0 where padded.
        gini: (B, L) how unequal the magnitudes are after the layer, see :func:`gini`.
        entropy: (B, L) how evenly they are spread, see :func:`entropy`.
        coherence: (B, L) how far tokens share their phases, see :func:`coherence`.
        entry: the same of the tokens as they enter the first layer; None for a network without ``tokens``.
    """

    x: Tensor
    grid: tuple[int, ...]
    mask: Tensor
    gain: Tensor
    magnitude: Tensor
    gini: Tensor
    entropy: Tensor
    coherence: Tensor
    entry: TokenStatistics | None

    @property
    def gain_spread(self) -> Tensor:
        """(B, L) standard deviation of the gain over valid tokens: 0 = the layer treats all tokens alike."""
        return token_spread(self.gain, self.mask[:, None])

    def summary(self) -> list[dict[str, float]]:
        """One dict a layer: ``layer`` (from 1) and the means over samples of gini, entropy, coherence, gain_spread."""
        means = {name: getattr(self, name).mean(dim=0).tolist() for name in FIGURES}
        return [
            {"layer": layer + 1, **{name: values[layer] for name, values in means.items()}}
            for layer in range(self.gain.shape[1])
        ]

    def plot(self, n_samples: int = 4, titles: Sequence[str] = (), sample_rate_hz: int | None = None) -> Figure:
        """The first samples with what each layer amplified in them.

        Args:
            n_samples: how many, at most.
            titles: one line above each sample.
            sample_rate_hz: sampling rate of waveforms; with it their axis is in seconds.
        """
        from cvkan import plots  # matplotlib costs a second that an analysis without pictures need not wait for

        return plots.polarization(self, n_samples, titles, sample_rate_hz)

    def plot_layers(self) -> Figure:
        """Gini, entropy, coherence and gain spread over the layers, mean and standard deviation over samples."""
        from cvkan import plots

        return plots.polarization_layers(self)


def polarization(model: nn.Module, batch: Batch | Tensor) -> Polarization:
    """What every layer did to the tokens of a batch: one forward pass in eval mode, without gradients.

    Args:
        model: a network with ``trace`` (:class:`Traceable`), or a task around one. Its modes stay as they were.
        batch: dict with ``x`` (B, ...) and, where lengths differ, ``mask`` (B, N), True = valid; or ``x`` alone; as it
            leaves the data module's ``on_after_batch_transfer``. It is moved to the model's device. A task hands it to
            its network as in training, which may make several samples of one (a forecast: one a channel).

    Raises:
        ValueError: the model has no layers of complex tokens, or the mask is not one of its tokens.
    """
    network = traceable(model)
    if network is None:
        raise ValueError(
            f"expected a model with trace(x, mask) or a task around one, got {type(model).__name__} without layers of "
            "complex tokens; pass a CVKAN, or give the model trace and grid (cvkan.analysis.polarization.Traceable)"
        )
    parts = {"x": batch} if isinstance(batch, Tensor) else batch
    device = next((parameter.device for parameter in model.parameters()), parts["x"].device)
    parts = {name: tensor.to(device) for name, tensor in parts.items()}
    x, mask = model.model_input(parts) if isinstance(model, BatchReader) else (parts["x"], parts.get("mask"))
    with evaluating(model), torch.no_grad():
        layers = network.trace(x, mask)
        streams = [layer.z for layer in layers]
        if isinstance(network, TokenSource):
            entering, mask = network.tokens(x, mask)  # the embedding may have made the mask anew
            streams = [entering, *streams]
        gain = torch.stack([layer.gain.float().mean(dim=-1) for layer in layers], dim=1)  # (B, L, N)
        valid = torch.ones_like(gain[:, 0], dtype=torch.bool) if mask is None else mask.bool()
        if valid.shape != gain[:, 0].shape:
            raise ValueError(
                f"the mask has shape {tuple(valid.shape)}, the tokens of the model {tuple(gain[:, 0].shape)}; "
                "give the model a method tokens(x, mask) that returns the mask of its tokens"
            )
        gain, _ = _over_valid(gain, valid[:, None])
        found = [TokenStatistics.of(z, valid) for z in streams]
    stacked = {name: torch.stack([getattr(place, name) for place in found], dim=1).cpu() for name in STATISTICS}
    entry = None
    if len(found) > len(layers):
        entry = TokenStatistics(**{name: values[:, 0] for name, values in stacked.items()})
        stacked = {name: values[:, 1:] for name, values in stacked.items()}
    return Polarization(x=x.cpu(), grid=tuple(network.grid), mask=valid.cpu(), gain=gain.cpu(), **stacked, entry=entry)


def traceable(model: nn.Module) -> Traceable | None:
    """The network that can tell what its layers did: the model itself, or that of a task; None if there is none."""
    for candidate in (model, getattr(model, "model", None)):
        if isinstance(candidate, Traceable):
            return candidate
    return None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards every module, also one frozen by hand, is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
