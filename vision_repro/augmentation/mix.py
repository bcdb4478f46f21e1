"""Random erasing, mixup and cutmix of whole batches.

B: images, C: channels, H and W: height and width in pixels, K: classes. Draws are made on the CPU, where boxes and
pairs have to be known, so that a GPU is not waited for.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vision_repro.augmentation.policy import Mixing, Policy

ERASED_AREA = (0.02, 0.4)  # of the image; Random Erasing (Zhong et al. 2017, arXiv 1708.04896), section 4
ERASED_RATIO = (0.3, 1 / 0.3)  # height over width
TRIES = 10


class Mixed(NamedTuple):
    """A training batch: images `[B, C, H, W]` (uint8, or float32 in [0, 255] if blended) and labels int64 `[B]`.

    Where two images became one, `weight` float32 `[B]` is the share of `labels`, and `other` int64 `[B]` has the rest.
    """

    images: Tensor
    labels: Tensor
    other: Tensor | None = None
    weight: Tensor | None = None


def erase(images: Tensor, probability: float) -> Tensor:
    """Returns uint8 images, some with a random box of random pixels (Random Erasing, Algorithm 1)."""
    count, channels, height, width = images.shape
    index = (torch.rand(count) < probability).nonzero()[:, 0]
    if len(index) == 0:
        return images
    boxes = erased_boxes(len(index), height, width)
    words = torch.empty(len(index), -(-channels * height * width // 8), dtype=torch.int64, device=images.device)
    noise = words.random_(-(2**63), None).view(torch.uint8)[:, : channels * height * width]
    index, boxes = (values.to(images.device, non_blocking=True) for values in (index, boxes))
    inside = _inside(boxes, height, width)
    some = torch.where(inside, noise.view(-1, channels, height, width), images.index_select(0, index))
    return images.index_copy(0, index, some)


def erased_boxes(count: int, height: int, width: int) -> Tensor:
    """Returns boxes int64 `[count, 4]` (CPU) as (top, left, height, width) in pixels, all 0 if ten tries do not fit."""
    area = torch.empty(TRIES, count).uniform_(*ERASED_AREA) * height * width
    ratio = torch.empty(TRIES, count).uniform_(*ERASED_RATIO)
    heights, widths = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (heights < height) & (widths < width)
    first = fits.to(torch.uint8).argmax(0, keepdim=True)
    box_height, box_width = (sides.gather(0, first)[0] * fits.any(0) for sides in (heights, widths))
    top = (torch.rand(count) * (height - box_height + 1)).floor()
    left = (torch.rand(count) * (width - box_width + 1)).floor()
    return torch.stack((top, left, box_height, box_width), dim=1).long()


def _inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """Returns bool `[B, 1, H, W]`: the pixels in the boxes `[B, 4]`."""
    top, left, box_height, box_width = boxes[:, :, None].unbind(1)
    y, x = torch.arange(height, device=boxes.device), torch.arange(width, device=boxes.device)
    rows, columns = (y >= top) & (y < top + box_height), (x >= left) & (x < left + box_width)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def mix(images: Tensor, labels: Tensor, policy: Policy) -> Mixed:
    """Returns the batch with each image mixed with another one of it, drawn without replacement, itself included."""
    if not policy.mixes:
        return Mixed(images, labels)
    both = policy.mixup is not None and policy.cutmix is not None
    cut = bool(torch.rand(()) < 0.5) if both else policy.cutmix is not None
    mixing = policy.cutmix if cut else policy.mixup
    assert mixing is not None
    order = torch.randperm(len(images)).to(images.device, non_blocking=True)
    partners = images.index_select(0, order)
    mixed, weight = (_cutmix if cut else _mixup)(images, partners, mixing)
    return Mixed(mixed, labels, labels.index_select(0, order), weight)


def _mixup(images: Tensor, partners: Tensor, mixing: Mixing) -> tuple[Tensor, Tensor]:
    weight = beta(mixing, len(images)).to(images.device, torch.float32, non_blocking=True)
    share = weight[:, None, None, None]
    return torch.lerp(partners.to(torch.float32), images.to(torch.float32), share), weight


def _cutmix(images: Tensor, partners: Tensor, mixing: Mixing) -> tuple[Tensor, Tensor]:
    height, width = images.shape[2:]
    boxes = cut_boxes(1 - beta(mixing, len(images)), mixing.each, height, width)
    boxes = boxes.to(images.device, non_blocking=True)
    weight = 1 - boxes[:, 2] * boxes[:, 3] / (height * width)
    return torch.where(_inside(boxes, height, width), partners, images), weight


def beta(mixing: Mixing, count: int) -> Tensor:
    """Returns weights float64 `[count]` (CPU) from Beta(alpha, alpha): equal ones, or one for each image."""
    alpha = torch.full((count if mixing.each else 1,), mixing.alpha, dtype=torch.float64)
    return torch.distributions.Beta(alpha, alpha, validate_args=False).sample().expand(count)


def cut_boxes(area: Tensor, each: bool, height: int, width: int) -> Tensor:
    """Returns boxes int64 `[B, 4]` as (top, left, height, width) of `area` [B] (fraction), cut off at the borders.

    The centre is anywhere in the image (CutMix, arXiv 1905.04899, section 3.1); one place for all, or one for `each`.
    """
    side = area.sqrt()
    places = torch.rand(2, len(area) if each else 1, dtype=torch.float64).expand(2, len(area))
    edges = []
    for place, length in ((places[0], height), (places[1], width)):
        centre, half = (place * length).floor(), (side * length).floor() / 2
        edges.append(((centre - half).floor().clamp(0, length), (centre + half).floor().clamp(0, length)))
    (top, bottom), (left, right) = edges
    return torch.stack((top, left, bottom - top, right - left), dim=1).long()


def cross_entropy(logits: Tensor, batch: Mixed, label_smoothing: float = 0.0) -> Tensor:
    """Returns the mean softmax cross-entropy of `logits` `[B, K]` with the batch's labels, mixed by their weights.

    The loss is linear in the target, so that this is the loss of the mixed target without building it.
    """
    if batch.other is None or batch.weight is None:
        return F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)
    first, second = (
        F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
        for labels in (batch.labels, batch.other)
    )
    return torch.lerp(second, first, batch.weight).mean()
