"""Comparisons over the amount of data: at one size, as a trend over log10(size), and as the data a model needs.

A setting is a mapping such as `{"model": "vit-64x4/2"}`; sizes are the entries of one column, by default `train_size`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import fmean
from typing import Any

from vision_repro.analysis.claims import UNTESTED, Evidence, Judgement, equivalent, greater, in_points
from vision_repro.analysis.intervals import differences, slopes
from vision_repro.analysis.table import Level

Setting = Mapping[str, Level]
Series = dict[float, dict[int, float]]


def of_models(judge: Callable[..., Judgement], first: str, second: str, **options: Any) -> Callable[..., Judgement]:
    """Returns the judge of a claim on two models, by the column `model`: `compare`, `same` or `not_worse`."""
    settings = {"first": {"model": first}, "second": {"model": second}}
    return partial(judge, **settings, subject=f"{first} minus {second}", **options)


def compare(
    evidence: Evidence,
    first: Setting,
    second: Setting,
    *,
    subject: str,
    metric: str = "test_accuracy",
    unit: str = "fraction",
    note: str = "",
) -> Judgement:
    """Judges the claim that `first` scores higher than `second`, paired over seeds; only fractions have a ceiling."""
    a, b = evidence.values(metric, **first), evidence.values(metric, **second)
    lost = evidence.diverged(**first) + evidence.diverged(**second)
    means = _means(a, b) if unit == "fraction" else ()
    return greater(
        evidence, differences(a, b), subject=subject, means=means, diverged=lost, metric=metric, unit=unit, note=note
    )


def not_worse(
    evidence: Evidence,
    first: Setting,
    second: Setting,
    *,
    margin: float,
    subject: str,
    metric: str = "test_accuracy",
) -> Judgement:
    """Judges the claim that `first` scores at most `margin` below `second`: the whole interval is above -margin.

    Not the equality of both: a better `first` lets it hold as well. The estimate is the difference itself.
    """
    note = f"margin {in_points(margin)}"
    found = compare(evidence, first, second, subject=subject, metric=metric, note=note)
    gap = differences(evidence.values(metric, **first), evidence.values(metric, **second))
    shifted = greater(evidence, {seed: value + margin for seed, value in gap.items()}, subject=subject)
    # At the ceiling both are as good as can be measured, which says nothing of the next harder data.
    return replace(found, verdict=UNTESTED if found.verdict == UNTESTED else shifted.verdict)


def same(
    evidence: Evidence,
    first: Setting,
    second: Setting,
    *,
    margin: float,
    subject: str,
    metric: str = "test_accuracy",
    note: str = "",
) -> Judgement:
    """Judges the claim that `first` and `second` score the same within `margin`, paired over seeds."""
    a, b = evidence.values(metric, **first), evidence.values(metric, **second)
    lost = evidence.diverged(**first) + evidence.diverged(**second)
    means = _means(a, b)
    found = differences(a, b)
    return equivalent(
        evidence, found, margin=margin, subject=subject, means=means, diverged=lost, metric=metric, note=note
    )


def trend(
    evidence: Evidence,
    first: Setting,
    second: Setting,
    *,
    subject: str,
    over: str = "train_size",
    metric: str = "test_accuracy",
    note: str = "",
) -> Judgement:
    """Judges the claim that `first` minus `second` rises with the size: slope over log10(size), per tenfold size.

    Where both models are at the ceiling at the largest size, the difference shrinks whatever the models do: `untested`.
    """
    series = difference_series(evidence, first, second, over=over, metric=metric)
    lost = evidence.diverged(**first) + evidence.diverged(**second)
    unit = "fraction per tenfold"
    if len(series) < 2:
        return Judgement(UNTESTED, subject, None, "needs two sizes that both settings share", metric, unit)
    largest = {over: max(series)}
    means = _means(*(evidence.values(metric, **setting, **largest) for setting in (first, second)))
    found = slopes(series)
    return greater(evidence, found, subject=subject, means=means, diverged=lost, metric=metric, unit=unit, note=note)


def needs_more(
    evidence: Evidence,
    first: Setting,
    second: Setting,
    *,
    target: float,
    subject: str,
    over: str = "train_size",
    metric: str = "test_accuracy",
    note: str = "",
) -> Judgement:
    """Judges the claim that `first` needs more data than `second` to reach the accuracy `target`.

    The estimate is log10 of the ratio of the two sizes. Seeds in which a model starts above the target or never gets
    there give no ratio; they are counted in the note and left out.
    """
    curves = [curves_by_seed(series_of(evidence, setting, over=over, metric=metric)) for setting in (first, second)]
    shared = sorted(curves[0].keys() & curves[1].keys())
    sizes = {seed: [size_reaching(curve[seed], target) for curve in curves] for seed in shared}
    found = {seed: math.log10(a / b) for seed, (a, b) in sizes.items() if 0 < a < math.inf and 0 < b < math.inf}
    lost = evidence.diverged(**first) + evidence.diverged(**second)
    without = len(shared) - len(found)
    outside = f"{without} of {len(shared)} seeds reach {target:g} outside the sizes" if without else ""
    remark = "; ".join(text for text in (outside, note) if text)
    return greater(evidence, found, subject=subject, diverged=lost, metric=metric, unit="log10 ratio", note=remark)


def series_of(
    evidence: Evidence, setting: Setting, *, over: str = "train_size", metric: str = "test_accuracy"
) -> Series:
    """Returns `[size][seed]` of the metric for every size of the setting that has a value."""
    sizes = evidence.sizes(over, **setting)
    found = {float(size): evidence.values(metric, **setting, **{over: size}) for size in sizes}
    return {size: values for size, values in found.items() if values}


def difference_series(
    evidence: Evidence, first: Setting, second: Setting, *, over: str = "train_size", metric: str = "test_accuracy"
) -> Series:
    """Returns `[size][seed]` of `first` minus `second` for every size at which both have a seed in common."""
    a, b = (series_of(evidence, setting, over=over, metric=metric) for setting in (first, second))
    found = {size: differences(a[size], b[size]) for size in sorted(a.keys() & b.keys())}
    return {size: values for size, values in found.items() if values}


def curves_by_seed(series: Series) -> dict[int, dict[float, float]]:
    """Turns `[size][seed]` into `[seed][size]`, sizes ascending, for the seeds that have all sizes."""
    shared = set.intersection(*(set(values) for values in series.values())) if series else set()
    return {seed: {size: series[size][seed] for size in sorted(series)} for seed in sorted(shared)}


def size_reaching(curve: Mapping[float, float], target: float) -> float:
    """Returns the size at which a curve (size -> accuracy) first reaches `target`, linear in log(size) between sizes.

    0 if the smallest size is already above the target (it needs less than was tried), infinity if none reaches it.

    Raises:
        ValueError: if a size is not above 0.
    """
    points = sorted(curve.items())
    if points and points[0][0] <= 0:
        raise ValueError(f"sizes must be above 0, not {points[0][0]}")
    if points and points[0][1] >= target:
        return points[0][0] if points[0][1] == target else 0.0
    for (small, below), (large, above) in pairwise(points):
        if above >= target:
            share = (target - below) / (above - below)
            return math.exp(math.log(small) + share * (math.log(large) - math.log(small)))
    return math.inf


def _means(*groups: Mapping[int, float]) -> tuple[float, ...]:
    shared = set.intersection(*(set(group) for group in groups))
    return tuple(fmean(group[seed] for seed in sorted(shared)) for group in groups) if shared else ()
