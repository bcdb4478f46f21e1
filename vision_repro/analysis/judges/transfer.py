"""Accuracy after fine-tuning on other data sets, by model and pre-training: means over data sets, paired over seeds.

A start names a pre-training, such as `imagenet21k@104000`. Accuracies are fractions. The paper's Tables 2 and 5 come as
rows of the same kind as ours, with one seed, so that the same functions judge both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import fmean

from vision_repro.analysis.claims import Evidence, Judgement, greater, in_points
from vision_repro.analysis.intervals import differences
from vision_repro.analysis.table import Row, Table
from vision_repro.papers.tables import paper_table

METRIC = "test_accuracy"
COMPUTE = "pretraining_flops"
# ours -> a column of the paper's Table 5, and its name in Table 2
DATASETS = {
    "imagenet": ("imagenet", "ImageNet"),
    "real": ("imagenet_real", "ImageNet ReaL"),
    "cifar10": ("cifar10", "CIFAR-10"),
    "cifar100": ("cifar100", "CIFAR-100"),
    "pets": ("pets", "Oxford-IIIT Pets"),
    "flowers": ("flowers102", "Oxford Flowers-102"),
}
AVERAGED = ("imagenet", "cifar10", "cifar100", "pets", "flowers")
"""What the paper's numbers are averaged over: ReaL is another reading of the ImageNet runs."""


def on_average(
    evidence: Evidence, model: str, start: str, datasets: Iterable[str], metric: str = METRIC
) -> dict[int, float]:
    """Returns by seed the mean of `metric` over `datasets`, for the seeds that have a value on each of them."""
    found = [evidence.values(metric, model=model, pretraining=start, dataset=name) for name in datasets]
    shared = set.intersection(*map(set, found)) if found else set()
    return {seed: fmean(values[seed] for values in found) for seed in sorted(shared)}


def gain(
    evidence: Evidence, first: str, second: str, start: str, datasets: Iterable[str], metric: str = METRIC
) -> dict[int, float]:
    """Returns by seed how much more accurate the model `first` is than `second` on average, from the same start."""
    a, b = (on_average(evidence, model, start, datasets, metric) for model in (first, second))
    return differences(a, b)


def more_accurate(evidence: Evidence, first: str, second: str, *, start: str, datasets: Sequence[str]) -> Judgement:
    """Judges that the model `first` is more accurate than `second` on average over data sets, from the same start."""
    subject = f"{first} minus {second} from {start}"
    return _judged(evidence, first, second, start, datasets, subject=subject)


def no_worse(
    evidence: Evidence, first: str, second: str, *, start: str, datasets: Sequence[str], margin: float
) -> Judgement:
    """Judges that the model `first` is at least as good as `second`, from the same start, but for `margin` at most.

    `holds` if the whole interval of the difference is above -margin, `fails` if all of it is below. The estimate is the
    difference itself.

    Raises:
        ValueError: if the margin is below 0.
    """
    if margin < 0:
        raise ValueError(f"a margin must be 0 or more, not {margin}")
    subject = f"{first} minus {second} from {start}"
    judged = _judged(
        evidence, first, second, start, datasets, subject=subject, shift=margin, note=f"margin {in_points(margin)}"
    )
    if judged.estimate is None:
        return judged
    low, mean, high = (getattr(judged.estimate, name) - margin for name in ("low", "mean", "high"))
    return replace(judged, estimate=replace(judged.estimate, mean=mean, low=low, high=high))


def gains_rise(
    evidence: Evidence, first: str, second: str, *, small: str, large: str, datasets: Sequence[str]
) -> Judgement:
    """Judges that `first` gains on `second` from the start `small` to the start `large`, on average over data sets."""
    gains = [gain(evidence, first, second, start, datasets) for start in (large, small)]
    lost = sum(_lost(evidence, model, start, datasets) for model in (first, second) for start in (small, large))
    subject = f"{first} minus {second}, from {large} less from {small}"
    means = _means(evidence, ((first, large), (second, large)), datasets)
    return greater(evidence, differences(*gains), subject=subject, means=means, diverged=lost, metric=METRIC)


def better_start(evidence: Evidence, model: str, *, first: str, second: str, datasets: Sequence[str]) -> Judgement:
    """Judges that a model is more accurate from the start `first` than from `second` (empty: from scratch)."""
    a, b = (on_average(evidence, model, start, datasets) for start in (first, second))
    lost = sum(_lost(evidence, model, start, datasets) for start in (first, second))
    subject = f"{model} from {first} minus from {second or 'scratch'}"
    means = _means(evidence, ((model, first), (model, second)), datasets)
    return greater(evidence, differences(a, b), subject=subject, means=means, diverged=lost, metric=METRIC)


def _judged(
    evidence: Evidence,
    first: str,
    second: str,
    start: str,
    datasets: Sequence[str],
    *,
    subject: str,
    shift: float = 0.0,
    note: str = "",
) -> Judgement:
    found = {seed: value + shift for seed, value in gain(evidence, first, second, start, datasets).items()}
    lost = sum(_lost(evidence, model, start, datasets) for model in (first, second))
    means = _means(evidence, ((first, start), (second, start)), datasets)
    return greater(evidence, found, subject=subject, means=means, diverged=lost, metric=METRIC, note=note)


def _lost(evidence: Evidence, model: str, start: str, datasets: Iterable[str]) -> int:
    return sum(evidence.diverged(model=model, pretraining=start, dataset=name) for name in datasets)


def _means(evidence: Evidence, places: Iterable[tuple[str, str]], datasets: Sequence[str]) -> tuple[float, ...]:
    """Returns the mean accuracy at each place (model, start), over the seeds that all have."""
    found = [on_average(evidence, model, start, datasets) for model, start in places]
    shared = set.intersection(*map(set, found))
    return tuple(fmean(values[seed] for seed in shared) for values in found) if shared else ()


# --- the paper's tables ---


def paper_table_5() -> Table:
    """Returns the paper's Table 5 as rows with the settings model, start (the pre-training data) and dataset."""
    return Table(
        _row(row["model"], row["pretrain_data"], name, float(row[column]) / 100)
        for row in paper_table("vit_table5")
        for name, (column, _) in DATASETS.items()
        if row[column]
    )


def paper_table_2() -> Table:
    """Returns the means of the paper's Table 2 as rows like those of Table 5; without VTAB, which has no twin here."""
    names = {title: name for name, (_, title) in DATASETS.items()}
    printed = (row for row in paper_table("vit_table2") if row["metric"] in names)
    rows = {(row["model"], row["pretrain_data"], names[row["metric"]]): float(row["mean"]) / 100 for row in printed}
    return Table(_row(*key, value) for key, value in rows.items())  # of two values the last, the one of a later paper


def paper_gap(table: Callable[[], Table], first: str, second: str, start: str) -> float:
    """Returns the paper's difference of two models from one start, its mean over `AVERAGED`, by the functions above."""
    return gain(Evidence(table(), "paper", True), first, second, start, AVERAGED)[0]


def _row(model: str, start: str, dataset: str, value: float) -> Row:
    settings = {"model": model, "pretraining": start, "dataset": dataset}
    return Row("transfer", "paper", "", settings, 0, "ok", METRIC, value, "fraction")
