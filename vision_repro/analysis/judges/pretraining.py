"""Judges of what pre-training gives: whether its gains get smaller the longer it lasts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

from vision_repro.analysis.claims import HOLDS, UNDECIDED, UNTESTED, Evidence, Judgement
from vision_repro.analysis.intervals import describe, differences
from vision_repro.analysis.judges.estimates import ACCURACY, greater
from vision_repro.analysis.table import Setting


def gain_per_doubling(short: Mapping[int, float], long: Mapping[int, float], ratio: float) -> dict[int, float]:
    """Returns by seed what a doubling of the steps gains, where `long` took `ratio` times the steps of `short`.

    Raises:
        ValueError: if the ratio is not above 1.
    """
    if not ratio > 1:
        raise ValueError(f"the ratio of steps must be above 1, not {ratio}")
    return {seed: gain / math.log2(ratio) for seed, gain in differences(long, short).items()}


def flattens(
    evidence: Evidence, lengths: Mapping[int, Setting], *, subject: str, metric: str = ACCURACY, note: str = ""
) -> Judgement:
    """Judges the claim that gains flatten: a doubling gains more in the first interval of steps than in the last.

    `lengths` maps steps of pre-training to a setting. The estimate is the first gain minus the last one. If it is above
    0 but the first gain itself is not, nothing was gained that could flatten: `undecided`.
    """
    values = {steps: evidence.values(metric, **setting) for steps, setting in sorted(lengths.items())}
    measured = [steps for steps, found in values.items() if found]
    if len(measured) < 3:
        return Judgement(UNTESTED, subject, None, "needs three lengths of pre-training", metric)
    (a, b), (c, d) = measured[:2], measured[-2:]
    first = gain_per_doubling(values[a], values[b], b / a)
    last = gain_per_doubling(values[c], values[d], d / c)
    where = f"a doubling between {a:,} and {b:,} steps against one between {c:,} and {d:,}"
    remark = f"{where}; {note}" if note else where
    judged = greater(
        evidence,
        differences(first, last),
        subject=subject,
        means=(fmean(values[c].values()),),
        diverged=sum(evidence.diverged(**lengths[steps]) for steps in {a, b, c, d}),
        metric=metric,
        note=remark,
    )
    start = greater(evidence, first, subject=subject, metric=metric)
    if judged.verdict != HOLDS or start.verdict == HOLDS or start.estimate is None:
        return judged
    gained = f"the first gain is not above 0: {describe(start.estimate, scale=100, digits=1, unit='points')}"
    return replace(judged, verdict=UNDECIDED, note=f"{judged.note}; {gained}")
