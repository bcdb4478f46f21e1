"""Judges of numbers by seed: above 0, above a margin, within a margin, rising with a size, or an exact count.

Each says `untested` first if the preset is no evidence, the seeds are too few, all models are at the ceiling, or
the seeds show no spread. The judges of the other files compute the numbers and leave the decision to these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Evidence, Judgement
from vision_repro.analysis.intervals import Interval, slopes, t_interval

ACCURACY = "test_accuracy"


def greater(
    evidence: Evidence,
    difference: Mapping[int, float],
    *,
    subject: str,
    means: Sequence[float] = (),
    diverged: int = 0,
    metric: str = ACCURACY,
    unit: str = "fraction",
    note: str = "",
) -> Judgement:
    """Judges the claim that the difference, given by seed, is above 0.

    `holds` if the whole interval is above 0, `fails` if all of it is below, `undecided` if it contains or touches 0.
    `means` are the mean accuracies compared, for the ceiling check: it applies when all of them reach the ceiling.
    """
    interval = t_interval(difference.values(), evidence.level)
    obstacle = _obstacle(evidence, interval, means)
    verdict = UNTESTED if obstacle else HOLDS if interval.low > 0 else FAILS if interval.high < 0 else UNDECIDED
    return Judgement(verdict, subject, interval, _join(obstacle, _left_out(diverged), note), metric, unit)


def above_margin(
    evidence: Evidence,
    difference: Mapping[int, float],
    *,
    margin: float,
    subject: str,
    means: Sequence[float] = (),
    diverged: int = 0,
    metric: str = ACCURACY,
    unit: str = "fraction",
    note: str = "",
) -> Judgement:
    """Judges the claim that the difference, given by seed, is above -margin; the estimate is the difference itself.

    At the ceiling it is `untested`: both are as good as can be measured, which says nothing of harder data.

    Raises:
        ValueError: if the margin is below 0.
    """
    if margin < 0:
        raise ValueError(f"a margin must be 0 or more, not {margin}")
    shifted = {seed: value + margin for seed, value in difference.items()}
    judged = greater(
        evidence, shifted, subject=subject, means=means, diverged=diverged, metric=metric, unit=unit, note=note
    )
    return replace(judged, estimate=t_interval(difference.values(), evidence.level))


def equivalent(
    evidence: Evidence,
    difference: Mapping[int, float],
    *,
    margin: float,
    subject: str,
    means: Sequence[float] = (),
    diverged: int = 0,
    metric: str = ACCURACY,
    unit: str = "fraction",
    note: str = "",
) -> Judgement:
    """Judges the claim that the difference, given by seed, is within `margin` of 0.

    `holds` if the whole interval is inside (-margin, margin), `fails` if all of it is outside, else `undecided`. This
    is the two one-sided tests procedure with the two-sided interval: at 95 % a side errs in 2.5 %, not in 5 %.

    Raises:
        ValueError: if the margin is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"an equivalence margin must be above 0, not {margin}")
    interval = t_interval(difference.values(), evidence.level)
    obstacle = _obstacle(evidence, interval, means)
    inside = -margin < interval.low and interval.high < margin
    outside = interval.low > margin or interval.high < -margin
    verdict = UNTESTED if obstacle else HOLDS if inside else FAILS if outside else UNDECIDED
    within = f"equivalence margin {in_points(margin, unit)}"
    return Judgement(verdict, subject, interval, _join(within, obstacle, _left_out(diverged), note), metric, unit)


def rising(
    evidence: Evidence,
    series: Mapping[float, Mapping[int, float]],
    *,
    subject: str,
    needs: str,
    means: Sequence[float] = (),
    diverged: int = 0,
    metric: str = ACCURACY,
    note: str = "",
) -> Judgement:
    """Judges the claim that `series[size][seed]` rises with the size: slope over log10(size), per tenfold size.

    `untested` with fewer than two sizes; `needs` is the sentence that says so.
    """
    unit = "fraction per tenfold"
    if len(series) < 2:
        return Judgement(UNTESTED, subject, None, needs, metric, unit)
    return greater(
        evidence, slopes(series), subject=subject, means=means, diverged=diverged, metric=metric, unit=unit, note=note
    )


def counted(
    evidence: Evidence,
    value: float | None,
    *,
    expected: float,
    tolerance: float = 0.0,
    subject: str,
    metric: str,
    unit: str = "",
    note: str = "",
) -> Judgement:
    """Judges the claim that a count, which has no noise, such as FLOPs, is `expected` within `tolerance`.

    `holds` or `fails`; `untested` if there is no value or the preset is no evidence. The numbers are in the note.
    """
    if value is None:
        return Judgement(UNTESTED, subject, None, _join("not counted", note), metric, unit)
    within = f" within {tolerance:g}" if tolerance else ""
    numbers = f"{value:.6g}, expected {expected:.6g}{within}"
    obstacle = _no_evidence(evidence)
    verdict = UNTESTED if obstacle else HOLDS if abs(value - expected) <= tolerance + 1e-12 * abs(expected) else FAILS
    return Judgement(verdict, subject, None, _join(numbers, obstacle, note), metric, unit)


def exact(
    evidence: Evidence, values: Mapping[int, float], true: bool, *, subject: str, note: str, metric: str, unit: str
) -> Judgement:
    """Judges whether a claim on counts by seed is `true`; the estimate is their mean, an interval without width.

    `untested` if the preset is no evidence, or if the seeds differ, because counts do not.
    """
    mean = fmean(values.values())
    interval = Interval(mean, mean, mean, len(values), evidence.level)
    obstacle = _no_evidence(evidence)
    if not obstacle and len(values) > 1 and t_interval(values.values(), evidence.level).spread:
        obstacle = "the seeds differ, so this is no count"
    verdict = UNTESTED if obstacle else HOLDS if true else FAILS
    return Judgement(verdict, subject, interval, _join(obstacle, note), metric, unit)


def in_points(margin: float, unit: str = "fraction") -> str:
    """Returns a margin as it is shown beside estimates: fractions as percentage points."""
    if unit != "fraction":
        return f"{margin:g}"
    return f"{100 * margin:g} point" + ("" if math.isclose(margin, 0.01) else "s")


def _obstacle(evidence: Evidence, interval: Interval, means: Sequence[float]) -> str:
    """Returns why the numbers cannot decide anything, or the empty string."""
    seeds = max(2, evidence.min_seeds)
    if not evidence.counts:
        return _no_evidence(evidence)
    if interval.n < seeds:
        return f"needs {seeds} seeds that all settings share"
    if means and min(means) >= evidence.ceiling:
        return f"all means reach the ceiling of {evidence.ceiling:g}"
    if not interval.spread:
        return "all seeds give the same number, so the noise is not measured"
    return ""


def _no_evidence(evidence: Evidence) -> str:
    return "" if evidence.counts else f'the preset "{evidence.preset}" is no evidence'


def _left_out(diverged: int) -> str:
    return f"{diverged} diverged run{'' if diverged == 1 else 's'} left out" if diverged else ""


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
