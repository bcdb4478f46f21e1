"""The one style of all figures, and how they are written: embedded fonts, and the same bytes for the same figure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from vision_repro.figures.appearance import Appearance, appearance, size_order
from vision_repro.figures.venues import DEFAULT, SANS, layout_size, page, points, stroke

__all__ = ["TEXT_WIDTH", "Appearance", "appearance", "save", "size_order", "style", "text_width", "wrap"]

TEXT_WIDTH = DEFAULT.text
"""Width of the text of an ICLR paper [inches]."""

# points, scaled to the page
_TYPE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
}
_STROKES = {
    "axes.linewidth": 0.5,
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.pad": 3.5,
    "ytick.major.pad": 3.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.0,
    "lines.markeredgewidth": 1.0,
}
_SETTINGS: dict[str, Any] = {
    "mathtext.fontset": "stix",
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # TrueType, embedded: the type 3 fonts of the default are refused by some publishers
    "svg.fonttype": "path",  # glyphs as outlines: needs no font where it is shown
    "svg.hashsalt": "vision-repro",
}
# no dates and no versions: the same figure is the same file
_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}


@contextmanager
def style() -> Iterator[None]:
    """Sets the style of the page inside the block, whatever the settings outside or in the user's matplotlibrc are."""
    venue = page().venue
    scaled = {name: points(size) for name, size in _TYPE.items()} | {
        name: stroke(width) for name, width in _STROKES.items()
    }
    own = {"font.family": venue.font, "axes.grid": venue.grid}
    fonts = {"mathtext.fontset": "dejavusans"} if venue.font == SANS else {}
    with matplotlib.style.context(["default", _SETTINGS | scaled | own | fonts]):
        yield


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes `stem`.pdf, .svg and .png, each atomically, and returns their paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    with style():
        for kind, metadata in _METADATA.items():
            path = stem.parent / f"{stem.name}.{kind}"
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                figure.savefig(partial, format=kind, metadata=metadata)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
            paths.append(path)
    return paths


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Returns the width of a line of text at nominally `size` points, as it is laid out on the page [inches]."""
    return _measured(text, layout_size(size), page().venue.font, bold) if text.strip() else 0.0


@cache
def _measured(text: str, size: float, family: str, bold: bool) -> float:
    font = FontProperties(family=family, weight="bold" if bold else "normal")
    return float(TextPath((0, 0), text.replace("$", r"\$"), size=size, prop=font).get_extents().width) / 72


def wrap(text: str, size: float, width: float) -> list[str]:
    """Breaks a text into lines of at most `width` inches at `size` points; a longer word has a line of its own."""
    bars = text_width("||", size)  # around a word, so that the room at its sides counts
    space = text_width("| |", size) - bars
    lines: list[list[str]] = [[]]
    used = 0.0
    for word in text.split():
        wide = space + text_width(f"|{word}|", size) - bars
        if lines[-1] and used + wide > width:
            lines.append([])
            used = 0.0
        lines[-1].append(word)
        used += wide
    return [" ".join(line) for line in lines]
