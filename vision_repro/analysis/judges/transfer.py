"""Judges of accuracy after fine-tuning on other data sets: means over data sets, paired over seeds.

A start names a pre-training, such as `imagenet21k@104000`. Accuracies are fractions. The paper's Tables 2 and 5 are
read as rows of the same kind as ours, with one seed, so that the same functions judge both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from vision_repro.analysis.claims import Evidence, Judgement
from vision_repro.analysis.intervals import differences, mean_by_seed, means_over_shared
from vision_repro.analysis.judges.estimates import ACCURACY, above_margin, greater, in_points
from vision_repro.analysis.table import Row, Table
from vision_repro.papers.tables import paper_table

METRIC = ACCURACY
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
"""What the paper's numbers are averaged over: ReaL has other labels for the same ImageNet runs."""


def on_average(
    evidence: Evidence, model: str, start: str, datasets: Iterable[str], metric: str = METRIC
) -> dict[int, float]:
    """Returns by seed the mean of `metric` over `datasets`, for the seeds that have a value on each of them."""
    return mean_by_seed([evidence.values(metric, model=model, pretraining=start, dataset=name) for name in datasets])


def gain(
    evidence: Evidence, first: str, second: str, start: str, datasets: Iterable[str], metric: str = METRIC
) -> dict[int, float]:
    """Returns by seed how much more accurate the model `first` is than `second` on average, from the same start."""
    a, b = (on_average(evidence, model, start, datasets, metric) for model in (first, second))
    return differences(a, b)


def more_accurate(evidence: Evidence, first: str, second: str, *, start: str, datasets: Sequence[str]) -> Judgement:
    """Judges that the model `first` is more accurate than `second` on average over data sets, from the same start."""
    return greater(
        evidence,
        gain(evidence, first, second, start, datasets),
        subject=f"{first} minus {second} from {start}",
        means=_means(evidence, ((first, start), (second, start)), datasets),
        diverged=sum(_diverged(evidence, model, start, datasets) for model in (first, second)),
    )


def no_worse(
    evidence: Evidence, first: str, second: str, *, start: str, datasets: Sequence[str], margin: float
) -> Judgement:
    """Judges that the model `first` is at least as good as `second`, from the same start, but for `margin` at most."""
    return above_margin(
        evidence,
        gain(evidence, first, second, start, datasets),
        margin=margin,
        subject=f"{first} minus {second} from {start}",
        means=_means(evidence, ((first, start), (second, start)), datasets),
        diverged=sum(_diverged(evidence, model, start, datasets) for model in (first, second)),
        note=f"margin {in_points(margin)}",
    )


def gains_rise(
    evidence: Evidence, first: str, second: str, *, small: str, large: str, datasets: Sequence[str]
) -> Judgement:
    """Judges that `first` gains on `second` from the start `small` to the start `large`, on average over data sets."""
    gains = [gain(evidence, first, second, start, datasets) for start in (large, small)]
    diverged = sum(_diverged(evidence, model, start, datasets) for model in (first, second) for start in (small, large))
    subject = f"{first} minus {second}, from {large} less from {small}"
    means = _means(evidence, ((first, large), (second, large)), datasets)
    return greater(evidence, differences(*gains), subject=subject, means=means, diverged=diverged, metric=METRIC)


def better_start(evidence: Evidence, model: str, *, first: str, second: str, datasets: Sequence[str]) -> Judgement:
    """Judges that a model is more accurate from the start `first` than from `second` (empty: from scratch)."""
    a, b = (on_average(evidence, model, start, datasets) for start in (first, second))
    diverged = sum(_diverged(evidence, model, start, datasets) for start in (first, second))
    subject = f"{model} from {first} minus from {second or 'scratch'}"
    means = _means(evidence, ((model, first), (model, second)), datasets)
    return greater(evidence, differences(a, b), subject=subject, means=means, diverged=diverged, metric=METRIC)


def _diverged(evidence: Evidence, model: str, start: str, datasets: Iterable[str]) -> int:
    return sum(evidence.diverged(model=model, pretraining=start, dataset=name) for name in datasets)


def _means(evidence: Evidence, places: Iterable[tuple[str, str]], datasets: Sequence[str]) -> tuple[float, ...]:
    """Returns the mean accuracy at each place (model, start), over the seeds that all have."""
    return means_over_shared(*(on_average(evidence, model, start, datasets) for model, start in places))


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
