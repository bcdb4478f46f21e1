"""What a model built in or learned: accuracy, its class under shifts, what shuffled patches leave, shape or texture.

A reading is a number by seed of a model (column `model`) and a number of training images (`train_size`), a fraction;
groups of models are compared by their mean, each model with the same weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from vision_repro.analysis.claims import UNTESTED, Evidence, Judgement, greater
from vision_repro.analysis.intervals import differences, slopes

Reading = Callable[[Evidence, str, int], Mapping[int, float]]
"""A number by seed of a model and a training size, higher where there is more of what is claimed."""


def accuracy(evidence: Evidence, model: str, size: int) -> Mapping[int, float]:
    """Returns test accuracy by seed."""
    return evidence.values("test_accuracy", model=model, train_size=size)


def consistency(evidence: Evidence, model: str, size: int) -> Mapping[int, float]:
    """Returns by seed the fraction of images that keep their class when shifted, the mean over the distances."""
    names = sorted({row.metric for row in evidence.table.rows if row.metric.startswith("shift_consistency_")})
    return _mean([evidence.values(name, model=model, train_size=size) for name in names])


def kept(evidence: Evidence, model: str, size: int, *, grid: int) -> Mapping[int, float]:
    """Returns by seed the accuracy on images shuffled in grid x grid patches over that on whole ones."""
    whole, shuffled = (
        evidence.values(f"shuffled_accuracy_{number:02}", model=model, train_size=size) for number in (1, grid)
    )
    return {seed: shuffled[seed] / whole[seed] for seed in whole.keys() & shuffled.keys() if whole[seed]}


def lost(evidence: Evidence, model: str, size: int, *, grid: int) -> Mapping[int, float]:
    """Returns by seed the accuracy on whole images minus that on images shuffled in grid x grid patches."""
    whole, shuffled = (
        evidence.values(f"shuffled_accuracy_{number:02}", model=model, train_size=size) for number in (1, grid)
    )
    return differences(whole, shuffled)


def shape_share(evidence: Evidence, model: str, size: int) -> Mapping[int, float]:
    """Returns by seed the fraction of decisions for shape among those for shape or texture."""
    return evidence.values("shape_share", model=model, train_size=size)


def _mean(groups: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Returns the mean by seed over the groups, for the seeds that all have."""
    shared = set.intersection(*(set(group) for group in groups)) if groups else set()
    return {seed: fmean(group[seed] for group in groups) for seed in sorted(shared)}


def more(
    evidence: Evidence,
    first: Sequence[str],
    second: Sequence[str],
    size: int,
    reading: Reading,
    subject: str,
    metric: str,
) -> Judgement:
    """Judges whether the mean of the first models is above that of the second; of none, above 0."""
    a, b = (_mean([reading(evidence, model, size) for model in models]) for models in (first, second))
    found = differences(a, b) if second else a
    means = [fmean(group.values()) for group in (a, b) if group] if second else []
    gone = sum(evidence.diverged(model=model, train_size=size) for model in (*first, *second))
    return greater(evidence, found, subject=subject, means=means, diverged=gone, metric=metric)


def gains(evidence: Evidence, first: Sequence[str], second: Sequence[str], sizes: Sequence[int]) -> Judgement:
    """Judges whether the first models gain on the second as the training images become more."""
    subject, unit = "slope of ViT minus CNNs over log10(images)", "fraction per tenfold"
    a, b = (
        {size: _mean([accuracy(evidence, model, size) for model in group]) for size in sizes}
        for group in (first, second)
    )
    series = {float(size): found for size in sizes if (found := differences(a[size], b[size]))}
    if len(series) < 2:
        return Judgement(UNTESTED, subject, None, "needs two sizes that both have", "test_accuracy", unit)
    means = [fmean(group[max(sizes)].values()) for group in (a, b) if group[max(sizes)]]
    gone = sum(evidence.diverged(model=model) for model in (*first, *second))
    return greater(evidence, slopes(series), subject=subject, means=means, diverged=gone, unit=unit)
