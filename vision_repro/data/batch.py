"""What a loader yields. B: images of the batch, H and W: height and width in pixels."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Images uint8 `[B, 3, H, W]` and their class numbers int64 `[B]`."""

    images: Tensor
    labels: Tensor
