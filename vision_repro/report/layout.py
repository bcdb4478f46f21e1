"""How numbers are laid out: which column is the axis, which make the lines, and how a number is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vision_repro.analysis.summary import SummaryRow
from vision_repro.analysis.table import Level, order


def metrics(rows: Sequence[SummaryRow], judged: Sequence[str]) -> list[str]:
    """Returns the metrics of the rows: those of claims first, then test accuracy, then accuracies, then the others."""
    there = sorted({row.metric for row in rows})
    first = [name for name in dict.fromkeys([*judged, "test_accuracy", "val_accuracy"]) if name in there]
    shots = [name for name in there if name.startswith("few_shot")]
    return list(dict.fromkeys([*first, *sorted(shots, key=lambda name: (len(name), name)), *there]))


def axes(rows: Sequence[SummaryRow]) -> tuple[str | None, list[str]]:
    """Returns the column of the x axis, or None where none is of numbers, and the columns that make the lines.

    The axis is the column of numbers with the most levels, the last of equals.
    """
    levels = {name: {row.setting[name] for row in rows} for name in (rows[0].setting if rows else ())}
    varying = [name for name, found in levels.items() if len(found) > 1]
    numbers = [name for name in varying if not any(isinstance(level, str) for level in levels[name])]
    across = max(reversed(numbers), key=lambda name: len(levels[name])) if numbers else None
    lines = [name for name in varying if name != across] or [name for name in levels if name != across][:1]
    return across, lines


def setting_text(setting: Mapping[str, Level], names: Sequence[str]) -> str:
    """Returns `vit-64x4/2, lr=0.001`: a model needs no name in front."""
    return ", ".join(str(setting[name]) if name == "model" else f"{name}={setting[name]}" for name in names)


def scale(unit: str) -> float:
    """Returns what a value is multiplied with where it is shown: fractions are shown as percent."""
    return 100.0 if unit == "fraction" else 1.0


def unit_text(unit: str) -> str:
    """Returns the unit as it is shown."""
    return "%" if unit == "fraction" else unit


def number(value: float, unit: str) -> str:
    """Returns a value as it is shown, without its unit."""
    return f"{100 * value:.1f}" if unit == "fraction" else f"{value:.5g}"


def cell(row: SummaryRow | None) -> str:
    """Returns `85.3 [83.2, 87.4]`, the mean and its interval, with what is missing said in words."""
    if row is None:
        return ""
    lost = f" ({row.diverged} diverged)" if row.diverged else ""
    if row.n == 0:
        return f"diverged{lost}" if lost else "not measured"
    low, mean, high = (number(value, row.unit) for value in (row.interval.low, row.interval.mean, row.interval.high))
    return (f"{mean} [{low}, {high}]" if row.interval.bounded else f"{mean} (one seed)") + lost


def point_text(row: SummaryRow, names: Sequence[str]) -> str:
    """Returns what a point of a chart says: its setting, its value with the interval, and the seeds."""
    interval, unit = row.interval, unit_text(row.unit)
    numbers = f"{number(interval.mean, row.unit)} {unit}".rstrip()
    if interval.bounded:
        numbers += f" [{number(interval.low, row.unit)}, {number(interval.high, row.unit)}]"
    count = f"{row.n} seed{'' if row.n == 1 else 's'}"
    lost = f", {row.diverged} diverged" if row.diverged else ""
    return f"{setting_text(row.setting, names)}: {numbers}, {count}{lost}"


def pivot(rows: Sequence[SummaryRow], metric: str) -> tuple[list[str], list[tuple[list[str], list[str]]]]:
    """Returns head and lines (settings, cells) of the table of one metric, a column for each level of the axis."""
    across, _ = axes(rows)
    chosen = [row for row in rows if row.metric == metric]
    names = [name for name in (rows[0].setting if rows else ()) if name != across]
    columns = sorted({row.setting[across] for row in chosen}, key=order) if across else []
    lines: dict[tuple[Level, ...], dict[Level | None, SummaryRow]] = {}
    for row in chosen:
        line = tuple(row.setting[name] for name in names)
        lines.setdefault(line, {})[row.setting[across] if across else None] = row
    head = [*names, *([f"{across} = {column}" for column in columns] if across else ["all settings"])]
    keys: list[Level | None] = list(columns) if across else [None]
    return head, [([str(entry) for entry in line], [cell(own.get(key)) for key in keys]) for line, own in lines.items()]


def finite(row: SummaryRow) -> bool:
    """Returns whether the row has a mean to draw."""
    return row.n > 0 and math.isfinite(row.interval.mean)
