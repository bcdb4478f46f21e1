"""Verdicts as Markdown (percent) and JSON (fractions), byte for byte the same for the same verdicts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from vision_repro.analysis.claims import Verdict
from vision_repro.analysis.intervals import Interval, describe

# unit in the table -> factor and unit in Markdown
_SHOWN = {
    "fraction": (100.0, "percentage points"),
    "fraction per tenfold": (100.0, "percentage points per tenfold size"),
    "fraction per tenfold compute": (100.0, "percentage points per tenfold compute"),
}


def verdicts_to_markdown(verdicts: Sequence[Verdict]) -> str:
    """Returns a Markdown table of the verdicts, accuracies in percentage points."""
    levels = sorted({verdict.estimate.level for verdict in verdicts if verdict.estimate})
    named = " and ".join(f"{100 * level:g} %" for level in levels)
    lines = [
        f"| claim | source | verdict | estimate{f' [{named} interval]' if named else ''} |",
        "|---|---|---|---|",
    ]
    for item in verdicts:
        cells = (item.statement, item.source, f"**{item.verdict}**", estimate_text(item))
        lines.append("| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def verdicts_to_json(verdicts: Sequence[Verdict]) -> str:
    """Returns a JSON list of the verdicts, numbers to nine digits, what is not finite as null.

    `paper` is there only if the paper prints a number.
    """
    return json.dumps([_plain(item) for item in verdicts], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def estimate_text(item: Verdict) -> str:
    """Returns the quantity and its estimate, `ViT minus BiT: +1.2 [+0.3, +2.1] percentage points, 5 seeds`."""
    return f"{item.subject}: {numbers_text(item)}" if item.estimate and item.subject else item.reason


def numbers_text(item: Verdict) -> str:
    """Returns the estimate and the note, without the name of the quantity, or the reason if there is no estimate."""
    if item.estimate is None:
        return item.note or item.reason
    scale, unit = _SHOWN.get(item.unit, (1.0, item.unit))
    shown = describe(item.estimate, scale=scale, digits=1 if scale == 100 else 3, unit=unit)
    return f"{shown}; {item.note}" if item.note else shown


def _plain(item: Verdict) -> dict[str, Any]:
    names = ("claim", "statement", "source", "verdict", "metric", "unit", "reason")
    printed = {"paper": item.paper} if item.paper else {}
    return {**{name: getattr(item, name) for name in names}, "estimate": _interval(item.estimate), **printed}


def _interval(interval: Interval | None) -> dict[str, float | int | None] | None:
    if interval is None:
        return None
    numbers = {name: _rounded(getattr(interval, name)) for name in ("mean", "low", "high", "level")}
    return {**numbers, "n": interval.n}


def _rounded(number: float) -> float | None:
    return float(f"{number:.9g}") if math.isfinite(number) else None
