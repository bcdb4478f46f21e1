"""Judges of two nets over learning rates: how high the rate may be, how wide the good range is, how much it matters.

A curve maps a learning rate to an accuracy (fraction); between two rates it is a line over log10(rate). A run that
diverged has learned nothing: its accuracy is chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean, pstdev

from vision_repro.analysis.claims import UNTESTED, Evidence, Judgement
from vision_repro.analysis.intervals import differences
from vision_repro.analysis.judges.comparisons import compare
from vision_repro.analysis.judges.estimates import ACCURACY, greater
from vision_repro.analysis.table import Setting

Curve = Mapping[float, float]


def curves_of(evidence: Evidence, setting: Setting, *, chance: float, metric: str = ACCURACY) -> dict[int, Curve]:
    """Returns the curve of each seed that has a run, ended or diverged, at every learning rate of the setting."""
    rows = [
        row
        for row in evidence.table.select(preset=evidence.preset, **setting).rows
        if row.metric == metric and (row.ok or row.diverged)
    ]
    found: dict[int, dict[float, float]] = {}
    for row in rows:
        found.setdefault(row.seed, {})[float(row.settings["lr"])] = row.value if row.ok else chance
    rates = {rate for curve in found.values() for rate in curve}
    return {seed: dict(sorted(curve.items())) for seed, curve in sorted(found.items()) if set(curve) == rates}


def best_rate(evidence: Evidence, setting: Setting, below: float = math.inf) -> float | None:
    """Returns the learning rate under `below` with the best mean `val` accuracy, if there is one.

    Only rates at which no run diverged are looked at.
    """
    rates = [rate for rate in evidence.sizes("lr", **setting) if rate < below]
    values = {rate: evidence.values("val_accuracy", **setting, lr=rate).values() for rate in rates}
    good = [rate for rate in rates if values[rate] and not evidence.diverged(**setting, lr=rate)]
    return max(good, key=lambda rate: fmean(values[rate]), default=None)


def highest(curve: Curve, floor: float) -> float:
    """Returns log10 of the highest rate at which the curve still is at `floor`; the last one tried if it is there.

    -inf if it never is.
    """
    points = _points(curve)
    if points[-1][1] >= floor:
        return points[-1][0]
    for (low, before), (high, after) in reversed(list(pairwise(points))):
        if before >= floor > after:
            return low + (high - low) * (before - floor) / (before - after)
    return -math.inf


def width(curve: Curve, floor: float) -> float:
    """Returns how many tenfolds of the learning rate the curve is at `floor` or above, 0 or more."""
    total = 0.0
    for (low, before), (high, after) in pairwise(_points(curve)):
        above, below = max(before, after), min(before, after)
        share = 1.0 if below >= floor else 0.0 if above < floor else (above - floor) / (above - below)
        total += share * (high - low)
    return total


def spread(curve: Curve) -> float:
    """Returns the standard deviation of the accuracies over the rates (of these rates, not of a sample)."""
    return pstdev(curve.values())


def half_way(curve: Curve, chance: float) -> float:
    """Returns the accuracy half way between chance and the best of the curve."""
    return (chance + max(curve.values())) / 2


def _points(curve: Curve) -> Sequence[tuple[float, float]]:
    return [(math.log10(rate), accuracy) for rate, accuracy in sorted(curve.items())]


def higher_rates(evidence: Evidence, first: Setting, second: Setting, *, subject: str, chance: float) -> Judgement:
    """Judges that `first` learns at higher rates: up to where its accuracy is half way down to chance, on a log scale.

    Settings name a net without its learning rate; the paired seeds need a run at each rate.
    """

    def top(curve: Curve) -> float:
        return highest(curve, half_way(curve, chance))

    note = "where accuracy is half way from the net's best to chance, between the rates tried"
    return _judged(evidence, first, second, top, subject=subject, chance=chance, unit="log10 ratio", note=note)


def wider_range(
    evidence: Evidence, first: Setting, second: Setting, *, subject: str, chance: float, close: float
) -> Judgement:
    """Judges that `first` is within `close` of its own best accuracy over more tenfolds of the learning rate."""

    def wide(curve: Curve) -> float:
        return width(curve, max(curve.values()) - close)

    return _judged(evidence, first, second, wide, subject=subject, chance=chance, unit="tenfolds")


def less_sensitive(evidence: Evidence, first: Setting, second: Setting, *, subject: str, chance: float) -> Judgement:
    """Judges that the accuracy of `first` depends less on the rate: its standard deviation over the rates is smaller.

    The estimate is the deviation of `second` minus that of `first`.
    """
    return _judged(evidence, second, first, spread, subject=subject, chance=chance)


def better_at_best(evidence: Evidence, first: Setting, second: Setting, *, subject: str) -> Judgement:
    """Judges that `first` scores higher on test, each at the rate that is its best on `val`."""
    own, other = best_rate(evidence, first), best_rate(evidence, second)
    if own is None or other is None:
        return Judgement(UNTESTED, subject, None, "no rate at which all runs ended", ACCURACY)
    note = f"lr {own:g} and {other:g}, chosen on val"
    return compare(evidence, {**first, "lr": own}, {**second, "lr": other}, subject=subject, note=note)


def _judged(
    evidence: Evidence,
    first: Setting,
    second: Setting,
    measure: Callable[[Curve], float],
    *,
    subject: str,
    chance: float,
    unit: str = "fraction",
    note: str = "",
) -> Judgement:
    """Judges that `measure` of the curve of a seed is larger in `first`."""
    found = [
        {seed: measure(curve) for seed, curve in curves_of(evidence, setting, chance=chance).items()}
        for setting in (first, second)
    ]
    return greater(evidence, differences(*found), subject=subject, unit=unit, note=note)
