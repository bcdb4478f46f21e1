"""Pictures of an objective on masked patches: images, masked images, and predictions.

Legend: B images of H x H pixels, N patches of P x P pixels, M of them corrupted.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vision_repro.tasks.patch_targets import to_images

GREY = 0.5
"""The grey of masked patches."""


class Reconstruction(NamedTuple):
    """Three rows of pictures, each uint8 `[B, 3, H, H]` on the CPU."""

    images: Tensor
    masked: Tensor
    """The input of the encoder: masked patches are grey, and a replaced patch shows the one that replaces it."""
    predicted: Tensor
    """The images with predictions in place of the corrupted patches."""


def as_pictures(patches: Tensor, side: int) -> Tensor:
    """Returns the pictures uint8 `[B, 3, H, H]` of patches `[B, N, 3 P^2]` in [0, 1], clipped and rounded."""
    return (to_images(patches, side).clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def placed(patches: Tensor, where: Tensor, values: Tensor) -> Tensor:
    """Returns patches `[B, N, 3 P^2]` with `values` `[B, M, 3 P^2]` at the indices `where` int64 `[B, M]`."""
    return patches.scatter(1, where[..., None].expand_as(values), values)
