"""How a model looks: by its name alone, so that it looks the same in every figure.

The family (`models/families.py`) gives the hue and the line style, the size gives the shade (dark is large) and the
marker, and patches of 32 pixels have open markers: no two neighbours in size differ by colour alone. Hues start from
the Okabe-Ito palette.
"""

from __future__ import annotations

import math
import re
import zlib
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass

from vision_repro.models.families import family

Dashes = str | tuple[float, tuple[float, ...]]

_BLUES = ("#56B4E9", "#0072B2", "#004776", "#001F3D")
_ORANGES = ("#E69F00", "#D55E00", "#933D00", "#4F1F00")
_GREENS = ("#4CC9A0", "#009E73", "#00664A", "#003A2A")
_OTHERS = ("#CC79A7", "#8C4C8C", "#777777", "#111111")

_PUBLISHED = {"ti": (192, 12), "s": (384, 12), "b-half": (384, 12), "b": (768, 12), "l": (1024, 24), "h": (1280, 32)}
# width^2 x depth at which the next look begins, between 32x4, 64x4, 128x4, 128x6, Ti, S, B, L, H
_VIT_STEPS = (8e3, 3e4, 8e4, 2e5, 8e5, 4e6, 1.5e7, 4e7)
_VIT_SHADES = (0, 1, 2, 3, 3, 0, 1, 2, 3)
# depth x width^2, between R11x0.15, R11x0.3125, R14x0.3125, R50x1, R101x1, R152x1, R50x2, R152x2, R101x3, R200x3
# and R152x4
_BIT_STEPS = (0.6, 1.2, 10, 70, 125, 175, 300, 700, 1200, 2000)
_BIT_SHADES = (0, 1, 2, 0, 1, 1, 2, 2, 3, 3, 3)


@dataclass(frozen=True)
class Appearance:
    """Colours, marker and line of one model, and its name as papers write it."""

    color: str
    marker: str
    linestyle: Dashes
    label: str
    face: str


def appearance(model: str) -> Appearance:
    """Returns the look of a model; `ViT-B/16` and `vit-b/16` are the same model."""
    found = _matched(model)
    if found:
        return _LOOKS[found[0]][1](found[1])
    index = zlib.crc32(model.lower().encode())
    color = _OTHERS[index % 4]
    return Appearance(color, "osD^v"[index // 4 % 5], (0.0, (3, 1, 1, 1)), model, color)


def _vit_size(size: str) -> float:
    width, depth = _PUBLISHED[size] if size in _PUBLISHED else map(int, size.split("x"))
    return float(width * width * depth)


def _vit_label(size: str, patch: str) -> str:
    if "x" in size:
        return f"ViT-{size.replace('x', '×')}/{patch}"  # noqa: RUF001
    short = {"ti": "Ti", "b-half": "b"}
    return f"ViT-{short.get(size, size.upper())}/{patch}"


def _body_label(depth: str, width: str | None, stem: str | None) -> str:
    return f"R{depth}" + (f"×{width}" if width else "") + (f"/{stem}" if stem else "")  # noqa: RUF001


def _vit(match: re.Match[str]) -> Appearance:
    rank, coarse = bisect(_VIT_STEPS, _vit_size(match["size"])), int(match["patch"]) >= 28
    color = _BLUES[_VIT_SHADES[rank]]
    line: Dashes = (0.0, (1, 1)) if coarse else "-"
    label = _vit_label(match["size"], match["patch"])
    marker = "p" if match["size"] == "b-half" else "oshDposhD"[rank]
    return Appearance(color, marker, line, label, "white" if coarse else color)


def _bit(match: re.Match[str]) -> Appearance:
    size = int(match["depth"]) * float(match["width"] or 1) ** 2
    rank = bisect(_BIT_STEPS, size)
    color = _ORANGES[_BIT_SHADES[rank]]
    label = f"BiT-{_body_label(match['depth'], match['width'], match['stem'])}"
    return Appearance(color, "^v<^<>v<d>X"[rank], (0.0, (4, 1.5)), label, color)


def _hybrid(match: re.Match[str]) -> Appearance:
    rank, coarse = bisect(_VIT_STEPS, _vit_size(match["size"])), int(match["patch"]) >= 28
    color = _GREENS[_VIT_SHADES[rank]]
    body = _body_label(match["depth"], match["width"], match["stem"])
    label = f"{body}+{_vit_label(match['size'], match['patch'])}"
    return Appearance(color, "*PX*P*PX*"[rank], (0.0, (5, 1, 1, 1)), label, "white" if coarse else color)


_BODY = r"r(?P<depth>\d+)(?:x(?P<width>\d+(?:\.\d+)?))?(?:/(?P<stem>\d+))?"
_SIZE = rf"(?P<size>{'|'.join(_PUBLISHED)}|[1-9]\d*x[1-9]\d*)/(?P<patch>\d+)"
_LOOKS: dict[str, tuple[re.Pattern[str], Callable[[re.Match[str]], Appearance]]] = {
    "vit": (re.compile(rf"vit-{_SIZE}"), _vit),
    "bit": (re.compile(rf"bit-{_BODY}"), _bit),
    "hybrid": (re.compile(rf"{_BODY}\+vit-{_SIZE}"), _hybrid),
}
"""Family -> the sizes that have a look of their own, and that look; in the order of a legend."""


def _matched(model: str) -> tuple[str, re.Match[str]] | None:
    """Returns the family of a model and the parts of its name, or None where no look belongs to its size."""
    name = family(model)
    match = _LOOKS[name][0].fullmatch(model.lower()) if name in _LOOKS else None
    return (name, match) if match else None


def size_order(model: str) -> tuple[int, float, str]:
    """Returns the key that sorts models by family (ViT, BiT, hybrid, others), then by size, then by name."""
    found = _matched(model)
    if not found:
        return len(_LOOKS), math.inf, model
    name, groups = found[0], found[1].groupdict()
    size = _vit_size(groups["size"]) if "size" in groups else float(groups["depth"])
    width = float(groups.get("width") or 1) if "size" not in groups else 1.0
    return list(_LOOKS).index(name), size * width * width, model
