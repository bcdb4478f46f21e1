"""Preparing one decoded image of any size, in a worker. H, W: its height and width, S: the model's side, in pixels."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from vision_repro.data.augment import AREA, RATIO, TRIES

Box = tuple[int, int, int, int]  # top, left, height, width in pixels


def central(image: Tensor, size: int) -> Tensor:
    """Returns the central `[3, S, S]` after resizing the short side to 256/224 of S (ViT, B.1; BiT's test protocol)."""
    from torchvision.transforms.v2.functional import center_crop, resize

    resized: Tensor = center_crop(resize(image, [round(size * 256 / 224)], antialias=True), [size, size])
    return resized


def inception(image: Tensor, key: tuple[int, int], *, size: int, seed: int) -> Tensor:
    """Returns a random box of the image as `[3, S, S]`, flipped or not: a function of (seed, epoch, image).

    Deviation: resized with antialiasing, which TensorFlow's bilinear resize of 2020 had not; it only matters for boxes
    larger than S.
    """
    from torchvision.transforms.v2.functional import resized_crop

    # SeedSequence alone gives the numbers: its output is frozen by numpy, and no generator has to be set up
    words = np.random.SeedSequence((seed, *key)).generate_state(2 * TRIES + 3, np.uint64)
    draws = ((words >> np.uint64(11)) * 2.0**-53).tolist()
    top, left, height, width = box(image.shape[1], image.shape[2], draws)
    crop: Tensor = resized_crop(image, top, left, height, width, [size, size], antialias=True)
    return crop.flip(2) if draws[-1] < 0.5 else crop


def box(height: int, width: int, draws: list[float]) -> Box:
    """Returns a box of 5 % to 100 % of the area from uniform numbers: two for each of ten tries, two to place it.

    If none fits: the largest central box of an allowed aspect ratio, as torchvision does.
    """
    (low, high), (log_low, log_high) = AREA, (math.log(side) for side in RATIO)
    for area_draw, ratio_draw in zip(draws[0 : 2 * TRIES : 2], draws[1 : 2 * TRIES : 2], strict=True):
        area = height * width * (low + (high - low) * area_draw)
        ratio = math.exp(log_low + (log_high - log_low) * ratio_draw)
        h, w = max(1, round(math.sqrt(area / ratio))), max(1, round(math.sqrt(area * ratio)))
        if h <= height and w <= width:
            return int(draws[2 * TRIES] * (height - h + 1)), int(draws[2 * TRIES + 1] * (width - w + 1)), h, w
    w, h = min(width, max(1, round(height * RATIO[1]))), min(height, max(1, round(width / RATIO[0])))
    return (height - h) // 2, (width - w) // 2, h, w
