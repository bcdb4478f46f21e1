"""Judges of what a model built in or learned: accuracy, shifts, shuffled patches, shape or texture.

A measure is a number by seed of a model (column `model`) and a number of training images (`train_size`), a
fraction. Groups of models are compared by their mean, each model with the same weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from vision_repro.analysis.claims import Evidence, Judgement
from vision_repro.analysis.intervals import differences, mean_by_seed
from vision_repro.analysis.judges.estimates import ACCURACY, greater, rising

Measure = Callable[[Evidence, str, int], Mapping[int, float]]
"""A number by seed of a model and a training size, higher if there is more of what is claimed."""


def accuracy(evidence: Evidence, model: str, size: int) -> Mapping[int, float]:
    """Returns test accuracy by seed."""
    return evidence.values(ACCURACY, model=model, train_size=size)


def consistency(evidence: Evidence, model: str, size: int) -> Mapping[int, float]:
    """Returns by seed the fraction of images that keep their class when shifted, the mean over the distances."""
    names = sorted({row.metric for row in evidence.table.rows if row.metric.startswith("shift_consistency_")})
    return mean_by_seed([evidence.values(name, model=model, train_size=size) for name in names])


def accuracy_kept(evidence: Evidence, model: str, size: int, *, grid: int) -> Mapping[int, float]:
    """Returns by seed the accuracy on images shuffled in grid x grid patches over that on whole ones."""
    whole, shuffled = _shuffled(evidence, model, size, grid)
    return {seed: shuffled[seed] / whole[seed] for seed in whole.keys() & shuffled.keys() if whole[seed]}


def accuracy_lost(evidence: Evidence, model: str, size: int, *, grid: int) -> Mapping[int, float]:
    """Returns by seed the accuracy on whole images minus that on images shuffled in grid x grid patches."""
    return differences(*_shuffled(evidence, model, size, grid))


def shape_share(evidence: Evidence, model: str, size: int) -> Mapping[int, float]:
    """Returns by seed the fraction of decisions for shape among those for shape or texture."""
    return evidence.values("shape_share", model=model, train_size=size)


def _shuffled(evidence: Evidence, model: str, size: int, grid: int) -> tuple[dict[int, float], dict[int, float]]:
    """Returns by seed the accuracy on whole images and on images shuffled in grid x grid patches."""
    whole, shuffled = (
        evidence.values(f"shuffled_accuracy_{number:02}", model=model, train_size=size) for number in (1, grid)
    )
    return whole, shuffled


def more(
    evidence: Evidence,
    first: Sequence[str],
    second: Sequence[str],
    size: int,
    measure: Measure,
    subject: str,
    metric: str,
) -> Judgement:
    """Judges whether the mean of the first models is above that of the second; of none, above 0."""
    a, b = (mean_by_seed([measure(evidence, model, size) for model in models]) for models in (first, second))
    difference = differences(a, b) if second else a
    means = [fmean(group.values()) for group in (a, b) if group] if second else []
    diverged = sum(evidence.diverged(model=model, train_size=size) for model in (*first, *second))
    return greater(evidence, difference, subject=subject, means=means, diverged=diverged, metric=metric)


def gains(evidence: Evidence, first: Sequence[str], second: Sequence[str], sizes: Sequence[int]) -> Judgement:
    """Judges whether the first models gain on the second with the number of training images."""
    a, b = (
        {size: mean_by_seed([accuracy(evidence, model, size) for model in group]) for size in sizes}
        for group in (first, second)
    )
    return rising(
        evidence,
        {float(size): gap for size in sizes if (gap := differences(a[size], b[size]))},
        subject="slope of ViT minus CNNs over log10(images)",
        needs="needs two sizes that both have",
        means=[fmean(group[max(sizes)].values()) for group in (a, b) if group[max(sizes)]],
        diverged=sum(evidence.diverged(model=model) for model in (*first, *second)),
    )
