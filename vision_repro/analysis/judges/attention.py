"""Judges of mean attention distance, by layer and head (ViT, section 4.5).

Rows are the metrics `attention_distance_l<layer>_h<head>` [pixels], both counted from 0. A fraction is that of the
distance under uniform attention, so that grids and image sizes compare.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from statistics import fmean

from vision_repro.analysis.claims import UNTESTED, Evidence, Judgement
from vision_repro.analysis.intervals import differences, slope
from vision_repro.analysis.judges.estimates import greater
from vision_repro.analysis.table import Setting

METRIC = re.compile(r"attention_distance_l(?P<layer>\d+)_h(?P<head>\d+)")
Heads = dict[int, dict[int, dict[int, float]]]
"""`[seed][layer][head]` [pixels]."""


@cache
def uniform_distance(grid: int, patch: float) -> float:
    """Returns the mean attention distance [pixels] of attention spread evenly over `grid` x `grid` patches.

    `patch` [pixels] between their centres; 116.49 for 14 x 14 patches of 16. The distance of a patch to itself counts.
    """
    # Ordered pairs of rows (or of columns) that are `apart` from each other
    pairs = {apart: (grid - apart) * (2 if apart else 1) for apart in range(grid)}
    total = math.fsum(
        pairs[down] * pairs[across] * math.hypot(down, across) for down in range(grid) for across in range(grid)
    )
    return patch * total / grid**4


def heads_by_seed(evidence: Evidence, setting: Setting) -> Heads:
    """Returns `[seed][layer][head]` [pixels] of a setting; diverged runs are left out."""
    found: Heads = {}
    metrics = {row.metric for row in evidence.table.select(preset=evidence.preset, **setting).rows}
    for match in filter(None, map(METRIC.fullmatch, sorted(metrics))):
        for seed, value in evidence.values(match[0], **setting).items():
            found.setdefault(seed, {}).setdefault(int(match["layer"]), {})[int(match["head"])] = value
    return found


def lowest(heads: Heads) -> dict[int, list[float]]:
    """Returns by seed the distances of the heads of the lowest layer [pixels], ascending."""
    return {seed: sorted(layers[min(layers)].values()) for seed, layers in heads.items()}


def depth_slopes(heads: Heads) -> dict[int, float]:
    """Returns by seed the least-squares slope over layers of the mean over heads [pixels a layer]; needs two layers."""
    return {
        seed: slope(sorted(layers), [fmean(layers[layer].values()) for layer in sorted(layers)])
        for seed, layers in heads.items()
        if len(layers) > 1
    }


def reaches(evidence: Evidence, setting: Setting, *, uniform: float, least: float, subject: str) -> Judgement:
    """Judges the claim that the widest head of the lowest layer looks beyond `least` (a fraction of `uniform`).

    Heads that have learnt nothing do, too: the claim says something only if `stays` holds as well.
    """
    heads = lowest(heads_by_seed(evidence, setting))
    over = {seed: values[-1] / uniform - least for seed, values in heads.items()}
    note = f"above 0: beyond {least:g} of uniform, as before training"
    return _judged(evidence, over, heads, setting, subject=subject, note=note)


def stays(evidence: Evidence, setting: Setting, *, uniform: float, most: float, subject: str) -> Judgement:
    """Judges the claim that the narrowest head of the lowest layer looks no further than `most` of `uniform`."""
    heads = lowest(heads_by_seed(evidence, setting))
    under = {seed: most - values[0] / uniform for seed, values in heads.items()}
    return _judged(evidence, under, heads, setting, subject=subject, note=f"above 0: within {most:g} of uniform")


def deeper(evidence: Evidence, setting: Setting, *, subject: str) -> Judgement:
    """Judges the claim that the mean distance grows with depth: slope over layers of the mean over heads."""
    heads = heads_by_seed(evidence, setting)
    slopes = depth_slopes(heads)
    return _judged(evidence, slopes, heads, setting, subject=subject, unit="pixels a layer")


def less_local(
    evidence: Evidence, first: Setting, second: Setting, *, uniform: tuple[float, float], subject: str
) -> Judgement:
    """Judges the claim that the narrowest head of the lowest layer looks further in `first`, as fractions of uniform.

    Paired over seeds. `uniform` are the distances under uniform attention of both settings [pixels].
    """
    found = [lowest(heads_by_seed(evidence, setting)) for setting in (first, second)]
    a, b = (
        {seed: values[0] / far for seed, values in heads.items()} for heads, far in zip(found, uniform, strict=True)
    )
    if not (a and b):
        return Judgement(UNTESTED, subject, None, "one of the two was not measured", _LOWEST, _FRACTION)
    diverged = evidence.diverged(**first) + evidence.diverged(**second)
    return greater(evidence, differences(a, b), subject=subject, diverged=diverged, metric=_LOWEST, unit=_FRACTION)


_LOWEST, _FRACTION = "attention_distance_l00", "of uniform attention"


def _judged(
    evidence: Evidence,
    values: Mapping[int, float],
    heads: Mapping[int, object],
    setting: Setting,
    *,
    subject: str,
    unit: str = _FRACTION,
    note: str = "",
) -> Judgement:
    if not heads:
        return Judgement(UNTESTED, subject, None, "attention distance was not measured", _LOWEST, unit)
    diverged = evidence.diverged(**setting)
    return greater(evidence, values, subject=subject, diverged=diverged, metric=_LOWEST, unit=unit, note=note)
