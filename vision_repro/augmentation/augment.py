"""Training augmentation of whole batches on the device, drawn from torch's global generators.

Policies are written in the grammar of `policy`. Flip, crop and inception draw on the device of the images; the rest
draws on the CPU, so that it is the same on every device.
B: images, C: channels, H and W: height and width in pixels, S: side of a square image.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vision_repro.augmentation import colour
from vision_repro.augmentation.batch import Batch
from vision_repro.augmentation.chunked import in_parts
from vision_repro.augmentation.mix import Mixed, erase, mix
from vision_repro.augmentation.policy import Policy, parse
from vision_repro.augmentation.randaugment import randaugment
from vision_repro.augmentation.warp import random_motions, warp
from vision_repro.config import UserError

AREA = (0.05, 1.0)  # of the image; ViT's released input_pipeline.py
RATIO = (3 / 4, 4 / 3)  # width over height
TRIES = 10


def training_batch(batch: Batch, policy: str | Policy) -> Mixed:
    """Returns the augmented batch, its labels mixed where the policy mixes: what a training step needs.

    Raises:
        UserError: for an unknown or impossible policy.
    """
    policy = parse(policy) if isinstance(policy, str) else policy
    return mix(augment(batch.images, policy), batch.labels, policy)


def augment(images: Tensor, policy: str | Policy) -> Tensor:
    """Returns augmented images `[B, C, H, W]`, in the shape and type of `images`; mixup and cutmix are left out.

    Colours, RandAugment and erasing need uint8.

    Raises:
        UserError: for an unknown or impossible policy, or one that only the worker processes can carry out.
    """
    policy = parse(policy) if isinstance(policy, str) else policy
    images = _crop_and_flip(images, policy)
    if policy.warps:
        images = warp(images, *random_motions(policy, len(images), *images.shape[2:]))
    if policy.jitter:
        images = jitter(images, policy.jitter)
    if policy.randaugment:
        images = randaugment(images, *policy.randaugment)
    return erase(images, policy.erase) if policy.erase else images


def _crop_and_flip(images: Tensor, policy: Policy) -> Tensor:
    if policy.needs_whole_images:
        raise UserError(
            f'--augmentation="{policy}" crops images of any size, and these have one size in memory: '
            "expected inception or crop-flip."
        )
    if policy.crop == "pad":
        pad = tuple(side // 8 for side in images.shape[2:])
        top, left = (torch.randint(0, 2 * p + 1, (len(images),), device=images.device) for p in pad)
        return crop_flip(images, top, left, _coins(images) if policy.flip else torch.zeros_like(top, dtype=torch.bool))
    if policy.crop == "inception":
        boxes = inception_boxes(len(images), images.shape[2], images.shape[3], images.device)
        images = in_parts(crop_resize, images, boxes)
    return flip(images, _coins(images)) if policy.flip else images


def jitter(images: Tensor, most: float) -> Tensor:
    """Returns uint8 images with brightness, contrast and saturation each times 1 - `most` to 1 + `most`, uniform.

    Deviation: in this order, where torchvision draws one; the three hardly depend on it.
    """
    factors = (1 + most * (2 * torch.rand(len(images), 3) - 1)).to(images.device, non_blocking=True)
    return in_parts(_jitter, images, factors)


def _jitter(images: Tensor, factors: Tensor) -> Tensor:
    for change, factor in zip((colour.brightness, colour.contrast, colour.saturation), factors.unbind(1), strict=True):
        images = change(images, factor)
    return images


def normalise(images: Tensor, mean: float = 0.5, std: float = 0.5) -> Tensor:
    """Returns uint8 images as float32: scaled to [0, 1], minus `mean`, over `std` ([-1, 1] for 0.5 and 0.5).

    Blended images come as float32 in [0, 255]; they are left as they are.
    """
    return images.to(torch.float32, copy=True).mul_(1 / (255 * std)).sub_(mean / std)


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
    with torch.autocast(images.device.type, enabled=False):  # bf16 has fewer steps than a pixel
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
