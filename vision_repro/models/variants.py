"""Parses the names of ViTs, sizes and options, for `vit.py` and `hybrid.py`, which explain them. No torch here."""

from __future__ import annotations

import re
from typing import NamedTuple

from vision_repro.config import UserError, nearest

SIZE_PATTERN = r"(?P<size>[a-z][a-z-]*|\d+x\d+)"
OPTIONS_PATTERN = r"(?P<options>(?:-[a-z0-9.]+)*)"


class Size(NamedTuple):
    """Width D, number of blocks and number of attention heads of a Transformer; its MLP is 4 x D wide."""

    width: int
    depth: int
    heads: int


SIZES = {
    "mu": Size(32, 1, 2),
    "ti": Size(192, 12, 3),
    "s": Size(384, 12, 6),
    # Deviation: 6 heads in ViT-b, for which the paper gives no number; all other sizes except H have heads of width 64.
    "b-half": Size(384, 12, 6),
    "m": Size(512, 12, 8),
    "b": Size(768, 12, 12),
    "l": Size(1024, 24, 16),
    "h": Size(1280, 32, 16),
}


def parse_size(text: str) -> Size:
    """Returns the `Size` of a published name or of `<width>x<depth>`.

    Raises:
        UserError: if the name is unknown or the heads do not divide the width.
    """
    if text in SIZES:
        return SIZES[text]
    if not text[0].isdigit():
        known = ", ".join(SIZES)
        raise UserError(f'ViT size "{text}" is unknown: expected {known} or <width>x<depth>.{nearest(text, SIZES)}')
    width, depth = (int(part) for part in text.split("x"))
    head_width = 16 if width <= 64 else 32 if width <= 256 else 64
    if width == 0 or depth == 0 or width % head_width:
        raise UserError(f"ViT size {text}: expected a width that {head_width} divides and at least one block.")
    return Size(width, depth, width // head_width)


class Options(NamedTuple):
    """The options after the patch in a name; a field holds an option's word without its dash, or is empty."""

    pooling: str = ""
    position: str = ""
    placement: str = ""
    hidden: str = ""
    dropout: str = ""

    @property
    def rate(self) -> float:
        """Fraction of the values that dropout sets to zero, in [0, 1)."""
        return float(self.dropout.removeprefix("drop") or 0)


WORDS = {
    "gap": "pooling",
    "pos0": "position",
    "pos2d": "position",
    "posrel": "position",
    "every": "placement",
    "shared": "placement",
    "tanh": "hidden",
}
"""Word -> its field of `Options`; the field of `drop<rate>` is `dropout`."""


def parse_options(text: str) -> Options:
    """Returns the options of a name, given as in `-gap-tanh`; the empty text gives the defaults.

    Raises:
        UserError: if an option is unknown, given twice or in another order, or contradicts another.
    """
    chosen: dict[str, str] = {}
    for word in text.split("-")[1:]:
        dropout = re.fullmatch(r"drop0\.\d*[1-9]", word)
        field = "dropout" if dropout else WORDS.get(word)
        if field is None:
            known = ", ".join(f"-{item}" for item in (*WORDS, "drop<rate>"))
            close = nearest(word, (*WORDS, "drop0.1"))
            raise UserError(f'ViT option "-{word}" is unknown: expected one of {known}, as in -drop0.1.{close}')
        if field in chosen:
            raise UserError(f'ViT options "-{chosen[field]}" and "-{word}" exclude each other: expected one of them.')
        chosen[field] = word
    options = Options(**chosen)
    if options.placement and options.position in ("pos0", "posrel"):
        raise UserError(f'ViT option "-{options.placement}" places a table, and "-{options.position}" has none.')
    ordered = "".join(f"-{word}" for word in options if word)
    if ordered != text:  # one name for one model, as the id of a run is a hash of the name
        raise UserError(f'ViT options "{text}" are in another order than expected: write "{ordered}".')
    return options
