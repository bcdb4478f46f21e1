"""Compares two tables of one experiment, by setting and metric, against the noise between seeds.

A is the table before, B the one after; every difference is B minus A. Seeds that both have are paired, because a seed
fixes subset, weights and order; without two such seeds the sides are taken as independent (Welch). The p values are
corrected for the number of comparisons (Holm): if nothing changed, the chance of any flag at all is at most 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from vision_repro.analysis.intervals import LEVEL, Interval, differences, holm, t_interval, t_p_value, welch_difference
from vision_repro.analysis.table import Level, Table, order
from vision_repro.config import UserError

SAME, NOISE, BEYOND, UNMEASURED = "same", "within noise", "beyond noise", "noise not measured"
DIVERGED = "diverged runs"
Key = tuple[Level, ...]
"""The entries of the setting columns, in their order."""


@dataclass(frozen=True)
class Change:
    """One metric in one setting: means of A and B, B minus A, how it was compared, p before and after correction."""

    setting: Mapping[str, Level]
    metric: str
    unit: str
    before: float
    after: float
    difference: Interval
    seeds: tuple[int, int]
    how: str
    p: float
    corrected: float = 1.0
    status: str = NOISE


@dataclass(frozen=True)
class Comparison:
    """All changes in the order of settings and metrics, and the names of those that only A or only B has."""

    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    level: float = LEVEL

    def of(self, *statuses: str) -> list[Change]:
        """Returns the changes with one of the statuses, the smallest p first."""
        return sorted((item for item in self.changes if item.status in statuses), key=lambda item: item.corrected)

    @property
    def tests(self) -> int:
        """Number of comparisons that the correction is for."""
        return len(self.of(NOISE, BEYOND))


def compare_tables(before: Table, after: Table, level: float = LEVEL) -> Comparison:
    """Returns what differs between two tables of one experiment, whatever their presets are called.

    Raises:
        UserError: if they are tables of different experiments or settings, or one of them holds several presets.
    """
    _check(before, after)
    first, second = _settings(before), _settings(after)
    shared = sorted(first.keys() & second.keys(), key=_order)
    changes: list[Change] = []
    only: tuple[list[str], list[str]] = ([], [])
    for side, keys in enumerate((first.keys() - second.keys(), second.keys() - first.keys())):
        only[side].extend(setting_text(dict(zip(before.columns, key, strict=True))) for key in sorted(keys, key=_order))
    for key in shared:
        setting = dict(zip(before.columns, key, strict=True))
        a, b = first[key], second[key]
        for metric in sorted(a.metrics.keys() | b.metrics.keys()):
            if metric in a.metrics and metric in b.metrics:
                changes.append(_change(setting, metric, a, b, level))
            else:
                only[metric not in a.metrics].append(f"{metric} of {setting_text(setting)}")
        if a.diverged or b.diverged:
            changes.append(_divergence(setting, a, b, level))
    return Comparison(tuple(_corrected(changes, level)), tuple(only[0]), tuple(only[1]), level)


def setting_text(setting: Mapping[str, Level]) -> str:
    """Returns `model=vit-64x4/2, train_size=20`."""
    return ", ".join(f"{name}={entry}" for name, entry in setting.items())


@dataclass
class _Runs:
    """One setting of one table: metric -> seed -> value of good runs, units, seeds of all and of diverged runs."""

    metrics: dict[str, dict[int, float]]
    units: dict[str, str]
    seeds: set[int]
    diverged: set[int]


def _settings(table: Table) -> dict[Key, _Runs]:
    found: dict[Key, _Runs] = {}
    for row in table.rows:
        runs = found.setdefault(tuple(row.settings.values()), _Runs({}, {}, set(), set()))
        values = runs.metrics.setdefault(row.metric, {})
        runs.units[row.metric] = row.unit
        runs.seeds.add(row.seed)
        if row.diverged:
            runs.diverged.add(row.seed)
        if row.ok:
            values[row.seed] = row.value
    return found


def _check(before: Table, after: Table) -> None:
    for name, table in (("first", before), ("second", after)):
        for column in ("experiment", "preset"):
            if len(table.levels(column)) != 1:
                many = ", ".join(map(str, table.levels(column))) or "none"
                raise UserError(f"The {name} table holds several {column}s, or none ({many}): expected one.")
    one, other = (table.levels("experiment")[0] for table in (before, after))
    if one != other:
        raise UserError(f"The first holds {one}, the second {other}: expected two results of one experiment.")
    if before.columns != after.columns:
        names = [", ".join(table.columns) or "none" for table in (before, after)]
        raise UserError(f"The settings of the two tables differ: {names[0]} in the first, {names[1]} in the second.")


def _order(key: Key) -> tuple[tuple[bool, float, str], ...]:
    return tuple(order(entry) for entry in key)


def _change(setting: Mapping[str, Level], metric: str, a: _Runs, b: _Runs, level: float) -> Change:
    first, second = a.metrics[metric], b.metrics[metric]
    paired = differences(second, first)
    if len(paired) >= 2:
        how, interval, p = "paired", t_interval(paired.values(), level), t_p_value(paired.values())
    else:
        how = "Welch" if min(len(first), len(second)) >= 2 else "one seed"
        interval, p = welch_difference(second, first, level)
    a_mean, b_mean = (fmean(side.values()) if side else math.nan for side in (first, second))
    unit, seeds, status = b.units[metric], (len(first), len(second)), _status(first, second, interval)
    return Change(setting, metric, unit, a_mean, b_mean, interval, seeds, how, p, status=status)


def _status(first: Mapping[int, float], second: Mapping[int, float], interval: Interval) -> str:
    """Returns NOISE if a test is possible: whether it is beyond noise follows from the corrected p."""
    if first == second:
        return SAME
    if interval.n >= 2 and interval.bounded and interval.spread:
        return NOISE
    return SAME if interval.n and abs(interval.mean) <= 1e-12 * max(map(abs, first.values())) else UNMEASURED


def _divergence(setting: Mapping[str, Level], a: _Runs, b: _Runs, level: float) -> Change:
    """Compares the fractions of diverged runs by Fisher's exact test; there is no interval."""
    counts = (len(a.diverged), len(a.seeds)), (len(b.diverged), len(b.seeds))
    before, after = (diverged / runs for diverged, runs in counts)
    gap = Interval(after - before, -math.inf, math.inf, min(len(a.seeds), len(b.seeds)), level)
    p, status = fisher(*counts), SAME if a.diverged == b.diverged and a.seeds == b.seeds else NOISE
    seeds = len(a.seeds), len(b.seeds)
    return Change(setting, DIVERGED, "fraction", before, after, gap, seeds, "Fisher", p, status=status)


def fisher(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Returns the two-sided p of Fisher's exact test for two (events, trials): the sum over all no likelier tables."""
    (hits, trials), (others, more) = first, second
    total = hits + others

    def ways(count: int) -> int:
        return math.comb(trials, count) * math.comb(more, total - count)

    possible = [ways(count) for count in range(max(0, total - more), min(trials, total) + 1)]
    return sum(way for way in possible if way <= ways(hits)) / sum(possible)


def _corrected(changes: Sequence[Change], level: float) -> Iterable[Change]:
    """Yields the changes with the corrected p, flagged if it is below 1 - level."""
    tested = [item.p for item in changes if item.status == NOISE]
    found = iter(holm(tested))
    for item in changes:
        if item.status != NOISE:
            yield item
            continue
        corrected = next(found)
        yield replace(item, corrected=corrected, status=BEYOND if corrected < 1 - level else NOISE)
