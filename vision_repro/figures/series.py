"""What the panels of a study show, cut out of its summary rows: lines over a number, and entries of a list.

A setting is a mapping such as `{"model": "plain20"}`; together with a metric it names one summary row, in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vision_repro.analysis.intervals import Interval
from vision_repro.analysis.summary import SummaryRow
from vision_repro.analysis.table import Level

Setting = Mapping[str, Level]
PAPER = -1
"""The look of what a paper prints."""
ROLES = ("", "reference", "without", "baseline", "beyond")


@dataclass(frozen=True)
class Point:
    """A measured number with its interval over `x`."""

    x: float
    interval: Interval


@dataclass(frozen=True)
class Series:
    """Points under one name, ascending in x, joined by a line or not.

    `look` numbers a colour and a marker; None gives each name of a figure one of its own. `diverged` are the places
    at which all runs diverged, and `level` is a height with a dashed line of its own, such as that of a baseline.
    """

    label: str
    points: tuple[Point, ...]
    unit: str = "fraction"
    joined: bool = True
    look: int | None = None
    diverged: tuple[float, ...] = ()
    level: float | None = None


@dataclass(frozen=True)
class Entry:
    """One line of a list: our number, if it was measured, the paper's, if it prints one, and its role in the list.

    The role is `reference` (what the others are compared with), `without` (what is taken away), `baseline` (what all
    should exceed), `beyond` (not in the paper) or empty. `only_paper` marks a line that has a number of ours nowhere.
    """

    label: str
    interval: Interval | None
    unit: str = "fraction"
    paper: float | None = None
    role: str = ""
    only_paper: bool = False

    def __post_init__(self) -> None:
        """Refuses a role that there is not."""
        if self.role not in ROLES:
            raise ValueError(f'"{self.role}" is no role: expected one of {", ".join(map(repr, ROLES))}')


def matching(rows: Iterable[SummaryRow], metric: str, setting: Setting) -> list[SummaryRow]:
    """Returns the rows of a metric that agree with a setting and have a value.

    Raises:
        KeyError: if the setting names a column that the rows do not have.
    """
    found = [row for row in rows if row.metric == metric and all(row.setting[key] == setting[key] for key in setting)]
    return [row for row in found if row.n]


def one(rows: Iterable[SummaryRow], metric: str, setting: Setting) -> SummaryRow | None:
    """Returns the row of a metric and a setting, or None if it was not measured.

    Raises:
        ValueError: if the setting leaves open which row.
    """
    found = matching(rows, metric, setting)
    if len(found) > 1:
        raise ValueError(f"{dict(setting)} names {len(found)} rows of {metric}: expected a setting in full")
    return found[0] if found else None


def over(
    rows: Sequence[SummaryRow],
    metric: str,
    setting: Setting,
    along: str,
    label: str,
    *,
    complement: bool = False,
    joined: bool = True,
    look: int | None = None,
) -> Series:
    """Returns a metric over the numeric setting `along`; with `complement` 1 minus it, such as an error."""
    found = matching(rows, metric, setting)
    if len({row.setting[along] for row in found}) < len(found):
        raise ValueError(f"{dict(setting)} leaves more open than {along}")
    numbered = [(row.setting[along], row) for row in found]
    points = [Point(float(x), _shown(row, complement)) for x, row in numbered if not isinstance(x, str)]
    every = [row for row in rows if row.metric == metric and all(row.setting[key] == setting[key] for key in setting)]
    diverged = sorted(float(str(row.setting[along])) for row in every if not row.n and row.diverged)
    return replace(_series(label, points, found, joined, look), diverged=tuple(diverged))


def against(
    rows: Sequence[SummaryRow],
    metric: str,
    cost: str,
    settings: Iterable[Setting],
    label: str,
    *,
    complement: bool = False,
    joined: bool = True,
    look: int | None = None,
) -> Series:
    """Returns a metric over the mean of another one, `cost`, a point for each of the settings that has both."""
    points, used = [], []
    for setting in settings:
        row, price = one(rows, metric, setting), one(rows, cost, setting)
        if row is not None and price is not None:
            points.append(Point(price.interval.mean, _shown(row, complement)))
            used.append(row)
    return _series(label, points, used, joined, look)


def by_layer(
    rows: Sequence[SummaryRow], prefix: str, setting: Setting, label: str, *, look: int | None = None
) -> Series:
    """Returns the metrics `<prefix>_<number>` of a setting over that number."""
    names = {row.metric for row in rows if row.metric.rpartition("_")[0] == prefix}
    numbered = {int(name.rpartition("_")[2]): name for name in names if name.rpartition("_")[2].isdigit()}
    found = {number: one(rows, name, setting) for number, name in numbered.items()}
    kept = {number: row for number, row in found.items() if row is not None}
    points = [Point(float(number), row.interval) for number, row in kept.items()]
    return _series(label, points, list(kept.values()), True, look)


def along(
    rows: Sequence[SummaryRow],
    metric: str,
    settings: Mapping[float, Setting],
    label: str,
    *,
    baseline: Setting | None = None,
) -> Series:
    """Returns a metric over places that stand for a setting each; that of the `baseline` is the level of the line."""
    found = {x: row for x, setting in settings.items() if (row := one(rows, metric, setting)) is not None}
    points = [Point(float(x), row.interval) for x, row in found.items()]
    below = None if baseline is None else one(rows, metric, baseline)
    line = _series(label, points, list(found.values()), True, None)
    return replace(line, level=None if below is None else below.interval.mean)


def entry(
    rows: Sequence[SummaryRow],
    metric: str,
    setting: Setting,
    label: str,
    paper: float | None = None,
    role: str = "",
    *,
    complement: bool = False,
) -> Entry:
    """Returns the line of a list for a metric and a setting."""
    row = one(rows, metric, setting)
    if row is None:
        return Entry(label, None, paper=paper, role=role)
    return Entry(label, _shown(row, complement), row.unit, paper, role)


def printed(label: str, value: float, role: str = "") -> Entry:
    """Returns the line of a list that only a paper has a number for, a fraction."""
    return Entry(label, None, paper=value, role=role, only_paper=True)


def paper(label: str, values: Mapping[float, float], *, unit: str = "fraction", joined: bool = True) -> Series:
    """Returns what a paper prints, by x; it has no intervals."""
    points = tuple(Point(float(x), Interval(*3 * (values[x],), 1)) for x in sorted(values))
    return Series(label, points, unit, joined, PAPER)


def _series(label: str, points: Sequence[Point], rows: Sequence[SummaryRow], joined: bool, look: int | None) -> Series:
    units = {row.unit for row in rows}
    if len(units) > 1:
        raise ValueError(f"{label}: one line with several units, {', '.join(sorted(units))}")
    return Series(label, tuple(sorted(points, key=lambda point: point.x)), next(iter(units), "fraction"), joined, look)


def _shown(row: SummaryRow, complement: bool) -> Interval:
    interval = row.interval
    return (
        replace(interval, mean=1 - interval.mean, low=1 - interval.high, high=1 - interval.low)
        if complement
        else interval
    )
