"""Judges of two settings, paired over seeds: higher, equal, not worse, gaining with size, a narrower gap; or of all.

A setting is a mapping such as `{"model": "vit-64x4/2"}`; sizes are the entries of one column, by default `train_size`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Evidence, Judge, Judgement
from vision_repro.analysis.curves import difference_series
from vision_repro.analysis.intervals import differences, means_over_shared
from vision_repro.analysis.judges.estimates import ACCURACY, above_margin, equivalent, greater, in_points, rising
from vision_repro.analysis.table import Setting, Table


class Pair(NamedTuple):
    """First minus second by seed, both means over the seeds that both have, and the number of diverged runs."""

    difference: dict[int, float]
    means: tuple[float, ...]
    diverged: int


def pair_of(evidence: Evidence, first: Setting, second: Setting, metric: str = ACCURACY) -> Pair:
    """Returns what the judges need of a metric in two settings."""
    a, b = evidence.values(metric, **first), evidence.values(metric, **second)
    diverged = evidence.diverged(**first) + evidence.diverged(**second)
    return Pair(differences(a, b), means_over_shared(a, b), diverged)


def of_models(judge: Callable[..., Judgement], first: str, second: str, **options: Any) -> Judge:
    """Returns the judge of a claim on two models, by the column `model`: `compare`, `same` or `not_worse`."""
    settings = {"first": {"model": first}, "second": {"model": second}}
    return partial(judge, **settings, subject=f"{first} minus {second}", **options)


def compare(
    evidence: Evidence,
    first: Setting,
    second: Setting,
    *,
    subject: str,
    metric: str = ACCURACY,
    unit: str = "fraction",
    note: str = "",
) -> Judgement:
    """Judges the claim that `first` scores higher than `second`; only fractions have a ceiling."""
    difference, means, diverged = pair_of(evidence, first, second, metric)
    means = means if unit == "fraction" else ()
    return greater(
        evidence, difference, subject=subject, means=means, diverged=diverged, metric=metric, unit=unit, note=note
    )


def not_worse(
    evidence: Evidence, first: Setting, second: Setting, *, margin: float, subject: str, metric: str = ACCURACY
) -> Judgement:
    """Judges the claim that `first` scores at most `margin` below `second`: the whole interval is above -margin.

    It also holds if `first` is better: this is not the equality of both.
    """
    difference, means, diverged = pair_of(evidence, first, second, metric)
    return above_margin(
        evidence,
        difference,
        margin=margin,
        subject=subject,
        means=means,
        diverged=diverged,
        metric=metric,
        note=f"margin {in_points(margin)}",
    )


def same(
    evidence: Evidence,
    first: Setting,
    second: Setting,
    *,
    margin: float,
    subject: str,
    metric: str = ACCURACY,
    note: str = "",
) -> Judgement:
    """Judges the claim that `first` and `second` score the same within `margin`."""
    difference, means, diverged = pair_of(evidence, first, second, metric)
    return equivalent(
        evidence, difference, margin=margin, subject=subject, means=means, diverged=diverged, metric=metric, note=note
    )


def trend(
    evidence: Evidence,
    first: Setting,
    second: Setting,
    *,
    subject: str,
    over: str = "train_size",
    metric: str = ACCURACY,
    note: str = "",
) -> Judgement:
    """Judges the claim that `first` minus `second` rises with the size: slope over log10(size), per tenfold size.

    If both models are at the ceiling at the largest size, the difference shrinks whatever the models do: `untested`.
    """
    series = difference_series(evidence, first, second, over=over, metric=metric)
    largest = {over: max(series)} if series else {}
    return rising(
        evidence,
        series,
        subject=subject,
        needs="needs two sizes that both settings share",
        means=pair_of(evidence, {**first, **largest}, {**second, **largest}, metric).means if series else (),
        diverged=evidence.diverged(**first) + evidence.diverged(**second),
        metric=metric,
        note=note,
    )


def generalisation_gap(table: Table, setting: Setting) -> dict[int, float]:
    """Returns training minus test accuracy (fraction) by seed, for the seeds that have both."""
    return differences(table.values("train_accuracy", **setting), table.values(ACCURACY, **setting))


def narrower_gap(evidence: Evidence, first: Setting, second: Setting, *, subject: str) -> Judgement:
    """Judges the claim that the generalisation gap of `first` is smaller than that of `second`, by second minus first.

    This is what a regulariser should do.
    """
    table = evidence.table.select(preset=evidence.preset)
    difference = differences(generalisation_gap(table, second), generalisation_gap(table, first))
    diverged = evidence.diverged(**first) + evidence.diverged(**second)
    return greater(evidence, difference, subject=subject, diverged=diverged, metric="train_accuracy")


def jointly(evidence: Evidence, judges: Sequence[Judge], *, subject: str = "") -> Judgement:
    """Judges the claim that the claims of several judges are all true, such as `all of these score the same`.

    `fails` if one fails, else `untested` or `undecided` if one is, and `holds` if all hold: then no correction for
    their number is needed, since the joint claim errs only if a single one does. `fails` has none either (see
    `claims`). The estimate is that of the comparison that decides; of several, of the one farthest from 0.
    """
    judgements = [judge(evidence) for judge in judges]
    if not judgements:
        return Judgement(UNTESTED, subject or "comparisons", None, "nothing to compare")
    verdict = next(word for word in (FAILS, UNTESTED, UNDECIDED, HOLDS) if any(j.verdict == word for j in judgements))
    deciding = [judgement for judgement in judgements if judgement.verdict == verdict]
    shown = max(deciding, key=lambda item: abs(item.estimate.mean) if item.estimate and item.estimate.n else -1.0)
    count = len(judgements)
    if count == 1:
        return shown
    which = "the farthest from 0" if len(deciding) == count else f"the farthest of {len(deciding)} that decide"
    note = f"{which} of {count} comparisons: {shown.subject}" + (f"; {shown.note}" if shown.note else "")
    return replace(shown, subject=subject or shown.subject, note=note)
