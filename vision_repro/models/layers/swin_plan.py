"""Parses the names of Swin Transformers, for `swin.py`, which explains the grammar. No torch here."""

from __future__ import annotations

import re
from typing import NamedTuple

from vision_repro.config import UserError, nearest

NAME_PATTERN = r"swin-(?P<size>[a-z]+|\d+x\d+(?:\.\d+)*)(?:/(?P<patch>\d+))?(?P<options>(?:-[a-z]+\d*(?:\.\d+)?)*)"


class Size(NamedTuple):
    """Channels C of the first stage, blocks of each stage, and published stochastic depth on ImageNet-1K, or None."""

    width: int
    depths: tuple[int, ...]
    drop_path: float | None


SIZES = {
    "t": Size(96, (2, 2, 6, 2), 0.2),
    "s": Size(96, (2, 2, 18, 2), 0.3),
    "b": Size(128, (2, 2, 18, 2), 0.5),
    # the rate of fine-tuning from ImageNet-22K weights, the only released training on ImageNet-1K
    "l": Size(192, (2, 2, 18, 2), 0.2),
}
SMALLEST = 96
"""The smallest published C."""

OPTIONS = ("noshift", "nobias", "global", "abspos", "w", "droppath")


class Plan(NamedTuple):
    """A parsed name at an image size; `sides` of the maps and `windows` are those of each stage [tokens]."""

    size: Size
    patch: int
    sides: tuple[int, ...]
    windows: tuple[int, ...]
    shifted: bool
    relative: bool
    absolute: bool
    drop_path: float


def _size(name: str, text: str) -> Size:
    """Returns the size of `t`, `s`, `b`, `l` or `<width>x<depths>`.

    Raises:
        UserError: for any other text, or a width or depth that cannot be built.
    """
    if text in SIZES:
        return SIZES[text]
    if not text[0].isdigit():
        known = ", ".join(SIZES)
        raise UserError(f'{name}: size "{text}" is unknown: expected {known} or <width>x<depths>, such as 32x2.2.')
    width, depths = text.split("x")
    size = Size(int(width), tuple(int(part) for part in depths.split(".")), None)
    if size.width < 1 or size.width % (32 if size.width >= SMALLEST else 16) or min(size.depths) < 1:
        raise UserError(f"{name}: expected a width that 16 divides (32 from 96 on) and at least one block a stage.")
    return size


def _options(name: str, text: str) -> dict[str, str]:
    """Returns the options of a name with the number of each, such as `{"noshift": "", "w": "4"}`.

    Raises:
        UserError: if an option is unknown, given twice, without its number or with a wrong one, or two contradict.
    """
    found: dict[str, str] = {}
    for part in text.split("-")[1:]:
        word = part.rstrip("0123456789.")
        number = part.removeprefix(word)
        if word not in OPTIONS:
            known = ", ".join(OPTIONS)
            raise UserError(f'{name}: option "{word}" is unknown: expected some of {known}.{nearest(word, OPTIONS)}')
        if word in found or (word == "w" and not number.isdigit()) or (number and word not in ("w", "droppath")):
            raise UserError(f"{name}: -{part}: expected -w<M> or -droppath<rate>, others without a number, each once.")
        found[word] = number
    if "global" in found and found.keys() & {"w", "noshift"}:
        raise UserError(f"{name}: -global has one window and no shift; leave out -w<M> and -noshift.")
    return found


def _sides(name: str, size: Size, patch: int, image_size: int) -> tuple[int, ...]:
    """Returns the side of the map of each stage [tokens].

    Raises:
        UserError: if the patches and mergings do not divide the image.
    """
    stride = patch * 2 ** (len(size.depths) - 1)
    if stride == 0 or image_size % stride:
        raise UserError(f"{name}: {image_size}-pixel images do not divide by the stride {stride} of the last map.")
    return tuple(image_size // patch // 2**stage for stage in range(len(size.depths)))


def _drop_path(name: str, size: Size, text: str | None) -> float:
    """Returns the rate after `-droppath`; the published rate of the size if `text` is empty, 0 if it is None.

    Raises:
        UserError: if it is not from 0 to below 1, or the size has no published rate.
    """
    if text is None:
        return 0.0
    rate = float(text) if text else size.drop_path
    if rate is None or not 0 <= rate < 1:
        raise UserError(f"{name}: -droppath expects a rate from 0 to below 1 here, such as -droppath0.1.")
    return rate


def plan(name: str, image_size: int) -> Plan:
    """Returns the plan of a name that `NAME_PATTERN` matches, at this image size [pixels].

    Raises:
        UserError: if a part is unknown, or the patches, mergings or windows do not divide the image.
    """
    match = re.fullmatch(NAME_PATTERN, name)
    assert match is not None
    size, patch, options = _size(name, match["size"]), int(match["patch"] or 4), _options(name, match["options"])
    sides = _sides(name, size, patch, image_size)
    window = int(options.get("w") or (4 if image_size <= 64 else sides[-1]))
    windows = sides if "global" in options else tuple(min(window, side) for side in sides)
    for side, wide in zip(sides, windows, strict=True):
        if wide == 0 or side % wide:
            raise UserError(
                f"{name}: a map of {side} x {side} tokens does not divide into windows of {wide}; "
                f"choose one that divides, such as -w{sides[-1]}."
            )
    flags = ("noshift" not in options, "nobias" not in options, "abspos" in options)
    return Plan(size, patch, sides, windows, *flags, _drop_path(name, size, options.get("droppath")))
