"""A metric over sizes, by seed: as series `[size][seed]`, and the size at which a curve reaches a value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from vision_repro.analysis.claims import Evidence
from vision_repro.analysis.intervals import differences
from vision_repro.analysis.table import Setting

Series = dict[float, dict[int, float]]
"""`[size][seed]`."""


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
