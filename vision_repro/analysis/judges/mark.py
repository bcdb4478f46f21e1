"""A mark of accuracy on `val`: who is above it, and who is there first; and groups of networks compared on average."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from vision_repro.analysis.claims import UNTESTED, Evidence, Judgement
from vision_repro.analysis.intervals import differences, t_interval
from vision_repro.analysis.judges.estimates import greater


def reaches(evidence: Evidence, model: str, mark: float, obstacle: str = "") -> Judgement:
    """Judges that a network is above the mark on `val`; `obstacle` says why it cannot be judged, if it cannot."""
    found = {seed: value - mark for seed, value in evidence.values("val_accuracy", model=model).items()}
    subject = f"{model}: val accuracy minus {mark:g}"
    if obstacle:
        return Judgement(UNTESTED, subject, t_interval(found.values(), evidence.level), obstacle, "val_accuracy")
    lost = evidence.diverged(model=model)
    return greater(evidence, found, subject=subject, diverged=lost, metric="val_accuracy")


def average(evidence: Evidence, models: Sequence[str], metric: str) -> dict[int, float]:
    """Returns the mean of a metric over the models, by seed, for the seeds that all of them have."""
    found = [evidence.values(metric, model=model) for model in models]
    shared = set.intersection(*(set(values) for values in found)) if found else set()
    return {seed: fmean(values[seed] for values in found) for seed in sorted(shared)}


def ahead(evidence: Evidence, first: Sequence[str], second: Sequence[str], subject: str) -> Judgement:
    """Judges that the networks `first` are more accurate on `test`, on average, than the networks `second`."""
    a, b = (average(evidence, models, "test_accuracy") for models in (first, second))
    means = [fmean(values.values()) for values in (a, b) if values]
    lost = sum(evidence.diverged(model=model) for model in (*first, *second))
    return greater(evidence, differences(a, b), subject=subject, means=means, diverged=lost)


def soonest(evidence: Evidence, models: Sequence[str], mark: float) -> str | None:
    """Returns the network with the shortest training of those whose mean accuracy on `val` is at the mark, if any."""
    seconds: dict[str, float] = {}
    for model in models:
        scores = evidence.values("val_accuracy", model=model).values()
        times = evidence.values("training_seconds", model=model).values()
        if scores and times and fmean(scores) >= mark:
            seconds[model] = fmean(times)
    return min(seconds, key=lambda model: seconds[model], default=None)


def first_cnn(
    evidence: Evidence, cnns: Sequence[str], others: Sequence[str], mark: float, obstacle: str = ""
) -> Judgement:
    """Judges that of the networks at the mark a CNN is trained soonest; see `reaches` for `obstacle`."""
    subject, metric = "soonest network with attention minus soonest CNN", "training_seconds"
    cnn, other = soonest(evidence, cnns, mark), soonest(evidence, others, mark)
    why = obstacle or ("no CNN is at the mark" if cnn is None else "no network with attention is at the mark")
    if obstacle or cnn is None or other is None:
        return Judgement(UNTESTED, subject, None, why, metric, "s")
    found = differences(evidence.values(metric, model=other), evidence.values(metric, model=cnn))
    return greater(evidence, found, subject=f"{other} minus {cnn}", metric=metric, unit="s")
