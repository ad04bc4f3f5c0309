"""A real series as a sample: what the networks that read one share.

Legend: B series, L samples of one.
"""

from __future__ import annotations

from torch import Tensor

from cvkan.spec import Spec


def series_length(spec: Spec, user: str, at_least: int = 1) -> int:
    """Samples L of a series, or a ``ValueError`` if the data is no real series with one answer, or too short."""
    if spec.is_complex or len(spec.input_shape) != 1 or spec.vocabulary or spec.per_token:
        raise ValueError(
            f"{user} reads real series (n_samples,) and gives one answer to each, got samples of shape "
            f"{spec.input_shape} and targets of kind {spec.target!r}; set domain=timeseries or choose another model"
        )
    if spec.input_shape[0] < at_least:
        raise ValueError(
            f"{user} needs series of {at_least} samples or more, the data has {spec.input_shape[0]}; lengthen them"
        )
    return spec.input_shape[0]


def real_series(x: Tensor, mask: Tensor | None) -> Tensor:
    """Series (B, L) with 0 where the mask (B, L) is 0, whatever stood there."""
    return x if mask is None else x.masked_fill(~mask.bool(), 0.0)
