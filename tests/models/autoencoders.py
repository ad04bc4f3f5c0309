"""Small autoencoders, and what their recurrent decoder is when written down step by step."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cvkan.core.aggregation import MagnitudeAggregation
from cvkan.core.polarizing import PolarBlock
from cvkan.core.pooling import MeanPooling, NoPooling, Readout
from cvkan.core.position import LearnedPolarPosition
from cvkan.models.autoencoder import Autoencoder
from cvkan.models.cvkan import CVKAN
from cvkan.models.embedding import LinearEmbedding
from cvkan.models.heads import CodeHead
from cvkan.models.memory import AttentionMemory, NoMemory
from cvkan.models.polar_decoder import PolarDecoder
from cvkan.models.recurrent import RecurrentEncoder
from cvkan.models.recurrent_decoder import RecurrentDecoder
from cvkan.spec import Spec

N, D, H, D_LATENT = 7, 5, 6, 4
SPEC = Spec((N, D), "vectors", D)
ATTENTION = partial(AttentionMemory, n_heads=2)
HEAD = partial(CodeHead, d_latent=D_LATENT, batch_norm=True)


def recurrent(memory: Any = NoMemory, head: Any = HEAD, d_latent: int = D_LATENT, **options: Any) -> Autoencoder:
    """A recurrent autoencoder whose biases and start vector are not zero."""
    torch.manual_seed(0)
    shared = {"cell": "lstm", "d_hidden": H, "n_layers": 1, "code": "sequence", "dropout": 0.0}
    shared |= {"bidirectional": False, "residual": False, **options}
    decoder = RecurrentDecoder(SPEC, **shared, d_latent=d_latent, memory=memory)
    model = Autoencoder(RecurrentEncoder(SPEC, **shared, head=head), decoder)
    for name, parameter in model.named_parameters():
        if "bias" in name or name.endswith("start"):
            nn.init.normal_(parameter)
    return model.eval()


def polar(code: str = "sequence", head: Any = HEAD, d_latent: int = D_LATENT, **options: Any) -> Autoencoder:
    """A complex autoencoder."""
    torch.manual_seed(0)
    shared: dict[str, Any] = {"d_complex": 8, "n_layers": 1, "n_heads": 2, "readout": Readout("all"), "dropout": 0.0}
    shared |= {
        "position": partial(LearnedPolarPosition, std=3.0),
        "block": partial(PolarBlock, aggregations={"magnitude": MagnitudeAggregation}),
        **options,
    }
    alone = partial(NoMemory)
    pooling = NoPooling if code == "token" else MeanPooling
    encoder = CVKAN(SPEC, **shared, embedding=LinearEmbedding, pooling=pooling, head=head)
    return Autoencoder(encoder, PolarDecoder(SPEC, **shared, d_latent=d_latent, code=code, memory=alone)).eval()


def samples(n_batch: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(n_batch, N, D, generator=torch.Generator().manual_seed(seed))


def masks(*lengths: int) -> Tensor:
    return (torch.arange(N) < torch.tensor(lengths)[:, None]).float()


def stepped(decoder: RecurrentDecoder, z: Tensor, gold: Tensor, told: Tensor, kept: Any = None) -> Tensor:
    """Vectors (B, N, D) by the equations of the cells, one sample, step and layer after the other.

    Args:
        decoder: without dropout.
        z: codes (B, d), or (B, N, d).
        gold: true vectors (B, N, D).
        told: (B, N) bool.
        kept: what the memory keeps.
    """
    weights = [dict(layer.named_parameters()) for layer in decoder.stack.layers]
    batches = []
    for b in range(len(z)):
        zeros = gold.new_zeros(len(weights), decoder.n_states, H)
        if decoder.per_token:
            states = zeros
        else:
            start = torch.tanh(decoder.begin.weight @ z[b] + decoder.begin.bias)
            states = start.view(zeros.shape)
        states = [list(layer) for layer in states]
        outputs = []
        for t in range(gold.shape[1]):
            x = decoder.start if t == 0 else gold[b, t - 1] if told[b, t] else outputs[-1]
            x = decoder.enter(x)
            if decoder.per_token:
                x = torch.cat([x, z[b, t]])
            for k, layer in enumerate(weights):
                states[k] = one_step(layer, x, states[k])
                x = states[k][0] + x if k and decoder.stack.residual else states[k][0]
            own = None if kept is None else tuple(part[b : b + 1] for part in kept)
            outputs.append(decoder.out(decoder.memory(x[None, None], own, t))[0, 0])
        batches.append(torch.stack(outputs))
    return torch.stack(batches)


def one_step(layer: dict[str, Tensor], x: Tensor, state: list[Tensor]) -> list[Tensor]:
    """The next [h] or [h, c] of a cell that is known by the number of its gates."""
    by_input = (layer["weight_ih_l0"] @ x + layer["bias_ih_l0"]).split(H)
    by_state = (layer["weight_hh_l0"] @ state[0] + layer["bias_hh_l0"]).split(H)
    if len(by_input) == 1:
        return [torch.tanh(by_input[0] + by_state[0])]
    if len(by_input) == 3:
        r, u = (torch.sigmoid(by_input[i] + by_state[i]) for i in (0, 1))
        return [(1 - u) * torch.tanh(by_input[2] + r * by_state[2]) + u * state[0]]
    i, f, g, o = (one + other for one, other in zip(by_input, by_state, strict=True))
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return [torch.sigmoid(o) * torch.tanh(c), c]
