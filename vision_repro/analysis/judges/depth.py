"""Judges of the depth of networks: whether a gap grows with it, and whether gradients vanish.

A depth is a number of weighted layers; a model is the name in the column `model` of the table. Fractions everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from vision_repro.analysis.claims import Evidence, Judgement
from vision_repro.analysis.intervals import differences
from vision_repro.analysis.judges.estimates import ACCURACY, above_margin, equivalent, rising

TENFOLD = 1.0
"""log10 of the ratio from which on a gradient counts as vanished."""


def gap_grows(
    evidence: Evidence,
    first: Mapping[int, str],
    second: Mapping[int, str],
    *,
    subject: str,
    metric: str = ACCURACY,
) -> Judgement:
    """Judges the claim that the gap of two kinds of network, models by depth, rises with log10 of the depth."""
    shared = sorted(first.keys() & second.keys())
    gaps = {
        float(depth): differences(*(evidence.values(metric, model=kind[depth]) for kind in (first, second)))
        for depth in shared
    }
    return rising(
        evidence,
        gaps,
        subject=subject,
        needs="needs two depths that both kinds have",
        diverged=_diverged(evidence, [kind[depth] for kind in (first, second) for depth in shared]),
        metric=metric,
        note=f"over {', '.join(map(str, shared))} layers",
    )


def gradient_ratios(evidence: Evidence, model: str, prefix: str) -> dict[int, float]:
    """Returns log10 of the gradient norms of the first third of a model's layers over those of its last, by seed.

    `prefix` begins the names of the metrics, which end in the layer's number. Norms are averaged as logarithms; a
    layer without a gradient makes the ratio minus or plus infinity, so such a seed is left out. The last layer, the
    classifier, is left out as well: no norm follows it, and its scale is its own.
    """
    found: list[dict[int, float]] = []
    while values := evidence.values(f"{prefix}_{len(found) + 1:02}", model=model):
        found.append(values)
    convolutions = found[:-1]
    third = len(convolutions) // 3
    if not third:
        return {}
    seeds = set.intersection(*(set(layer) for layer in convolutions))
    usable = sorted(seed for seed in seeds if all(layer[seed] > 0 for layer in convolutions))

    def level(layers: Sequence[Mapping[int, float]], seed: int) -> float:
        return fmean(math.log10(layer[seed]) for layer in layers)

    return {seed: level(convolutions[:third], seed) - level(convolutions[-third:], seed) for seed in usable}


def not_vanishing(evidence: Evidence, model: str, prefix: str) -> Judgement:
    """Judges the claim that the first third of the layers gets at least a tenth of the gradient of the last third."""
    return above_margin(
        evidence,
        gradient_ratios(evidence, model, prefix),
        margin=TENFOLD,
        subject=_ratio(model),
        metric=prefix,
        unit="log10 ratio",
        note="vanished below -1, a tenth",
    )


def healthy(evidence: Evidence, model: str, prefix: str) -> Judgement:
    """Judges the claim that the first and the last third of the layers have gradients within a factor of ten."""
    return equivalent(
        evidence,
        gradient_ratios(evidence, model, prefix),
        margin=TENFOLD,
        subject=_ratio(model),
        diverged=_diverged(evidence, (model,)),
        metric=prefix,
        unit="log10 ratio",
    )


def _ratio(model: str) -> str:
    return f"log10 of the gradient norms of {model}, first third over last third of the layers"


def _diverged(evidence: Evidence, models: Sequence[str]) -> int:
    return sum(evidence.diverged(model=model) for model in models)
