"""Local response normalisation across channels (AlexNet, section 3.3).

b_i = a_i / (k + alpha * sum of a_j^2 over the n channels j around i)^beta

torch's LocalResponseNorm, like Caffe's, divides alpha by n, unlike the paper's formula: alpha 5e-4 there is the paper's
1e-4. It also averages by a 3-d pooling, which is slow on a CPU. The sum of n shifted views here takes about half the
time, including the backward pass, and works in both memory formats.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResponseNorm(nn.Module):
    """Normalises maps `[B, C, H, W]` over windows of `size` channels, which end at the first and the last channel."""

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> None:
        """Takes n, alpha, beta and k of the paper's formula; the defaults are the paper's values."""
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, maps: Tensor) -> Tensor:
        """Returns the normalised maps in their own type.

        The sum is computed in float32 at least: in half precision it would be lost when k is added.
        """
        wide = maps.to(torch.promote_types(maps.dtype, torch.float32))
        channels = maps.shape[1]
        squares = F.pad(wide * wide, (0, 0, 0, 0, self.size // 2, (self.size - 1) // 2))
        total = squares.narrow(1, 0, channels)
        for shift in range(1, self.size):
            total = total + squares.narrow(1, shift, channels)
        return (wide * (self.k + self.alpha * total).pow(-self.beta)).to(maps.dtype)

    def extra_repr(self) -> str:
        """Returns the four constants, for `print(model)`."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
