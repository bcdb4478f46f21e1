"""Judges of accuracy at equal pre-training compute (ViT, section 4.4), over seeds, on the fronts of each seed.

Deviation: the paper reads Figure 5 by eye; here two families are compared by the mean difference of their fronts over
    the compute that both have tried, and by the compute for equal accuracy. A front is the best of several noisy
    points, which flatters a family of many points: compare families of as many models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from vision_repro.analysis.claims import Evidence, Judgement
from vision_repro.analysis.compute import (
    FAMILIES,
    clouds,
    front,
    mean_accuracy,
    middle,
    of_family,
    paper_points,
    ratios,
    shared_range,
)
from vision_repro.analysis.intervals import slopes
from vision_repro.analysis.judges.estimates import equivalent, greater
from vision_repro.analysis.table import Row

SMALL, LARGE = "smaller half", "larger half"
Means = dict[int, tuple[float, float]]


def more_accurate(evidence: Evidence, first: str, second: str, *, metric: str, datasets: Sequence[str]) -> Judgement:
    """Judges that `first` is more accurate than `second` at equal compute, over the compute that both have tried."""
    means = _means(evidence, first, second, metric, datasets)
    subject = f"{FAMILIES[first]} minus {FAMILIES[second]} at equal compute"
    return _higher(evidence, means, subject, metric)


def needs_less(evidence: Evidence, first: str, second: str, *, metric: str, datasets: Sequence[str]) -> Judgement:
    """Judges that `first` needs less compute than `second` for the same accuracy.

    The estimate is log2 of the ratio, by seed the mean over the points of the front of `first` whose accuracy the front
    of `second` reaches within its range. The others have no ratio: they are counted in the note.
    """
    found: dict[int, float] = {}
    defined = total = 0
    for seed, points in clouds(_rows(evidence), metric, datasets).items():
        values = ratios(front(of_family(points, first)), of_family(points, second)).values()
        logs = [math.log2(value) for value in values if value is not None]
        total, defined = total + len(values), defined + len(logs)
        if logs:
            found[seed] = fmean(logs)
    subject = f"log2 of {FAMILIES[second]}'s compute over {FAMILIES[first]}'s at equal accuracy"
    outside = f"{total - defined} of {total} points out of range" if total else "no points"
    judged = greater(
        evidence,
        found,
        subject=subject,
        diverged=evidence.diverged(),
        metric=metric,
        unit="log2 ratio",
        note=outside,
    )
    if judged.estimate is None or not judged.estimate.n:
        return judged
    bounds = f" [{2**judged.estimate.low:.2g}, {2**judged.estimate.high:.2g}]" if judged.estimate.bounded else ""
    times = f"{FAMILIES[second]} needs {2**judged.estimate.mean:.2g}{bounds} times the compute"
    return replace(judged, note=f"{times}; {judged.note}")


def ahead_in(
    evidence: Evidence, part: str, first: str, second: str, *, metric: str, datasets: Sequence[str]
) -> Judgement:
    """Judges that `first` is more accurate than `second` in one half (`SMALL` or `LARGE`) of the compute of both."""
    means = _means(evidence, first, second, metric, datasets, part)
    return _higher(evidence, means, _in(first, second, part), metric)


def equal_in(
    evidence: Evidence, part: str, first: str, second: str, *, margin: float, metric: str, datasets: Sequence[str]
) -> Judgement:
    """Judges that `first` and `second` are equally accurate within `margin` in one half of the compute of both."""
    means = _means(evidence, first, second, metric, datasets, part)
    return equivalent(
        evidence,
        _gaps(means),
        margin=margin,
        subject=_in(first, second, part),
        means=_over_seeds(means),
        diverged=evidence.diverged(),
        metric=metric,
        note=_apart(means),
    )


def still_rising(evidence: Evidence, name: str, *, metric: str, datasets: Sequence[str]) -> Judgement:
    """Judges that a family is not saturated: its slope over log10(compute) in the larger half of its range is above 0.

    Over all its points there, because a front rises whatever the models do.
    """
    found: dict[int, float] = {}
    last: list[float] = []
    for seed, points in clouds(_rows(evidence), metric, datasets).items():
        own = of_family(points, name)
        limits = shared_range(own)
        series: dict[float, list[float]] = {}
        for point in own if limits else ():
            if limits and point.compute >= middle(*limits):
                series.setdefault(point.compute, []).append(point.accuracy)
        if len(series) > 1:
            found |= slopes({flops: {seed: fmean(values)} for flops, values in series.items()})
            last.append(fmean(series[max(series)]))
    return greater(
        evidence,
        found,
        subject=f"slope of {FAMILIES[name]} over log10(compute) in the {LARGE} of its range",
        means=(fmean(last),) if last else (),
        diverged=evidence.diverged(),
        metric=metric,
        unit="fraction per tenfold compute",
    )


def paper_gap(first: str, second: str, part: str = "") -> str:
    """Returns the paper's difference of two families at equal compute (Table 6, Average-5), in points."""
    sides = [of_family(paper_points(), name) for name in (first, second)]
    limits = shared_range(*sides)
    assert limits is not None
    means = [mean_accuracy(side, *_half(*limits, part)) for side in sides]
    return f"{100 * (means[0] - means[1]):+.1f} points"


def paper_ratios(first: str, second: str) -> str:
    """Returns how many times the paper's `second` needs the compute of its `first`: 2.8 (ViT-B/32), ..."""
    points = paper_points()
    found = ratios(of_family(points, first), of_family(points, second))
    return ", ".join(f"{value:.1f} ({point.model})" for point, value in found.items() if value is not None)


def _rows(evidence: Evidence) -> Sequence[Row]:
    return evidence.table.select(preset=evidence.preset).rows


def _means(evidence: Evidence, first: str, second: str, metric: str, datasets: Sequence[str], part: str = "") -> Means:
    """Returns by seed the mean accuracies of both fronts over the compute, or the half of it, that both have tried."""
    found: Means = {}
    for seed, points in clouds(_rows(evidence), metric, datasets).items():
        sides = [of_family(points, name) for name in (first, second)]
        limits = shared_range(*sides)
        if limits is not None:
            low, high = _half(*limits, part)
            found[seed] = (mean_accuracy(sides[0], low, high), mean_accuracy(sides[1], low, high))
    return found


def _half(low: float, high: float, part: str) -> tuple[float, float]:
    half = middle(low, high)
    return {"": (low, high), SMALL: (low, half), LARGE: (half, high)}[part]


def _higher(evidence: Evidence, means: Means, subject: str, metric: str) -> Judgement:
    return greater(
        evidence,
        _gaps(means),
        subject=subject,
        means=_over_seeds(means),
        diverged=evidence.diverged(),
        metric=metric,
        note=_apart(means),
    )


def _gaps(means: Means) -> dict[int, float]:
    return {seed: first - second for seed, (first, second) in means.items()}


def _over_seeds(means: Means) -> tuple[float, ...]:
    return tuple(map(fmean, zip(*means.values(), strict=True)))


def _apart(means: Means) -> str:
    return "" if means else "no range of compute that both have tried"


def _in(first: str, second: str, part: str) -> str:
    return f"{FAMILIES[first]} minus {FAMILIES[second]} in the {part} of their compute"
