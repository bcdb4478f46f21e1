"""Changes of colour, a number an image, on whole batches.

Images are uint8 `[B, C, H, W]` with C = 1 or 3; B: images, H and W: height and width in pixels. Results are rounded,
where PIL and torchvision cut off: at most 1 of 255 apart, and a chain of changes does not darken the image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue; ITU-R 601, as in PIL


def blend(images: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    """Returns `factor` [B] times the images plus 1 - `factor` times `other` (float, broadcast), as uint8."""
    factor = _each(factor)
    return images.to(torch.float32).mul_(factor).add_(other * (1 - factor)).round_().clamp_(0, 255).to(torch.uint8)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Returns the images with brightness times `factor` [B]: 0 is black."""
    return blend(images, 0.0, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Returns the images with contrast times `factor` [B]: 0 is the mean grey."""
    return blend(images, _grey(images).mean((1, 2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Returns the images with saturation times `factor` [B]: 0 is greyscale."""
    return blend(images, _grey(images), factor) if images.shape[1] == 3 else images


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Returns the images with sharpness times `factor` [B]: 0 is smoothed by 3 x 3 pixels; the border stays."""
    height, width = images.shape[2:]
    if min(height, width) < 3:
        return images
    smooth = images.to(torch.float32)
    centre = smooth[:, :, 1:-1, 1:-1]
    around = F.avg_pool2d(smooth, 3, stride=1) * 9
    smooth[:, :, 1:-1, 1:-1] = around.add_(centre, alpha=4).div_(13).round_()
    return blend(images, smooth, factor)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Returns the images with the upper `bits` [B] of each value, the others 0."""
    return images & _each(256 - 2 ** (8 - bits.long())).to(torch.uint8)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Returns the images with the values from `threshold` [B] on inverted; 256 inverts nothing, 0 everything."""
    return torch.where(images.short() >= _each(threshold), 255 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Returns the images with each channel stretched from 0 to 255; a channel of one value stays."""
    pixels = images.to(torch.float32)
    low, high = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    stretched = pixels.sub_(low).mul_(255).div_((high - low).clamp(min=1)).round_().to(torch.uint8)
    return torch.where(high > low, stretched, images)


def equalize(images: Tensor) -> Tensor:
    """Returns the images with the histogram of each channel made flat, by PIL's rule for whole numbers.

    A channel stays where all but its highest value together make less than 255 pixels.
    """
    values = images.flatten(2).long()
    ones = torch.ones((), dtype=torch.int64, device=images.device).expand_as(values)
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.int64, device=images.device).scatter_add_(2, values, ones)
    highest = values.amax(2, keepdim=True)
    step = (values.shape[2] - counts.gather(2, highest)) // 255
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    flat = table.gather(2, values).to(torch.uint8).view_as(images)
    return torch.where((step > 0)[..., None], flat, images)


def _grey(images: Tensor) -> Tensor:
    """Returns whole grey values, float32 `[B, 1, H, W]`."""
    pixels = images.to(torch.float32)
    if images.shape[1] == 1:
        return pixels
    red, green, blue = (pixels[:, i : i + 1] * weight for i, weight in enumerate(LUMA))
    return (red + green + blue).floor_()


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]
