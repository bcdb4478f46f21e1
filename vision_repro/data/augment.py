"""Training augmentation of whole batches on the device, drawn from torch's global generator.

B: images, C: channels, H and W: height and width in pixels, S: side of a square image.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vision_repro.config import UserError, nearest

POLICIES = ("none", "flip", "crop-flip", "inception")
AREA = (0.05, 1.0)  # of the image; ViT's released input_pipeline.py
RATIO = (3 / 4, 4 / 3)  # width over height
TRIES = 10


def augment(images: Tensor, policy: str) -> Tensor:
    """Returns augmented images `[B, C, H, W]`, in the shape and type of `images`.

    - flip: left-right with probability 0.5.
    - crop-flip: a random crop of the image padded with black by 1/8 of its size (4 pixels at 32), then flip.
    - inception: a random box of 5 % to 100 % of the area (ViT, B.1), resized to the whole, then flip.

    Raises:
        UserError: for an unknown policy.
    """
    if policy == "none":
        return images
    if policy == "flip":
        return flip(images, _coins(images))
    if policy == "crop-flip":
        pad = tuple(side // 8 for side in images.shape[2:])
        top, left = (torch.randint(0, 2 * p + 1, (len(images),), device=images.device) for p in pad)
        return crop_flip(images, top, left, _coins(images))
    if policy == "inception":
        boxes = inception_boxes(len(images), images.shape[2], images.shape[3], images.device)
        return flip(crop_resize(images, boxes), _coins(images))
    raise unknown(policy)


def unknown(policy: str) -> UserError:
    """Returns the error that says which policies there are."""
    known = ", ".join(POLICIES)
    return UserError(f'--augmentation="{policy}" is unknown: expected one of {known}.{nearest(policy, POLICIES)}')


def normalise(images: Tensor, mean: float = 0.5, std: float = 0.5) -> Tensor:
    """Returns uint8 images as float32: scaled to [0, 1], minus `mean`, over `std` ([-1, 1] for 0.5 and 0.5)."""
    return images.to(torch.float32).mul_(1 / (255 * std)).sub_(mean / std)


def _coins(images: Tensor) -> Tensor:
    return torch.rand(len(images), device=images.device) < 0.5


def flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Returns the images `[B, C, H, W]`, those that bool `mirrored` [B] marks flipped left-right."""
    columns = torch.arange(images.shape[3], device=images.device)
    columns = torch.where(mirrored[:, None], columns.flip(0), columns)
    return images.gather(3, columns[:, None, None, :].expand(images.shape))


def crop_flip(images: Tensor, top: Tensor, left: Tensor, mirrored: Tensor) -> Tensor:
    """Returns crops `[B, C, H, W]` at corners `top`, `left` [B] of the images padded by 1/8, flipped where `mirrored`.

    One gather over the flattened pixels: on a CPU faster than a loop, than windows by `unfold` and than `grid_sample`.
    """
    batch, channels, height, width = images.shape
    pad_y, pad_x = height // 8, width // 8
    padded = F.pad(images, (pad_x, pad_x, pad_y, pad_y)).flatten(2)
    columns = torch.arange(width, device=images.device)
    columns = torch.where(mirrored[:, None], columns.flip(0), columns) + left[:, None]
    rows = torch.arange(height, device=images.device) + top[:, None]
    index = rows[:, :, None] * (width + 2 * pad_x) + columns[:, None, :]
    return padded.gather(2, index.view(batch, 1, -1).expand(-1, channels, -1)).view_as(images)


def inception_boxes(count: int, height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Returns random boxes int64 `[count, 4]` as (top, left, height, width) in pixels.

    The first of ten candidates that fits the image is taken, else the whole image.
    Deviation: the aspect ratio is log-uniform as in torchvision, where TensorFlow's operation behind the paper draws it
    uniformly; equal weight for wide and tall boxes, and the difference in area is within the range of either.
    """
    low, high = AREA
    area = torch.empty(TRIES, count, device=device).uniform_(low, high) * height * width
    ratio = torch.empty(TRIES, count, device=device).uniform_(math.log(RATIO[0]), math.log(RATIO[1])).exp()
    heights, widths = (area / ratio).sqrt().round().clamp(min=1), (area * ratio).sqrt().round().clamp(min=1)
    fits = (heights <= height) & (widths <= width)
    first = fits.to(torch.uint8).argmax(0, keepdim=True)
    found = fits.any(0)
    box_height = torch.where(found, heights.gather(0, first)[0], height)
    box_width = torch.where(found, widths.gather(0, first)[0], width)
    top = torch.rand(count, device=device) * (height - box_height + 1)
    left = torch.rand(count, device=device) * (width - box_width + 1)
    return torch.stack((top.floor(), left.floor(), box_height, box_width), dim=1).long()


def crop_resize(images: Tensor, boxes: Tensor) -> Tensor:
    """Returns the `boxes` int64 `[B, 4]` of the images, each resized bilinearly to the whole `[B, C, H, W]`.

    Bilinear resizing is separable: one product with a matrix of weights for the rows, one for the columns, which on a
    CPU beats `grid_sample`. Rounded to the type of `images`.
    """
    top, left, height, width = boxes.unbind(1)
    rows = _weights(top, height, images.shape[2])
    columns = _weights(left, width, images.shape[3])
    resized = rows[:, None] @ images.to(torch.float32) @ columns[:, None].mT
    if images.dtype.is_floating_point:
        return resized.to(images.dtype)
    return resized.round_().clamp_(0, 255).to(images.dtype)


def _weights(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Returns float32 `[B, size, size]`: the weight of each input pixel in each output pixel of a bilinear resize."""
    pixels = torch.arange(size, device=start.device)
    centre = ((pixels + 0.5) * (length / size)[:, None] - 0.5).clamp(min=0).minimum((length - 1)[:, None])
    inputs = pixels - start[:, None]
    # a triangle of width 2 around the centre; within the box, as the centre stays in it
    return (centre[:, :, None] - inputs[:, None, :]).abs_().neg_().add_(1).clamp_(min=0)
