"""One summary row a setting and metric: mean and t interval over seeds; as CSV (fractions) and Markdown (percent)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vision_repro.analysis.intervals import LEVEL, Interval, t_interval
from vision_repro.analysis.table import Level, Row, Table, order


@dataclass(frozen=True)
class SummaryRow:
    """Mean and t interval over seeds of one metric in one setting; `diverged` runs are not in the `n` values."""

    experiment: str
    preset: str
    setting: Mapping[str, Level]
    metric: str
    unit: str
    interval: Interval
    diverged: int

    @property
    def n(self) -> int:
        """Number of seeds behind the mean."""
        return self.interval.n


def summarise(table: Table, settings: tuple[str, ...], level: float = LEVEL) -> list[SummaryRow]:
    """Returns one row for each experiment, preset, setting and metric, in the same order for any order of the table.

    Raises:
        ValueError: if `settings` leaves out a column that varies, so that a seed would count twice.
    """
    for name in settings:
        table.levels(name)  # raises for a column that is not there
    groups: dict[tuple[Level, ...], list[Row]] = {}
    for row in table.rows:
        key = (row.experiment, row.preset, *(row.get(name) for name in settings), row.metric)
        groups.setdefault(key, []).append(row)
    diverged = _diverged(table, settings)
    ordered = sorted(groups, key=lambda key: tuple(map(order, key)))
    return [_summary(groups[key], key, settings, diverged.get(key[:-1], 0), level) for key in ordered]


def _diverged(table: Table, settings: tuple[str, ...]) -> dict[tuple[Level, ...], int]:
    """Returns the number of seeds that diverged by experiment, preset and setting."""
    seeds: dict[tuple[Level, ...], set[int]] = {}
    for row in table.rows:
        if row.diverged:
            seeds.setdefault((row.experiment, row.preset, *(row.get(name) for name in settings)), set()).add(row.seed)
    return {key: len(found) for key, found in seeds.items()}


def _summary(
    rows: list[Row], key: tuple[Level, ...], settings: tuple[str, ...], diverged: int, level: float
) -> SummaryRow:
    if len({row.seed for row in rows}) < len(rows):
        raise ValueError(f"{key} has several runs of one seed: add the settings that vary to {settings}")
    setting = dict(zip(settings, key[2:-1], strict=True))
    interval = t_interval((row.value for row in rows if row.ok), level)
    return SummaryRow(rows[0].experiment, rows[0].preset, setting, rows[0].metric, rows[0].unit, interval, diverged)


def to_csv(rows: Sequence[SummaryRow]) -> str:
    """Returns CSV text with nine digits; a cell is empty if there is no number, such as the interval of one seed."""
    names = list(rows[0].setting) if rows else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["experiment", "preset", *names, "metric", "unit", "mean", "low", "high", "level", "n", "diverged"])
    for row in rows:
        numbers = (row.interval.mean, row.interval.low, row.interval.high, row.interval.level)
        shown = [f"{number:.9g}" if math.isfinite(number) else "" for number in numbers]
        entries = [row.setting[name] for name in names]
        writer.writerow([row.experiment, row.preset, *entries, row.metric, row.unit, *shown, row.n, row.diverged])
    return text.getvalue()


def to_markdown(rows: Sequence[SummaryRow], metric: str, across: str) -> str:
    """Returns a Markdown table of one metric: a column for each entry of `across`, a line for the other settings.

    Fractions are shown as percent, in the form `85.3 [83.2, 87.4]`; one seed has no interval; diverged runs are named.
    """
    chosen = [row for row in rows if row.metric == metric]
    columns = sorted({row.setting[across] for row in chosen}, key=order)
    cells: dict[tuple[Level, ...], dict[Level, str]] = {}
    for row in chosen:
        line = (row.experiment, row.preset, *(entry for name, entry in row.setting.items() if name != across))
        cells.setdefault(line, {})[row.setting[across]] = _cell(row)
    names = [name for name in chosen[0].setting if name != across] if chosen else []
    head = ["experiment", "preset", *names, *(f"{across}={entry}" for entry in columns)]
    lines = [head, ["---"] * len(head)]
    lines += [[*map(str, line), *(entries.get(column, "") for column in columns)] for line, entries in cells.items()]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def to_lines(rows: Sequence[SummaryRow], metrics: Sequence[str]) -> str:
    """Returns a Markdown table with a line for each setting and a column for each of the metrics that there are.

    Fractions are shown as percent, as in `to_markdown`; a value that is the same for all seeds has no interval.
    """
    units = {row.metric: "%" if row.unit == "fraction" else row.unit for row in rows}
    shown = [metric for metric in metrics if metric in units]
    lines: dict[tuple[Level, ...], dict[str, str]] = {}
    for row in rows:
        if row.metric in shown:
            lines.setdefault(tuple(row.setting.values()), {})[row.metric] = _cell(row)
    heads = [name.replace("_", " ") + (f" [{units[name]}]" if units[name] != name else "") for name in shown]
    head = [*(list(rows[0].setting) if rows else []), *heads]
    body = [[*map(str, line), *(cells.get(metric, "") for metric in shown)] for line, cells in lines.items()]
    return "".join("| " + " | ".join(line) + " |\n" for line in (head, ["---"] * len(head), *body))


def _cell(row: SummaryRow) -> str:
    diverged = f" ({row.diverged} diverged)" if row.diverged else ""
    if row.n == 0:
        return f"diverged{diverged}" if diverged else ""
    low, mean, high = (_shown(number, row.unit) for number in (row.interval.low, row.interval.mean, row.interval.high))
    if row.interval.bounded and not row.interval.spread and row.unit != "fraction":
        return mean + diverged
    return (f"{mean} [{low}, {high}]" if row.interval.bounded else f"{mean} (one seed)") + diverged


def _shown(number: float, unit: str) -> str:
    if unit == "fraction":
        return f"{100 * number:.1f}"
    return f"{number:,.0f}" if number.is_integer() and abs(number) < 1e15 else f"{number:.6g}"
