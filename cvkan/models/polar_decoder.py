"""From a complex code to a sequence, all tokens at once, by polarizing blocks.

Legend: B batch, N tokens, D complex channels, d numbers of a code, V numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from cvkan.core.backbone import Block, PolarBackbone
from cvkan.core.linear import ComplexLinear, RealLinear, complex_dropout
from cvkan.core.norm import SampleRMSNorm
from cvkan.core.polar import Planes
from cvkan.core.pooling import Readout
from cvkan.core.position import Position
from cvkan.models.autoencoder import Code, Decoder
from cvkan.models.memory import Memory, NoMemory
from cvkan.models.recurrent import per_token
from cvkan.spec import Spec


class PolarDecoder(Decoder):
    """The d numbers of a code are d/2 complex ones; each token gets them through a factor of its own.

    ::

        z = (code_1 .. code_(d/2)) + i (code_(d/2+1) .. code_d)
        t_n = position_n(W z + b),    tokens = blocks(t_1 .. t_N),    y_n = W_y readout(tokens_n) + b_y

    Where a position is a factor, as with ``position=learned_polar`` and ``rotary``, t_n is W z with its phases turned
    for place n: an inverse Fourier transform if the output is linear, and what undoes an encoder that turned its
    tokens alike and averaged them. Such a pair holds any linear code of whole sequences already, as far as D reaches;
    the blocks do what is not linear. Phases of places that are told apart by nothing but a product are a holographic
    reduced representation (Plate, 1995). The bias b is what the tokens are measured against: without it a sample's
    normalisation would make every code equally loud.

    Nothing of it goes on from its own output: there is no truth to be told in training.

    Args:
        spec: see :class:`~cvkan.models.autoencoder.Decoder`.
        d_latent: numbers d of a code, even.
        code: ``sequence``: every token gets the one code; ``token``: its own.
        d_complex: channels D.
        n_layers: blocks.
        n_heads: heads of each block.
        position: constructor of what tells tokens where they stand, ``position(d_complex, grid)``.
        block: constructor of a block, see :class:`~cvkan.core.backbone.PolarBackbone`.
        readout: real features of a token.
        dropout: probability of dropping a complex number of a token before the blocks.
        memory: constructor of what it may look at beside the code: nothing.

    Raises:
        ValueError: a size is out of range, or there is a memory.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        d_latent: int,
        code: str,
        d_complex: int,
        n_layers: int,
        n_heads: int,
        position: Callable[..., Position],
        block: Callable[..., Block],
        readout: Readout,
        dropout: float,
        memory: partial[Memory],
    ) -> None:
        super().__init__(spec, d_latent, per_token(code))
        if memory.func is not NoMemory:
            raise ValueError(
                f"{memory.func.__name__} is for a decoder that takes steps, {type(self).__name__} gives all tokens at "
                "once; set model=recurrent, or memory=none"
            )
        if d_latent % 2:
            raise ValueError(
                f"a complex code has an even number of numbers, got d_latent={d_latent}; set domain.d_latent="
                f"{d_latent + 1}"
            )
        grid = (self.n_tokens,)
        self.enter = ComplexLinear(d_latent // 2, d_complex)
        self.position = position(d_complex=d_complex, grid=grid)
        self.backbone = PolarBackbone(d_complex, n_layers, n_heads, grid, block)
        self.scale = SampleRMSNorm(causal=self.backbone.causal)
        self.readout, self.dropout = readout, dropout
        self.out = RealLinear(readout.n_features(d_complex), self.d_vector)

    def forward(self, code: Code, mask: Tensor, gold: Tensor | None = None, forced: Tensor | None = None) -> Tensor:
        """Vectors (B, N, V) for a code; mask (B, N), 1 = a token is wanted here.

        Raises:
            ValueError: it is told the truth.
        """
        if gold is not None or forced is not None:
            raise ValueError("the polar decoder gives all tokens at once and takes no gold vectors; pass none")
        if not self.per_token:
            mask = torch.ones_like(mask)  # the length of a sequence is the code's to tell
        re, im = code.z.chunk(2, dim=-1)
        z = self.position(self.spread(self.enter((re, im)), mask.shape[1]))
        z = self.scale(self.backbone(complex_dropout(z, self.dropout, self.training), mask), mask)
        return self.out(torch.cat(self.readout(z), dim=-1))

    def spread(self, z: Planes, n_tokens: int) -> Planes:
        """Planes (B, N, D) of codes: that of a sequence (B, D) goes to every token."""
        if self.per_token:
            return z
        re, im = (plane.unsqueeze(1).expand(-1, n_tokens, -1) for plane in z)
        return re, im
