"""Judges of how a cost grows with the image: the exponent p of cost ~ pixels^p, by seed.

The exponent is the least-squares slope of log cost over log pixels, an image of S pixels a side having S^2. Where a
cost is a sum of terms, such as linear layers (p = 1) and attention over all tokens (p = 2), it lies between them and
rises with the size; so the note has the exponent between the two largest sizes as well.

What an accountant counts has no noise: its exponent is the same for every seed, and is judged as it is, from one seed
on. What a clock measures is judged over seeds as accuracies are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

from vision_repro.analysis.claims import UNTESTED, Evidence, Judgement
from vision_repro.analysis.curves import Series, series_of
from vision_repro.analysis.intervals import describe, differences, slopes, t_interval
from vision_repro.analysis.judges.estimates import exact, greater
from vision_repro.analysis.table import Setting

OVER = "image_size"
"""The column with the side of the images [pixels]."""
UNIT = "exponent"


def costs(evidence: Evidence, setting: Setting, metric: str) -> Series:
    """Returns `[pixels][seed]` of a cost for every image size of the setting that has a value, ascending."""
    return {side**2: values for side, values in series_of(evidence, setting, over=OVER, metric=metric).items()}


def exponents(series: Series) -> dict[int, float]:
    """Returns the exponent by seed, over all sizes, of the seeds that have all; none if there are under two sizes.

    Raises:
        ValueError: if a cost or a size is not above 0.
    """
    if len(series) < 2:
        return {}
    lowest = min((value for values in series.values() for value in values.values()), default=1.0)
    if lowest <= 0:
        raise ValueError(f"an exponent needs costs above 0, not {lowest}")
    return slopes({size: {seed: math.log10(cost) for seed, cost in by.items()} for size, by in series.items()})


def local_exponents(series: Series) -> dict[int, float]:
    """Returns the exponent by seed between the two largest sizes, where the largest terms weigh most.

    Raises:
        ValueError: as `exponents`.
    """
    return exponents({size: series[size] for size in sorted(series)[-2:]})


def counted_exponent(
    evidence: Evidence, setting: Setting, *, metric: str, expected: float, margin: float, subject: str
) -> Judgement:
    """Judges the claim that a counted cost grows with the pixels to the power `expected`, within `margin`.

    `untested` if the preset is no evidence, there are under two sizes, or seeds differ, because a count does not.
    """
    series = costs(evidence, setting, metric)
    found, last = exponents(series), local_exponents(series)
    if not found:
        return Judgement(UNTESTED, subject, None, "needs two image sizes", metric, UNIT)
    note = f"expected {expected:g} within {margin:g}; between the two largest sizes {fmean(last.values()):.3f}; counted"
    true = abs(fmean(found.values()) - expected) < margin
    return exact(evidence, found, true, subject=subject, note=note, metric=metric, unit=UNIT)


def counted_less(
    evidence: Evidence, first: Setting, second: Setting, *, metric: str, subject: str, unit: str = "log2 ratio"
) -> Judgement:
    """Judges the claim that `second` has a smaller counted cost than `first`, by log2 of `first` over `second`."""
    found = _ratios(evidence, first, second, metric)
    if not found:
        return Judgement(UNTESTED, subject, None, "needs a seed that both settings share", metric, unit)
    mean = fmean(found.values())
    note = f"{2**mean:.3g} times; counted"
    return exact(evidence, found, mean > 0, subject=subject, note=note, metric=metric, unit=unit)


def grows_slower_than(evidence: Evidence, setting: Setting, *, metric: str, bound: float, subject: str) -> Judgement:
    """Judges the claim that the exponent of a measured cost is below `bound`; the estimate is `bound` minus it."""
    series = costs(evidence, setting, metric)
    found, last = exponents(series), local_exponents(series)
    judged = greater(
        evidence,
        {seed: bound - exponent for seed, exponent in found.items()},
        subject=f"{bound:g} minus {subject}",
        metric=metric,
        unit=UNIT,
    )
    return _with_exponents(judged, evidence, found, last)


def grows_faster(evidence: Evidence, first: Setting, second: Setting, *, metric: str, subject: str) -> Judgement:
    """Judges the claim that a measured cost of `first` has a larger exponent than that of `second`, paired by seeds.

    Both exponents are over the image sizes that both have.
    """
    sides = [costs(evidence, setting, metric) for setting in (first, second)]
    shared = sides[0].keys() & sides[1].keys()
    sides = [{size: side[size] for size in sorted(shared)} for side in sides]
    found = differences(*(exponents(side) for side in sides))
    last = differences(*(local_exponents(side) for side in sides))
    judged = greater(evidence, found, subject=subject, metric=metric, unit=UNIT)
    return _with_exponents(judged, evidence, found, last)


def measured_less(evidence: Evidence, first: Setting, second: Setting, *, metric: str, subject: str) -> Judgement:
    """Judges the claim that `second` has a smaller measured cost than `first`, by log2 of `first` over `second`."""
    found = _ratios(evidence, first, second, metric)
    note = f"{2 ** fmean(found.values()):.3g} times" if found else ""
    return greater(evidence, found, subject=subject, metric=metric, unit="log2 ratio", note=note)


def _ratios(evidence: Evidence, first: Setting, second: Setting, metric: str) -> dict[int, float]:
    logs = [
        {seed: math.log2(cost) for seed, cost in evidence.values(metric, **setting).items()}
        for setting in (first, second)
    ]
    return differences(*logs)


def _with_exponents(
    judged: Judgement, evidence: Evidence, found: Mapping[int, float], last: Mapping[int, float]
) -> Judgement:
    """Adds the exponent over all sizes, and the one between the two largest, to the note."""
    if not found:
        return replace(judged, note="needs two image sizes and a seed that has both")
    words = " and ".join(
        f"{name} {describe(t_interval(values.values(), evidence.level))}"
        for name, values in (("over all sizes", found), ("between the two largest", last))
    )
    return replace(judged, note="; ".join(part for part in (judged.note, words) if part))
