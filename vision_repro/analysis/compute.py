"""Accuracy against pre-training compute: points, Pareto fronts, and distances between fronts (ViT, section 4.4).

Compute is in FLOPs of pre-training, accuracy a fraction. A front is read linearly in log(compute) between its points
and is flat behind its last one; less compute than was tried, or more, is outside it. The paper's 18 points (Table 6)
go through the same functions as ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from vision_repro.analysis.curves import size_reaching
from vision_repro.analysis.table import Row
from vision_repro.models.families import family
from vision_repro.papers.tables import paper_table

FAMILIES = {"vit": "ViT", "bit": "BiT (ResNet)", "hybrid": "Hybrid"}
"""Family -> its name in text."""
COMPUTE = "pretraining_flops"
AVERAGE = ("imagenet", "cifar10", "cifar100", "pets", "flowers102")
"""The data sets of the paper's Average-5 (inferred: these columns reproduce the averages printed in its Table 7)."""


@dataclass(frozen=True)
class Point:
    """A pre-trained model: its name, the name of its pre-training, compute [FLOPs] and accuracy (a fraction)."""

    model: str
    start: str
    compute: float
    accuracy: float


def of_family(points: Iterable[Point], name: str) -> list[Point]:
    """Returns the points of a family."""
    return [point for point in points if family(point.model) == name]


def clouds(rows: Iterable[Row], metric: str, datasets: Sequence[str]) -> dict[int, list[Point]]:
    """Returns by seed a point for each model and pre-training: the mean of `metric` over `datasets`.

    A point without a value on one of them, or without its compute, is left out: means over different data sets do not
    compare. Rows need the settings model, start and dataset.
    """
    values: dict[tuple[int, str, str], dict[str, float]] = {}
    flops: dict[tuple[int, str, str], float] = {}
    for row in rows:
        key = (row.seed, str(row.settings["model"]), str(row.settings["pretraining"]))
        if row.ok and row.metric == metric:
            values.setdefault(key, {})[str(row.settings["dataset"])] = row.value
        elif row.ok and row.metric == COMPUTE:
            flops[key] = row.value
    found: dict[int, list[Point]] = {}
    for key in sorted(values.keys() & flops.keys()):
        if set(datasets) <= values[key].keys():
            mean = fmean(values[key][name] for name in datasets)
            found.setdefault(key[0], []).append(Point(*key[1:], flops[key], mean))
    return found


def paper_points(columns: Sequence[str] = AVERAGE) -> list[Point]:
    """Returns the 18 points of the paper's Table 6, accuracy as the mean over `columns`; `start` is the epochs.

    As printed, the 859 exaFLOPs of R50+ViT-L/16 at 7 epochs included, which half of the 14 epochs puts at 834.
    """
    return [
        Point(
            row["model"],
            f"JFT@{row['epochs']}",
            float(row["exaflops"]) * 1e18,
            fmean(float(row[name]) / 100 for name in columns),
        )
        for row in paper_table("vit_table6")
    ]


def front(points: Iterable[Point]) -> list[Point]:
    """Returns the Pareto front: the points that no other reaches with less or equal compute; both rise along it."""
    found: list[Point] = []
    for point in sorted(points, key=lambda item: (item.compute, -item.accuracy)):
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return found


def compute_at(points: Sequence[Point], accuracy: float) -> float | None:
    """Returns the compute [FLOPs] at which the front of `points` reaches `accuracy`; None outside its accuracies."""
    found = size_reaching({point.compute: point.accuracy for point in front(points)}, accuracy)
    return found if 0 < found < math.inf else None


def ratios(points: Sequence[Point], others: Sequence[Point]) -> dict[Point, float | None]:
    """Returns for each point how many times its compute the front of `others` needs for its accuracy, or None."""
    needed = {point: compute_at(others, point.accuracy) for point in points}
    return {point: None if flops is None else flops / point.compute for point, flops in needed.items()}


def shared_range(*groups: Sequence[Point]) -> tuple[float, float] | None:
    """Returns the least and the most compute [FLOPs] that all groups have tried; None if there is no such range."""
    if not all(groups):
        return None
    low = max(min(point.compute for point in group) for group in groups)
    high = min(max(point.compute for point in group) for group in groups)
    return (low, high) if low < high else None


def mean_accuracy(points: Sequence[Point], low: float, high: float) -> float:
    """Returns the mean of the front of `points` over log(compute) from `low` to `high` [FLOPs], exactly.

    Raises:
        ValueError: if less than the least or more than the most compute of the points is asked for.
    """
    tried = [point.compute for point in points]
    if not tried or low < min(tried) or high > max(tried) or not low < high:
        raise ValueError(f"a mean from {low:g} to {high:g} FLOPs needs points on both sides")
    best = front(points)
    knots = [low, *(point.compute for point in best if low < point.compute < high), high]
    values = [_accuracy_at(best, knot) for knot in knots]
    areas = [
        (left + right) / 2 * math.log(b / a)
        for (a, b), (left, right) in zip(pairwise(knots), pairwise(values), strict=True)
    ]
    return math.fsum(areas) / math.log(high / low)


def _accuracy_at(best: Sequence[Point], compute: float) -> float:
    for left, right in pairwise(best):
        if left.compute <= compute <= right.compute:
            share = math.log(compute / left.compute) / math.log(right.compute / left.compute)
            return left.accuracy + share * (right.accuracy - left.accuracy)
    return best[-1].accuracy if compute >= best[-1].compute else best[0].accuracy


def middle(low: float, high: float) -> float:
    """Returns the middle of a range of compute on a logarithmic axis."""
    return math.sqrt(low * high)
