"""RandAugment (Cubuk et al. 2019, arXiv 1909.13719) on whole batches: each image gets operations of its own.

B: images, C: channels, H and W: height and width in pixels, n: the images that one operation is for.
A level is what the magnitude of the paper is for one image: from 0 to 10, negative for the other direction; 10 is the
end of the range of AutoAugment (arXiv 1805.09501, Table 6), as in the authors' code. torchvision counts to 30 instead.

Deviation: posterize and solarize grow stronger with the level. In the authors' code level 10 is the weakest of both,
which works against the paper's one magnitude for all operations; timm calls ours "increasing".
Deviation: color, contrast, brightness and sharpness go both ways, 1 + or - 0.09 a level, as in torchvision and timm. In
the authors' code level 5 does nothing, level 10 only strengthens.
Deviation: bilinear interpolation, where the authors' code takes the nearest pixel; small images suffer from the latter.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vision_repro.augmentation import colour
from vision_repro.augmentation.chunked import in_parts
from vision_repro.augmentation.warp import matrix, warp

GREY = 128.0  # comes in from outside the image, as in the authors' code
TURN = 30.0  # degrees
SLANT = 0.3  # pixels a pixel
SHIFT = 150 / 331  # of the side
ENHANCE = 0.9
POSTERIZE_BITS = 4
HIGHEST = 10.0

Colour = Callable[[Tensor, Tensor], Tensor]


def _enhance(change: Colour) -> Colour:
    return lambda images, level: change(images, 1 + level * (ENHANCE / HIGHEST))


COLOURS: dict[str, Colour] = {
    "autocontrast": lambda images, level: colour.autocontrast(images),
    "equalize": lambda images, level: colour.equalize(images),
    "solarize": lambda images, level: colour.solarize(images, 256 - (level.abs() * 25.6).round()),
    "color": _enhance(colour.saturation),
    "posterize": lambda images, level: colour.posterize(images, 8 - (level.abs() * POSTERIZE_BITS / HIGHEST).round()),
    "contrast": _enhance(colour.contrast),
    "brightness": _enhance(colour.brightness),
    "sharpness": _enhance(colour.sharpness),
}
MOTIONS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = ("identity", *COLOURS, *MOTIONS)


def randaugment(images: Tensor, operations: int, magnitude: float, std: float = 0.0) -> Tensor:
    """Returns images uint8 `[B, C, H, W]`, each changed by `operations` operations drawn with replacement.

    `std` is the deviation of normal noise on the magnitude of each image. Drawn on the CPU, where what is to be done
    has to be known, so that a GPU is not waited for.
    """
    count = len(images)
    for _ in range(operations):
        chosen = torch.randint(len(OPERATIONS), (count,))
        sign = torch.randint(2, (count,)) * 2 - 1
        level = magnitude + std * torch.randn(count) if std else torch.full((count,), float(magnitude))
        images = apply(images, chosen, level.clamp(0, HIGHEST) * sign)
    return images


def apply(images: Tensor, chosen: Tensor, level: Tensor) -> Tensor:
    """Returns images uint8 `[B, C, H, W]` after the operations of number `chosen` int64 [B] at `level` [B] (CPU)."""
    result = images.clone()
    for number, name in enumerate(OPERATIONS):
        if name in COLOURS:
            _replace(result, chosen == number, COLOURS[name], level)
    moved = chosen >= OPERATIONS.index(MOTIONS[0])
    if moved.any():
        motions = inverse_motions(chosen[moved] - OPERATIONS.index(MOTIONS[0]), level[moved], *images.shape[2:])
        index = moved.nonzero()[:, 0].to(images.device, non_blocking=True)
        result.index_copy_(0, index, warp(images.index_select(0, index), motions, fill=GREY))
    return result


def _replace(images: Tensor, mask: Tensor, change: Colour, level: Tensor) -> None:
    """Puts the changed images in the place of those that bool `mask` [B] (CPU) marks."""
    index = mask.nonzero()[:, 0]
    if len(index):
        there = index.to(images.device, non_blocking=True)
        some = images.index_select(0, there)
        level = level[index].to(images.device, non_blocking=True)
        images.index_copy_(0, there, in_parts(change, some, level))


def inverse_motions(kinds: Tensor, level: Tensor, height: int, width: int) -> Tensor:
    """Returns the motions `[n, 2, 3]` of `vision_repro.augmentation.warp` for numbers `kinds` int64 [n] in MOTIONS.

    A slant keeps the top row or the left column in place, as PIL's does.
    """
    share = level / HIGHEST
    rotate, shear_x, shear_y, translate_x, translate_y = (
        torch.where(kinds == number, share, 0.0) for number in range(len(MOTIONS))
    )
    angle = rotate * math.radians(TURN)
    slant_x, slant_y = shear_x * SLANT, shear_y * SLANT
    turned = matrix(angle.cos(), angle.sin() + slant_x, slant_y - angle.sin(), angle.cos())
    shift_x = -translate_x * (SHIFT * width) + slant_x * (height / 2)
    shift_y = -translate_y * (SHIFT * height) + slant_y * (width / 2)
    return torch.cat((turned, torch.stack((shift_x, shift_y), dim=1)[:, :, None]), dim=2)
