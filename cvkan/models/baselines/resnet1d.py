"""A residual network along time, the reference of the RadioML 2018.01A data.

Source: O'Shea, Roy and Clancy, "Over-the-air deep learning based radio signal classification", IEEE Journal of Selected
Topics in Signal Processing 12(1), 2018, tables III and IV and figure 5.

Legend: B frames, T samples, C channels, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.models.iq import iq_length, iq_planes
from cvkan.spec import Spec


class ResNet1d(nn.Module):
    """Residual stacks that halve the length, two SELU layers of 128 units, the head.

    A stack: 1x1 convolution, two residual units conv(relu(conv(x))) + x of 32 channels, max pooling by 2. The paper
    has six stacks for 1024 samples and states 236,344 parameters; the layers it describes have 165,144 of them
    (filters of 3 samples, 24 classes), and it does not say what holds the others.

    Args:
        spec: frames of I/Q samples (T,).
        n_stacks: stacks.
        d_model: channels C.
        kernel_size: odd width of a filter, samples.
        dropout: probability of alpha dropout after each of the two last layers.
        head: constructor of what makes logits of features, ``head(n_features, spec)``.

    Raises:
        ValueError: the samples are no I/Q frames or too few to be halved that often, or a size is out of range.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        n_stacks: int,
        d_model: int,
        kernel_size: int,
        dropout: float,
        head: Callable[..., nn.Module],
    ) -> None:
        super().__init__()
        if n_stacks < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"n_stacks must be positive and kernel_size odd and positive, got {n_stacks} and {kernel_size}"
            )
        n_samples = iq_length(spec, "model=resnet1d", at_least=2**n_stacks)
        self.stacks = nn.Sequential(
            *(ResidualStack(d_model if i else 2, d_model, kernel_size) for i in range(n_stacks)), nn.Flatten()
        )
        self.dense = nn.Sequential(
            *(nn.Linear(d_model * (n_samples // 2**n_stacks), 128), nn.SELU(), nn.AlphaDropout(dropout)),
            *(nn.Linear(128, 128), nn.SELU(), nn.AlphaDropout(dropout)),
        )
        self.head = head(n_features=128, spec=spec)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, K) of frames (B, T) complex; mask (B, T), 1 = valid sample."""
        return self.head(self.dense(self.stacks(iq_planes(x, mask))))


class ResidualStack(nn.Module):
    """Maps (B, C_in, T) to (B, C, T / 2)."""

    def __init__(self, d_in: int, d_model: int, kernel_size: int) -> None:
        super().__init__()
        self.project = nn.Conv1d(d_in, d_model, 1)
        self.units = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(d_model, d_model, kernel_size, padding="same"),
                nn.ReLU(),
                nn.Conv1d(d_model, d_model, kernel_size, padding="same"),
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        for unit in self.units:
            x = x + unit(x)
        return F.max_pool1d(x, 2)
