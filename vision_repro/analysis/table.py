"""The table of results: one measured number a row, read from CSV and asked for values by setting.

Columns: experiment, preset, run, <setting columns>, seed, status, metric, value, unit. Accuracies are fractions.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vision_repro.config import UserError, nearest

Level = str | int | float
Setting = Mapping[str, Level]
"""Entries of setting columns, such as `{"model": "vit-64x4/2"}`."""
BEFORE = ("experiment", "preset", "run")
AFTER = ("seed", "status", "metric", "value", "unit")
STATUSES = ("ok", "diverged")

_INTEGER = re.compile(r"[+-]?\d+")
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Row:
    """One measured number of one run; `settings` holds what the experiment compares, such as model and train_size."""

    experiment: str
    preset: str
    run: str
    settings: Mapping[str, Level]
    seed: int
    status: str
    metric: str
    value: float
    unit: str

    @property
    def ok(self) -> bool:
        """True if the run did not diverge and the number is finite; NaN in a good run is a number not measured."""
        return self.status == "ok" and math.isfinite(self.value)

    @property
    def diverged(self) -> bool:
        """True if the run diverged: by its status, or by an infinite number whatever the status says."""
        return self.status == "diverged" or math.isinf(self.value)

    def get(self, column: str) -> Level:
        """Returns the entry of a setting column or of a fixed column."""
        entry: Level = self.settings[column] if column in self.settings else getattr(self, column)
        return entry


@dataclass(frozen=True)
class Table:
    """All rows of one or several experiments with the same setting columns."""

    rows: tuple[Row, ...]
    columns: tuple[str, ...] = field(init=False)

    def __init__(self, rows: Iterable[Row]) -> None:
        """Takes the rows in any order.

        Raises:
            UserError: if rows differ in their setting columns, or the same number is there twice.
        """
        object.__setattr__(self, "rows", tuple(rows))
        object.__setattr__(self, "columns", tuple(self.rows[0].settings) if self.rows else ())
        seen = set()
        for row in self.rows:
            if tuple(row.settings) != self.columns:
                raise UserError(f"The rows differ in their settings: {tuple(row.settings)} and {self.columns}.")
            key = (row.experiment, row.preset, *row.settings.values(), row.seed, row.metric)
            if key in seen:
                where = ", ".join(f"{name}={entry}" for name, entry in row.settings.items())
                what = f"{row.metric} of {where}, seed={row.seed}, preset={row.preset}"
                raise UserError(f"{what} is in the table twice: remove one of the two.")
            seen.add(key)

    @classmethod
    def read(cls, path: Path) -> Table:
        """Returns the table in the CSV file `path`.

        Raises:
            UserError: naming the file, the line and what was expected.
        """
        try:
            with path.open(newline="", encoding="utf-8") as file:
                return cls(_parse(csv.reader(file), path))
        except FileNotFoundError:
            raise UserError(f"There is no table {path}: run the experiment first.") from None
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"The table {path} cannot be read: {error}.") from None

    def select(self, **setting: Level) -> Table:
        """Returns the rows in which each named column has the given entry."""
        for column in setting:
            self._check(column)
        rows = (row for row in self.rows if all(row.get(name) == entry for name, entry in setting.items()))
        return Table(rows)

    def values(self, metric: str, **setting: Level) -> dict[int, float]:
        """Returns the metric by seed, ascending; diverged runs and missing numbers are left out.

        Raises:
            ValueError: if a column is unknown, or one seed has several rows because the setting is incomplete.
        """
        found: dict[int, float] = {}
        rows = [row for row in self.select(**setting).rows if row.metric == metric]
        for row in rows:
            if row.seed in found:
                varying = [name for name in (*BEFORE[:2], *self.columns) if len({item.get(name) for item in rows}) > 1]
                raise ValueError(f"{metric} of {setting} is ambiguous: give also {', '.join(varying)}")
            found[row.seed] = row.value
        finite = {row.seed for row in rows if row.ok}
        return {seed: found[seed] for seed in sorted(finite)}

    def levels(self, column: str) -> list[Level]:
        """Returns the distinct entries of a column: numbers ascending, then words in order."""
        self._check(column)
        return sorted({row.get(column) for row in self.rows}, key=order)

    def diverged(self, **setting: Level) -> int:
        """Returns the number of runs (setting and seed) that diverged."""
        rows = self.select(**setting).rows
        return len({(row.experiment, row.preset, *row.settings.values(), row.seed) for row in rows if row.diverged})

    def _check(self, column: str) -> None:
        known = (*BEFORE, *self.columns, *AFTER)
        if self.rows and column not in known:
            raise ValueError(f'the table has no column "{column}".{nearest(column, known)}')


def order(entry: Level) -> tuple[bool, float, str]:
    """Returns the sort key that puts numbers before words, each in their own order."""
    return (True, 0.0, entry) if isinstance(entry, str) else (False, float(entry), "")


def parse_level(text: str) -> Level:
    """Returns `text` as an int or a float if it is written as one, else unchanged (`nan` and `1_0` are words)."""
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


def _parse(lines: Iterator[list[str]], path: Path) -> Iterator[Row]:
    header = next(lines, [])
    names = header[len(BEFORE) : -len(AFTER)]
    if (*BEFORE, *names, *AFTER) != tuple(header) or len(set(header)) != len(header):
        expected = f"{','.join(BEFORE)},<settings>,{','.join(AFTER)}"
        raise UserError(f"The table {path} has the header {','.join(header)!r}: expected {expected}.")
    for number, cells in enumerate(lines, start=2):
        if len(cells) != len(header):
            raise UserError(f"Line {number} of {path} has {len(cells)} cells, not {len(header)}: was the file cut off?")
        yield _row(cells, names, f"Line {number} of {path}")


def _row(cells: list[str], names: list[str], where: str) -> Row:
    seed, status, metric, value, unit = cells[-len(AFTER) :]
    if status not in STATUSES:
        known = ", ".join(STATUSES)
        raise UserError(f"{where} has the status {status!r}: expected one of {known}.{nearest(status, STATUSES)}")
    settings = dict(zip(names, map(parse_level, cells[len(BEFORE) :]), strict=False))
    try:
        return Row(cells[0], cells[1], cells[2], settings, int(seed), status, metric, float(value), unit)
    except ValueError:
        raise UserError(f"{where} has seed={seed!r}, value={value!r}: expected a whole number and a number.") from None
