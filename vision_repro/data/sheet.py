"""Contact sheets: what a data set looks like, and what an augmentation does to it.

N: images, C: channels (1 or 3), H and W: height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vision_repro.augmentation.augment import training_batch
from vision_repro.augmentation.batch import Batch
from vision_repro.augmentation.crops import POLICIES as CROPS
from vision_repro.augmentation.crops import central
from vision_repro.augmentation.mix import Mixed
from vision_repro.augmentation.policy import Policy, parse

if TYPE_CHECKING:
    from PIL.Image import Image

SMALLEST, LARGEST = 96, 256  # side of a tile, in pixels
GAP = 8
TEXT_HEIGHT, LINE_HEIGHT = 12, 15
PAPER, INK = (255, 255, 255), (32, 32, 32)


def contact_sheet(images: Tensor | Sequence[Tensor], labels: Sequence[str], columns: int) -> Image:
    """Returns uint8 images (`[N, C, H, W]`, or N of `[C, H, W]`) in rows of `columns`, each with its label below.

    Small images are enlarged by a whole factor, their pixels left square; those above 256 pixels are reduced. A label
    may have several lines; one that is wider than its image is shortened.

    Raises:
        ValueError: without images, or with another number of labels.
    """
    if not len(images) or len(images) != len(labels) or columns < 1:
        raise ValueError(f"{len(images)} images, {len(labels)} labels and {columns} columns make no sheet")
    # Imported here for start-up time: PIL takes long to import.
    from PIL import Image, ImageDraw, ImageFont

    tiles = [_tile(image) for image in images]
    font = ImageFont.load_default(TEXT_HEIGHT)
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    lines = [[shortened(line, font, width) for line in label.split("\n")] for label in labels]
    step_x, step_y = width + GAP, height + max(map(len, lines)) * LINE_HEIGHT + 2 * GAP
    sheet = Image.new("RGB", (GAP + columns * step_x, GAP + rows * step_y), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, tile in enumerate(tiles):
        x, y = GAP + number % columns * step_x, GAP + number // columns * step_y
        sheet.paste(tile, (x + (width - tile.width) // 2, y + height - tile.height))
        for line, text in enumerate(lines[number]):
            draw.text((x + width / 2, y + height + GAP / 2 + line * LINE_HEIGHT), text, INK, font, anchor="ma")
    return sheet


def _tile(image: Tensor) -> Image:
    # Imported here for start-up time: PIL takes long to import.
    from PIL import Image

    pixels = image.expand(3, *image.shape[1:]).permute(1, 2, 0).contiguous().cpu().numpy()
    tile = Image.fromarray(pixels)
    longest = max(tile.size)
    if longest > LARGEST:
        tile.thumbnail((LARGEST, LARGEST))
        return tile
    factor = max(1, round(SMALLEST / longest))
    return tile.resize((tile.width * factor, tile.height * factor), Image.Resampling.NEAREST)


def shortened(text: str, font: Any, width: float) -> str:
    """Returns `text` in one line, its end replaced by three dots if it is wider than `width` [pixels]."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


def show(
    images: Tensor | Sequence[Tensor],
    policy: str | Policy,
    labels: Sequence[str],
    *,
    size: int | None = None,
    times: int = 7,
    seed: int = 0,
) -> Image:
    """Returns a sheet with one row an image: as it is, then augmented by `policy` `times` times.

    With `size`, the side of what a model sees [pixels], images are cropped one by one as worker processes do it, from
    images of any size. Without it they are a batch in memory; such of several sizes become central squares of one size.
    Where a policy mixes images, the labels say in which shares. The global generators are left as they were.

    Raises:
        UserError: for an unknown or impossible policy.
    """
    policy = parse(policy) if isinstance(policy, str) else policy
    originals = squares(images) if size is None else torch.stack([central(image, size) for image in images])
    crop = None if size is None else CROPS.get(policy.crop)
    made = []
    with torch.random.fork_rng():
        for number in range(times):
            batch = originals
            if crop:
                cropped = [crop(image, (number, row), size=size, seed=seed) for row, image in enumerate(images)]
                batch, policy = torch.stack(cropped), policy.after_cropping()
            torch.manual_seed(seed * times + number)
            made.append(training_batch(Batch(batch, torch.arange(len(images))), policy))
    tiles: list[Tensor] = []
    texts: list[str] = []
    for row, label in enumerate(labels):
        tiles += [originals[row], *(mixed.images[row].round().to(torch.uint8) for mixed in made)]
        texts += [label, *(_mixed_label(mixed, row, labels) for mixed in made)]
    return contact_sheet(tiles, texts, times + 1)


def _mixed_label(mixed: Mixed, row: int, labels: Sequence[str]) -> str:
    if mixed.other is None or mixed.weight is None:
        return labels[row]
    weight = float(mixed.weight[row])
    return f"{weight:.2f} {labels[row]}\n{1 - weight:.2f} {labels[int(mixed.other[row])]}"


def squares(images: Tensor | Sequence[Tensor]) -> Tensor:
    """Returns the images as one batch `[N, C, S, S]`: central squares, reduced to the smallest of them.

    Images that have one size already are only stacked.
    """
    if len({tuple(image.shape) for image in images}) == 1:
        return torch.stack(tuple(images))
    side = min(min(image.shape[1:]) for image in images)
    cut = []
    for image in images:
        short = min(image.shape[1:])
        top, left = ((length - short) // 2 for length in image.shape[1:])
        square = image[None, :, top : top + short, left : left + short].to(torch.float32)
        smaller = F.interpolate(square, (side, side), mode="bilinear", antialias=True, align_corners=False)
        cut.append(smaller[0].round().clamp(0, 255).to(torch.uint8))
    return torch.stack(cut)
