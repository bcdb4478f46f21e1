"""Training crops and test views of decoded images of any size.

H, W: height and width of an image, S: side of the square images that the model sees, in pixels, V: views of an image.
All resizing is bilinear and antialiased, on uint8: on the CPU, bit by bit what torchvision's v2 transforms give.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vision_repro.augmentation.augment import AREA, RATIO, TRIES

Box = tuple[int, int, int, int]  # top, left, height, width in pixels
Key = tuple[int, int]  # epoch, image
SCALES = (224, 256, 384, 480, 640)  # short sides of `fifty`, and 256 to 480 those of `vgg`, for S = 224 [pixels]
VIEWS = {"crop": 1, "square": 1, "ten": 10, "fifty": 10 * len(SCALES)}
_SLIMMEST = 8  # the longest side over the shortest that is resized: a line of pixels would become a wall


# --- test views: images uint8 [3, H, W] or [B, 3, H, W] ---


def views(images: Tensor, kind: str, size: int) -> Tensor:
    """Returns the views that a model is tested on: `[..., 3, S, S]`, or `[..., V, 3, S, S]` for ten and fifty.

    - crop: the central square after resizing the short side to 256/224 of S (ViT, B.1; BiT's code).
    - square: the whole image resized to a square, whatever its shape (BiT, 3.3; ViT's fine-tuning code).
    - ten: four corners and centre, and their mirror images, at 256/224 of S (AlexNet, 4.1).
    - fifty: the same at five scales (the slides; the scales are ResNet's, 3.4). Of a square image only two views differ
      at the smallest scale; they count five times each, as in an average over 50.
    """
    if kind == "square":
        return resize(images, size, size)
    if kind == "crop":
        return central(images, size)
    if kind == "ten":
        return ten(_resize_short(images, _scaled(256, size)), size)
    return torch.cat([ten(_resize_short(images, _scaled(short, size)), size) for short in SCALES], dim=-4)


def central(images: Tensor, size: int) -> Tensor:
    """Returns the central `[..., 3, S, S]` after resizing the short side to 256/224 of S."""
    resized = _resize_short(images, _scaled(256, size))
    return _cut(resized, *_centre(resized, size), size)


def ten(images: Tensor, size: int) -> Tensor:
    """Returns the four corners and the centre, then their mirror images: `[..., 10, 3, S, S]`."""
    bottom, right = images.shape[-2] - size, images.shape[-1] - size
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), _centre(images, size)]
    five = torch.stack([_cut(images, top, left, size) for top, left in places], dim=-4)
    return torch.cat((five, five.flip(-1)), dim=-4)


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Returns the uint8 images `[..., 3, height, width]`."""
    if images.shape[-2:] == (height, width):
        return images
    batch = images if images.dim() == 4 else images[None]
    if images.device.type == "cpu":
        resized = F.interpolate(batch, (height, width), mode="bilinear", antialias=True)
    else:  # kernels for uint8 are the CPU's: off by one at most
        exact = F.interpolate(batch.to(torch.float32), (height, width), mode="bilinear", antialias=True)
        resized = exact.round_().clamp_(0, 255).to(torch.uint8)
    return resized if images.dim() == 4 else resized[0]


def _scaled(side: int, size: int) -> int:
    """Returns a side that papers give for 224 pixels, for S."""
    return round(size * side / 224)


def _resize_short(images: Tensor, short: int) -> Tensor:
    images = _not_slim(images)
    height, width = images.shape[-2:]
    if height <= width:
        return resize(images, short, int(short * width / height))
    return resize(images, int(short * height / width), short)


def _not_slim(images: Tensor) -> Tensor:
    """Returns the central part that is at most eight times as long as it is wide.

    Deviation: ours; of a slimmer image the papers' crops would be taken from gigabytes of resized pixels.
    """
    height, width = images.shape[-2:]
    most = _SLIMMEST * min(height, width)
    top, left = max(0, (height - most) // 2), max(0, (width - most) // 2)
    return images[..., top : top + most, left : left + most]


def _centre(images: Tensor, size: int) -> tuple[int, int]:
    return round((images.shape[-2] - size) / 2), round((images.shape[-1] - size) / 2)


def _cut(images: Tensor, top: int, left: int, size: int) -> Tensor:
    return images[..., top : top + size, left : left + size]


# --- training crops: one image uint8 [3, H, W], a function of (seed, epoch, image) ---


def inception(image: Tensor, key: Key, *, size: int, seed: int) -> Tensor:
    """Returns a random box of 5 % to 100 % of the area as `[3, S, S]`, mirrored with probability 0.5 (ViT, B.1).

    Deviation: resized with antialiasing, which TensorFlow's bilinear resize of 2020 had not; it only matters for boxes
    larger than S.
    """
    draws = _draws(2 * TRIES + 3, seed, key)
    top, left, height, width = box(image.shape[1], image.shape[2], draws)
    return _mirrored(resize(image[:, top : top + height, left : left + width], size, size), draws[-1])


def vgg(image: Tensor, key: Key, *, size: int, seed: int) -> Tensor:
    """Returns a random `[3, S, S]` after resizing the short side to 256 to 480 (for S = 224), mirrored or not.

    Source: VGG, 3.1, with the range of the slides; in the paper it ends at 512.
    """
    draws = _draws(4, seed, key)
    low, high = _scaled(256, size), _scaled(480, size)
    return _random_cut(_resize_short(image, low + int(draws[0] * (high - low + 1))), draws[1:], size)


def resize_crop(image: Tensor, key: Key, *, size: int, seed: int) -> Tensor:
    """Returns a random `[3, S, S]` of the image resized to a larger square, mirrored or not (BiT, 3.3).

    The square is that of BiT's pairs 160 -> 128 and 448 -> 384, as a factor: 5/4 up to 128 pixels, 7/6 above.
    """
    side = round(size * 5 / 4) if size <= 128 else round(size * 7 / 6)
    return _random_cut(resize(image, side, side), _draws(3, seed, key), size)


POLICIES: dict[str, Callable[..., Tensor]] = {"inception": inception, "vgg": vgg, "resize-crop": resize_crop}


def _draws(count: int, seed: int, key: Key) -> list[float]:
    """Returns uniform numbers in [0, 1).

    SeedSequence alone gives them: its output is frozen by numpy, and no generator has to be set up.
    """
    words = np.random.SeedSequence((seed, *key)).generate_state(count, np.uint64)
    numbers: list[float] = ((words >> np.uint64(11)) * 2.0**-53).tolist()
    return numbers


def _random_cut(image: Tensor, draws: list[float], size: int) -> Tensor:
    top, left = (int(draw * (side - size + 1)) for draw, side in zip(draws, image.shape[1:], strict=False))
    return _mirrored(_cut(image, top, left, size), draws[2])


def _mirrored(image: Tensor, draw: float) -> Tensor:
    return image.flip(2) if draw < 0.5 else image


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
