"""Judgements over the depth of networks: what grows with it, what is not lost, and whether gradients vanish.

A depth is a number of weighted layers; a model is the name in the column `model` of the table. Fractions everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from vision_repro.analysis.claims import UNTESTED, Evidence, Judgement, equivalent, greater
from vision_repro.analysis.intervals import differences, slopes, t_interval

TENFOLD = 1.0
"""What a layer's gradient may have lost, log10 of a ratio, and not have vanished."""


def gap_grows(
    evidence: Evidence,
    first: Mapping[int, str],
    second: Mapping[int, str],
    *,
    subject: str,
    metric: str = "test_accuracy",
) -> Judgement:
    """Judges the claim that the gap of two kinds of network, models by depth, rises with log10 of the depth."""
    shared = sorted(first.keys() & second.keys())
    unit = "fraction per tenfold"
    if len(shared) < 2:
        return Judgement(UNTESTED, subject, None, "needs two depths that both kinds have", metric, unit)
    gaps = {
        float(depth): differences(*(evidence.values(metric, model=kind[depth]) for kind in (first, second)))
        for depth in shared
    }
    lost = _lost(evidence, [kind[depth] for kind in (first, second) for depth in shared])
    note = f"over {', '.join(map(str, shared))} layers"
    return greater(evidence, slopes(gaps), subject=subject, diverged=lost, metric=metric, unit=unit, note=note)


def gradient_ratios(evidence: Evidence, model: str, prefix: str) -> dict[int, float]:
    """Returns log10 of the gradient norms of the first third of a model's layers over those of its last, by seed.

    `prefix` begins the names of the metrics, which end in the layer's number. Norms are averaged as logarithms; a
    layer without a gradient makes the ratio minus or plus infinity, so such a seed is left out. The last layer, the
    classifier, is left out as well: no norm stands behind it, and its scale is its own.
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
    ratios = gradient_ratios(evidence, model, prefix)
    found = greater(evidence, {seed: value + TENFOLD for seed, value in ratios.items()}, subject=_ratio(model))
    estimate = t_interval(ratios.values(), evidence.level)
    note = "; ".join(part for part in ("vanished below -1, a tenth", found.note) if part)
    return replace(found, estimate=estimate, note=note, metric=prefix, unit="log10 ratio")


def healthy(evidence: Evidence, model: str, prefix: str) -> Judgement:
    """Judges the claim that the first and the last third of the layers have gradients within a factor of ten."""
    return equivalent(
        evidence,
        gradient_ratios(evidence, model, prefix),
        margin=TENFOLD,
        subject=_ratio(model),
        diverged=_lost(evidence, (model,)),
        metric=prefix,
        unit="log10 ratio",
    )


def _ratio(model: str) -> str:
    return f"log10 of the gradient norms of {model}, first third over last third of the layers"


def _lost(evidence: Evidence, models: Sequence[str]) -> int:
    return sum(evidence.diverged(model=model) for model in models)
