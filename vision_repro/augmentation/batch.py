"""What a loader yields. B: images of the batch, V: views of an image, H and W: height and width in pixels."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Images uint8 `[B, 3, H, W]`, or `[B, V, 3, H, W]` with several views of each, and class numbers int64 `[B]`."""

    images: Tensor
    labels: Tensor
