"""An encoder and a decoder around a small code, and how small it really is.

Legend: B batch, N tokens, D numbers of a vector, d numbers of a code, S numbers of an encoder's state.
"""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from cvkan.models.heads import CodeHead
from cvkan.spec import Spec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Code:
    """What a decoder is given.

    Attributes:
        z: the code, (B, d) or one a token (B, N, d).
        states: (B, N, S) of the encoder, for a decoder with memory alone; else None.
        mask: (B, N) of the tokens that the states are of, 1 = valid.
    """

    z: Tensor
    states: Tensor | None = None
    mask: Tensor | None = None


class Decoder(nn.Module):
    """Base of all decoders, built as ``decoder(spec=spec)``.

    Args:
        spec: samples of N tokens and D numbers each.
        d_latent: numbers d of a code.
        per_token: a code is of one token, not of a whole sequence.

    Attributes:
        autoregressive: goes on from what came before, in training from the true vectors if it is told them.
        d_memory: numbers a token, beside the code, that come from the encoder.
    """

    autoregressive = False
    d_memory = 0

    def __init__(self, spec: Spec, d_latent: int, per_token: bool) -> None:
        super().__init__()
        if len(spec.input_shape) != 2 or spec.is_complex:
            raise ValueError(
                f"a decoder gives back sequences of real vectors (n_tokens, numbers), the data has samples of shape "
                f"{spec.input_shape}; set domain=poetry"
            )
        if d_latent < 1:
            raise ValueError(f"d_latent must be at least 1, got {d_latent}; set domain.d_latent=16")
        self.n_tokens, self.d_vector = spec.input_shape
        self.d_latent, self.per_token = d_latent, per_token

    def forward(self, code: Code, mask: Tensor, gold: Tensor | None = None, forced: Tensor | None = None) -> Tensor:
        """Vectors (B, N, D) for a code; see :meth:`Autoencoder.decode`."""
        raise NotImplementedError


class Autoencoder(nn.Module):
    """x -> encoder -> code -> decoder -> x again.

    With a memory of the encoder's states this is **no compressor**, which is said once, in the log.

    Args:
        encoder: any network ``(x, mask) -> codes`` that ends with a :class:`~cvkan.models.heads.CodeHead`.
        decoder: takes the code.

    Raises:
        ValueError: the encoder ends with another head, gives codes that the decoder does not take, or has no states
            for a decoder with memory.
    """

    def __init__(self, encoder: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        name = type(encoder).__name__
        if not any(isinstance(module, CodeHead) for module in encoder.children()):
            raise ValueError(f"{name} gives no code; set task_head=code")
        if self.head.d_latent != decoder.d_latent:
            raise ValueError(
                f"the code has {self.head.d_latent} numbers, the decoder takes {decoder.d_latent}; set domain.d_latent"
            )
        if decoder.d_memory and "return_states" not in inspect.signature(encoder.forward).parameters:
            raise ValueError(
                f"the decoder looks at states of the encoder, {name} has none; set model=recurrent, or memory=none"
            )
        if self.gives_code_a_token() != decoder.per_token:
            given, taken, fix = ("sequence", "token", "none") if decoder.per_token else ("token", "sequence", "mean")
            raise ValueError(
                f"{name} gives a code a {given}, the decoder takes one a {taken}; set code={given}, or pooling={fix} "
                "with model=cvkan"
            )
        if decoder.d_memory:
            log.warning(
                "Not a compressor: the decoder sees %d numbers of a sequence of %d tokens, its code has %d.",
                *(self.floats_per_chunk(decoder.n_tokens), decoder.n_tokens, decoder.d_latent),
            )

    @property
    def head(self) -> CodeHead:
        """The last part of the encoder."""
        return cast(CodeHead, self.encoder.head)

    @property
    def d_latent(self) -> int:
        """Numbers d of a code."""
        return self.decoder.d_latent

    @property
    def autoregressive(self) -> bool:
        """The decoder goes on from what came before."""
        return self.decoder.autoregressive

    def gives_code_a_token(self) -> bool:
        """Has the encoder a code for each token? It is asked by a sample of zeros."""
        is_training = self.encoder.training
        with torch.no_grad():
            codes = self.encoder.eval()(torch.zeros(1, self.decoder.n_tokens, self.decoder.d_vector))
        self.encoder.train(is_training)
        return codes.ndim == 3

    def encode(self, x: Tensor, mask: Tensor) -> Code:
        """The code of vectors (B, N, D); mask (B, N), 1 = valid, the padding behind."""
        if not self.decoder.d_memory:
            return Code(self.head.normalised(self.encoder(x, mask), mask))
        raw, states = self.encoder(x, mask, return_states=True)
        return Code(self.head.normalised(raw, mask), states, mask)

    def decode(self, code: Code, mask: Tensor, gold: Tensor | None = None, forced: Tensor | None = None) -> Tensor:
        """Vectors (B, N, D) for a code.

        Args:
            code: of :meth:`encode`, or any other.
            mask: (B, N), 1 = a token is wanted here; what stands elsewhere means nothing.
            gold: the true vectors (B, N, D), for an autoregressive decoder; None: it goes on from its own output.
            forced: bool, (N,) for the whole batch or (B, N): at step t the true vector t - 1 goes in, not the output
                t - 1. Step 0 has neither. Given if and only if ``gold`` is.
        """
        return self.decoder(code, mask, gold, forced)

    def forward(self, x: Tensor, mask: Tensor, gold: Tensor | None = None, forced: Tensor | None = None) -> Tensor:
        """x (B, N, D) by way of its code, see :meth:`decode`."""
        return self.decode(self.encode(x, mask), mask, gold, forced)

    def floats_per_chunk(self, max_length: int) -> int:
        """Numbers that reach the decoder for a sequence of ``max_length`` tokens."""
        codes = self.d_latent * (max_length if self.decoder.per_token else 1)
        return codes + self.decoder.d_memory * max_length

    def compression(self) -> float | None:
        """Numbers of a whole sequence for one that reaches the decoder; None with memory: that is no compressor."""
        if self.decoder.d_memory:
            return None
        n_tokens = self.decoder.n_tokens
        return n_tokens * self.decoder.d_vector / self.floats_per_chunk(n_tokens)
