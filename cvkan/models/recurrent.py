"""Recurrent layers with the start that each gate needs, and the encoder that reads a sequence with them.

Legend: B batch, N tokens, D numbers of a vector, H hidden units, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from cvkan.core.polar import no_autocast
from cvkan.spec import Spec

# A layer over many steps, and what it does in one.
CELLS: dict[str, tuple[Callable[..., nn.RNNBase], Callable[..., Any]]] = {
    "vanilla": (nn.RNN, torch.rnn_tanh_cell),
    "gru": (nn.GRU, torch.gru_cell),
    "lstm": (nn.LSTM, torch.lstm_cell),
}
CODES = ("sequence", "token")

# What a layer keeps from step to step: h (1, B, H), for an LSTM (h, c).
State = Tensor | tuple[Tensor, ...]


class RecurrentStack(nn.Module):
    """L recurrent layers one above the other, each run over all its steps in one fused call.

    ::

        y_1 = drop(rnn_1(x)),  y_k = drop(rnn_k(y_(k-1)) + y_(k-1)),  the sum with ``residual`` only

    A layer has g (D H + H H + 2 H) parameters, g = 1 (``vanilla``), 3 (``gru``) or 4 (``lstm``). Each gate starts for
    itself, as one matrix of all gates would be scaled wrongly: inputs Xavier uniform, recurrences orthogonal, biases 0,
    but 1 in total for the forget gate, so that an untrained LSTM remembers. A single step from given states does not
    use the fused call but the cell, which is up to 1.6 times faster for an LSTM and gives the same but for rounding.
    All is float32 under autocast: rounding would add up from step to step.

    Args:
        cell: ``vanilla``, ``gru`` or ``lstm``.
        d_input: numbers D of an input.
        d_hidden: hidden units H.
        n_layers: layers L.
        residual: add a layer's input to its output, from the second on.
        dropout: probability of dropping an output of a layer; recurrences are never dropped.

    Raises:
        ValueError: an unknown cell, or a size out of range.

    Source: Glorot and Bengio, 2010; Saxe et al., 2014; Jozefowicz et al., 2015 (forget gate).
    """

    def __init__(
        self, cell: str, d_input: int, d_hidden: int, n_layers: int, *, residual: bool, dropout: float
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {cell!r}; set model.cell=lstm")
        if d_hidden < 1 or n_layers < 1:
            raise ValueError(
                f"d_hidden and n_layers must be at least 1, got {d_hidden} and {n_layers}; set model.d_hidden and "
                "model.n_layers"
            )
        widths = [d_input, *[d_hidden] * n_layers]
        make_layer, self.cell = CELLS[cell]
        self.layers = nn.ModuleList(make_layer(d_in, d_hidden, batch_first=True) for d_in in widths[:-1])
        for layer in self.layers:
            reset_gates(layer)
        self.residual, self.dropout = residual, nn.Dropout(dropout)

    def forward(self, x: Tensor, states: Sequence[State] | None = None) -> tuple[Tensor, list[State]]:
        """Inputs (B, N, D) and the state of each layer, zeros by default, to outputs (B, N, H) and the new states."""
        after: list[State] = []
        with no_autocast(x):
            x = x.to(torch.promote_types(x.dtype, torch.float32))
            for k, layer in enumerate(self.layers):
                if states is None:
                    y, state = layer(x)
                elif x.shape[1] == 1:
                    y, state = self.one_step(layer, x, states[k])
                else:
                    y, state = layer(x, states[k])
                x = self.dropout(y + x if self.residual and k else y)  # (B, N, H)
                after.append(state)
        return x, after

    def one_step(self, layer: nn.Module, x: Tensor, state: State) -> tuple[Tensor, State]:
        """What ``layer(x, state)`` gives for x (B, 1, D)."""
        (weights,) = cast(nn.RNNBase, layer).all_weights
        if isinstance(state, tuple):
            h, c = self.cell(x[:, 0], [part[0] for part in state], *weights)  # (B, H) each
            return h.unsqueeze(1), (h.unsqueeze(0), c.unsqueeze(0))
        h = self.cell(x[:, 0], state[0], *weights)
        return h.unsqueeze(1), h.unsqueeze(0)


def reset_gates(layer: nn.Module) -> None:
    """Start a recurrent layer as :class:`RecurrentStack` says."""
    weights = dict(layer.named_parameters())
    d_hidden = weights["weight_hh_l0"].shape[1]
    start = {"weight_ih_l0": nn.init.xavier_uniform_, "weight_hh_l0": nn.init.orthogonal_}
    for name, initialise in start.items():
        for gate in weights[name].data.split(d_hidden):
            initialise(gate)
    for name in ("bias_ih_l0", "bias_hh_l0"):
        nn.init.zeros_(weights[name])
    if isinstance(layer, nn.LSTM):
        nn.init.ones_(weights["bias_ih_l0"].data[d_hidden : 2 * d_hidden])  # gates: input, forget, cell, output


class RecurrentEncoder(nn.Module):
    """A sequence of vectors, read token by token, to features and a head.

    The features of a sequence are those after its last token, which stands before the padding: ``mask`` is 1 up to
    there and 0 behind. Two directions are two stacks that know nothing of each other, one of which reads from the last
    token to the first (as Peters et al., "Deep contextualized word representations", 2018); for one layer that is the
    usual bidirectional layer. Padding is read after all tokens, as zeros, so that no token hears of it.

    Args:
        spec: samples of shape (N, D), real.
        cell: see :class:`RecurrentStack`, as ``n_layers``, ``residual`` and ``dropout``.
        d_hidden: hidden units H of a direction.
        n_layers: layers.
        bidirectional: read in both directions: F = 2 H features instead of H.
        residual: sums around layers.
        dropout: probability of dropping an output of a layer, the features among them.
        code: ``sequence``: features of the whole; ``token``: of every token, which has heard of those before it, and
            in two directions of all.
        head: constructor of what makes codes or logits of features, ``head(n_features, spec)``.

    Raises:
        ValueError: the samples are no sequences of vectors, or an argument is out of range or does not fit the target.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        cell: str,
        d_hidden: int,
        n_layers: int,
        bidirectional: bool,
        residual: bool,
        dropout: float,
        code: str,
        head: Callable[..., nn.Module],
    ) -> None:
        super().__init__()
        if spec.is_complex or len(spec.input_shape) != 2:
            raise ValueError(
                f"model=recurrent reads sequences of real vectors (n_tokens, numbers), got samples of shape "
                f"{spec.input_shape}; choose another model or domain"
            )
        self.per_token = per_token(code)
        if spec.per_token not in (None, self.per_token):
            raise ValueError(
                f"code={code} does not fit targets of kind {spec.target!r}; set model.code="
                f"{'token' if spec.per_token else 'sequence'}"
            )
        sizes: tuple[Any, ...] = (cell, spec.input_shape[1], d_hidden, n_layers)
        self.ahead = RecurrentStack(*sizes, residual=residual, dropout=dropout)
        self.back = RecurrentStack(*sizes, residual=residual, dropout=dropout) if bidirectional else None
        self.d_states = 2 * d_hidden if bidirectional else d_hidden
        self.head = head(n_features=self.d_states, spec=spec)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, return_states: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """What the head makes of vectors (B, N, D); mask (B, N), 1 = valid, all by default.

        With ``return_states`` also the features of all tokens, (B, N, F).
        """
        mask = torch.ones_like(x[..., 0]) if mask is None else mask
        valid = mask.bool()
        x = x.masked_fill(~valid.unsqueeze(-1), 0.0)
        length = valid.sum(dim=1, keepdim=True)  # (B, 1)
        states, _ = self.ahead(x)
        features = states if self.per_token else at_place(states, (length - 1).clamp(min=0))
        if self.back is not None:
            read_back, _ = self.back(turned_round(x, length))
            read_back = turned_round(read_back, length)  # (B, N, H), in the order of the tokens again
            states = torch.cat([states, read_back], dim=-1)
            features = states if self.per_token else torch.cat([features, read_back[:, 0]], dim=-1)
        coded = self.head(features)
        return (coded, states) if return_states else coded


def per_token(code: str) -> bool:
    """Is ``code`` the word for one code a token?

    Raises:
        ValueError: it is neither that nor the word for one a sequence.
    """
    if code not in CODES:
        raise ValueError(f"code must be sequence or token, got {code!r}; set code=sequence")
    return code == "token"


def at_place(x: Tensor, place: Tensor) -> Tensor:
    """The vector of x (B, N, F) at each sample's place (B, 1): (B, F)."""
    return x.gather(1, place.unsqueeze(-1).expand(-1, -1, x.shape[-1])).squeeze(1)


def turned_round(x: Tensor, length: Tensor) -> Tensor:
    """The first ``length`` (B, 1) tokens of x (B, N, F) in reverse, the rest where it was; its own inverse."""
    place = torch.arange(x.shape[1], device=x.device).unsqueeze(0)  # (1, N)
    source = torch.where(place < length, length - 1 - place, place)  # (B, N)
    return x.gather(1, source.unsqueeze(-1).expand_as(x))
