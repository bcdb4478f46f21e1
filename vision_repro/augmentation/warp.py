"""Geometric augmentation of whole batches: one bilinear resampling, however many motions it is made of.

B: images, C: channels, H and W: height and width in pixels. x runs to the right, y down, from the centre of the image.
A motion is the inverse map float32 `[B, 2, 3]`: the point of the input that is shown at a point of the output [pixels].
What comes from outside the image has the value `fill`.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vision_repro.augmentation.chunked import in_parts
from vision_repro.augmentation.policy import Policy


def random_motions(policy: Policy, count: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Returns motions `[count, 2, 3]` and lens coefficients `[count]` drawn on the CPU: uniform, and of either sign.

    An image is stretched, slanted, turned and shifted, in this order. The ratio of a stretch is log-uniform; a slant is
    along x or along y with equal chance.
    """
    draws = torch.rand(7, count).mul_(2).sub_(1)
    angle = draws[0] * math.radians(policy.rotate)
    slant = torch.tan(draws[1] * math.radians(policy.shear))
    ratio = torch.exp(draws[2] * (math.log(policy.stretch) / 2))
    shift_x, shift_y = draws[3] * policy.translate * width, draws[4] * policy.translate * height
    along_x = draws[5] < 0
    zero, one = torch.zeros(count), torch.ones(count)
    shear_x, shear_y = torch.where(along_x, slant, zero), torch.where(along_x, zero, slant)
    with torch.autocast("cpu", enabled=False):  # bf16 would move images by pixels
        forward = (
            matrix(angle.cos(), -angle.sin(), angle.sin(), angle.cos())
            @ matrix(one, shear_x, shear_y, one)
            @ matrix(ratio, zero, zero, 1 / ratio)
        )
        inverse = torch.linalg.inv(forward)
        shift = inverse @ torch.stack((shift_x, shift_y), dim=1)[:, :, None]
    return torch.cat((inverse, -shift), dim=2), draws[6] * policy.lens


def matrix(xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor) -> Tensor:
    """Returns the matrices `[B, 2, 2]` with rows (xx, xy) and (yx, yy), each entry `[B]`."""
    return torch.stack((xx, xy, yx, yy), dim=1).view(-1, 2, 2)


def warp(images: Tensor, motions: Tensor, lens: Tensor | None = None, fill: float = 0.0) -> Tensor:
    """Returns the images `[B, C, H, W]` moved by `motions` `[B, 2, 3]` and seen through lenses of coefficient `[B]`.

    A lens shows at distance r from the centre, in halves of the shorter side, what was at r (1 + coefficient r^2).
    Bilinear, rounded to the type of `images`.
    """
    if len(images) == 0:
        return images
    motions = motions.to(images.device, non_blocking=True)
    lens = None if lens is None else lens.to(images.device, non_blocking=True)
    return in_parts(partial(_resample, fill=fill), images, motions, lens)


def _grid(motions: Tensor, lens: Tensor | None, height: int, width: int) -> Tensor:
    """Returns the places `[B, H, W, 2]` to sample, in halves of the sides.

    Sums of rows and columns, not a matrix product: that would be rounded to bf16 or TF32 where training is.
    """
    x = torch.arange(width, device=motions.device) - (width - 1) / 2
    y = torch.arange(height, device=motions.device) - (height - 1) / 2
    grid = motions.new_empty(len(motions), height, width, 2)
    if lens is not None:
        radius = (y.square()[:, None] + x.square()) * (2 / min(height, width)) ** 2
        magnified = 1 + lens[:, None, None] * radius
    for axis, scale in ((0, 2 / width), (1, 2 / height)):
        row = motions[:, axis] * scale
        along_x, along_y, shift = row[:, 0:1], row[:, 1:2], row[:, 2:3]
        if lens is None:
            torch.add((along_x * x)[:, None, :], (along_y * y + shift)[:, :, None], out=grid[..., axis])
        else:
            place = (along_x * x)[:, None, :] + (along_y * y)[:, :, None]
            grid[..., axis] = place.mul_(magnified).add_(shift[:, :, None])
    return grid


def _resample(images: Tensor, motions: Tensor, lens: Tensor | None, fill: float) -> Tensor:
    grid = _grid(motions, lens, *images.shape[2:])
    pixels = images.to(torch.float32) - fill if fill else images.to(torch.float32)
    sampled = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if fill:
        sampled.add_(fill)
    return sampled.to(images.dtype) if images.dtype.is_floating_point else sampled.round_().to(images.dtype)
