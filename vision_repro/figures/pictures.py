"""What models make of masked images: image, masked image and prediction side by side, a block a model."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vision_repro.config import UserError
from vision_repro.figures.footer import footer
from vision_repro.figures.style import style, wrap
from vision_repro.figures.venues import NARROW, page, points

COLUMNS = ("image", "masked", "prediction")
# inches
_EDGE, _GAP, _LINE, _HEADS, _UNDER = 0.05, 0.2, 0.14, 0.15, 0.12
_BETWEEN = 0.05  # of a picture, between two
_PER_ROW = 2
_TITLE, _HEAD = 8.0, 7.0  # points


@dataclass(frozen=True)
class Pictures:
    """One model: a title, and its n images, masked images and predictions, uint8 `[n, 3, H, H]` each."""

    title: str
    images: npt.NDArray[np.uint8]
    masked: npt.NDArray[np.uint8]
    predicted: npt.NDArray[np.uint8]


def pictures_figure(blocks: Sequence[Pictures], *, notes: Sequence[str] = (), width: float | None = None) -> Figure:
    """Returns a row of three pictures for each image of each model; `width` is in inches, that of the page if None.

    Pixels are drawn as squares, not smoothed, so that a patch of 4 x 4 pixels shows what was predicted of it.
    """
    width = page().width if width is None else width
    with style():
        below = footer((), notes, width)
        across = max(1, min(len(blocks), 1 if width < NARROW else _PER_ROW))
        wide = (width - 2 * _EDGE - (across - 1) * _GAP) / across
        lines = [blocks[start : start + across] for start in range(0, len(blocks), across)]
        heights = [_height(line, wide) for line in lines]
        top = sum(heights) + below.height
        figure = Figure(figsize=(width, top))
        for line, height in zip(lines, heights, strict=True):
            for column, block in enumerate(line):
                _block(figure, block, _EDGE + column * (wide + _GAP), top, wide)
            top -= height
        below.write(figure, sum(heights))
    return figure


def _titles(block: Pictures, wide: float) -> list[str]:
    return wrap(block.title, _TITLE, 0.97 * wide)  # drawn letters lie on whole pixels, which adds up


def _tall(block: Pictures, wide: float) -> float:
    """Returns the height of the rows of a block [inches]: pictures and the gaps between them."""
    side = wide / (len(COLUMNS) + (len(COLUMNS) - 1) * _BETWEEN)
    return side * max(0.0, len(block.images) * (1 + _BETWEEN) - _BETWEEN)


def _height(line: Sequence[Pictures], wide: float) -> float:
    words = max(len(_titles(block, wide)) for block in line) * _LINE + _HEADS
    return words + max(_tall(block, wide) for block in line) + _UNDER


def _block(figure: Figure, block: Pictures, left: float, top: float, wide: float) -> None:
    """Draws a block whose upper left corner is at (`left`, `top`) inches, `wide` inches wide."""
    width, height = figure.get_size_inches()
    for text in _titles(block, wide):
        figure.text(left / width, (top - 0.02) / height, text.replace("$", r"\$"), fontsize=points(_TITLE), va="top")
        top -= _LINE
    for number, word in enumerate(COLUMNS):
        middle = left + wide * (number + 0.5 + (number - 1) * _BETWEEN / 2) / len(COLUMNS)
        figure.text(middle / width, (top - 0.02) / height, word, fontsize=points(_HEAD), va="top", ha="center")
    top -= _HEADS
    tall = _tall(block, wide)
    if tall:
        _draw(figure.add_axes((left / width, (top - tall) / height, wide / width, tall / height)), block)


def _draw(axes: Axes, block: Pictures) -> None:
    """Draws the pictures, each a unit square, on axes without ticks."""
    step = 1 + _BETWEEN
    for column, part in enumerate((block.images, block.masked, block.predicted)):
        for row, picture in enumerate(part):
            x, y = column * step, row * step
            axes.imshow(np.moveaxis(picture, 0, -1), extent=(x, x + 1, y + 1, y), interpolation="nearest")
    axes.set_xlim(0, len(COLUMNS) * step - _BETWEEN)
    axes.set_ylim(len(block.images) * step - _BETWEEN, 0)
    axes.set_aspect("auto")
    axes.set_axis_off()


def read(file: Path, title: str) -> Pictures:
    """Returns the pictures that a run left in its folder.

    Raises:
        UserError: if the file is damaged.
    """
    try:
        with np.load(file, allow_pickle=False) as found:
            parts = [found[name] for name in COLUMNS]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        raise UserError(f'"{file}" holds no pictures of a run: remove that folder and start again.') from None
    return Pictures(title, *parts)
