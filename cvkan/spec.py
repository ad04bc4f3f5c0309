"""The contract between data, models and tasks: what a sample looks like and what a batch is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

# Keys: "x" inputs, "y" targets, and "mask" (B, N), 1 = valid, where lengths differ.
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Spec:
    """What a model must know about the data.

    Attributes:
        input_shape: shape of one sample's ``x``, without the batch dimension.
        target: kind of target, matched against the task: ``"classes"`` (``y`` (B,) int64), ``"token_mask"``
            (``y`` (B, N), 1 = the token is wanted), ``"modulation_snr"`` (``y`` (B, 2) int64, indices into
            ``class_names`` and ``snr_db``), ``"vectors"`` (``y`` (B, N) int64, ids of the vectors in ``x``, which
            are to be given back out of a small code) or ``"forecast"`` (``y`` (B, H, C), what follows the window ``x``
            (B, L, C); a network sees one channel at a time, so that ``input_shape`` is (L,)). No data have
            ``"next_patch"``: it is what the network within an autoregressive forecaster is asked, of each patch of
            ``input_shape`` (L + H - P,) the P samples after it.
        n_outputs: number of logits a sample (``classes``; ``modulation_snr``: of the modulations, then of the SNRs) or
            a token (``token_mask``), numbers of a vector (``vectors``), or of a channel's forecast (``forecast``: H
            steps, of each as many numbers as there are ``quantiles``, at least one).
        class_names: one name a class, in label order; empty where there are no classes.
        is_complex: ``x`` is a complex tensor.
        sample_rate_hz: sampling rate of a waveform, else None.
        snr_db: levels of the signal-to-noise ratio in dB, ascending; empty where the data has none.
        vocabulary: the word of each id where ``x`` holds ids of words; id 0 is padding.
        channels: names of the columns of a series.
        quantiles: levels that a forecast gives, ascending, between 0 and 1; empty for one number, the mean.
    """

    input_shape: tuple[int, ...]
    target: str
    n_outputs: int
    class_names: tuple[str, ...] = ()
    is_complex: bool = False
    sample_rate_hz: int | None = None
    snr_db: tuple[float, ...] = ()
    vocabulary: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = ()

    @property
    def per_token(self) -> bool | None:
        """The target asks for one output a token, not one a sample; None where either will do."""
        return None if self.target == "vectors" else self.target in ("token_mask", "next_patch")
