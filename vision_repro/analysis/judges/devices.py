"""Two nets of which one has a device more: accuracy at equal cost, cost, and how far gradients reach.

Rows are test accuracy, counted FLOPs and parameters, and gradient norms by layer (`<prefix>_<layer>`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import log10
from statistics import fmean

from vision_repro.analysis.claims import UNTESTED, Evidence, Judgement
from vision_repro.analysis.intervals import differences
from vision_repro.analysis.judges.comparisons import compare, of_models
from vision_repro.analysis.judges.estimates import greater
from vision_repro.analysis.judges.exponents import counted_less

FLOPS = "forward_flops"
EQUAL_COST = 0.1
"""By which fraction the FLOPs of nets of "equal cost" may differ."""


def higher_at_equal_cost(evidence: Evidence, first: str, second: str) -> Judgement:
    """Judges that `first` is more accurate than `second`; untested unless their FLOPs are about the same."""
    costs = [evidence.values(FLOPS, model=model).values() for model in (first, second)]
    if not all(costs):
        return Judgement(UNTESTED, f"{first} minus {second}", None, "FLOPs were not counted")
    ratio = fmean(costs[1]) / fmean(costs[0])
    found = of_models(compare, first, second, note=f"the second takes {ratio:.2f} times the FLOPs")(evidence)
    return found if abs(ratio - 1) <= EQUAL_COST else replace(found, verdict=UNTESTED)


def cheaper(evidence: Evidence, first: str, second: str, metric: str) -> Judgement:
    """Judges that `first` has less of a counted cost than `second`."""
    subject = f"log2 of {second} over {first}"
    return counted_less(evidence, {"model": second}, {"model": first}, metric=metric, subject=subject)


def reach(evidence: Evidence, model: str, prefix: str, *, early: int, late: int) -> dict[int, float]:
    """Returns by seed log10 of the mean gradient norm of the first layers over that of the last ones.

    `prefix` begins the names of the metrics, which end in the layer's number; `early` layers are the first, `late` the
    last but for the classifier. Seeds of which a mean is 0 are left out.
    """
    layers: dict[str, dict[int, float]] = {}
    for row in evidence.table.select(preset=evidence.preset, model=model).rows:
        if row.ok and row.metric.rpartition("_")[0] == prefix:
            layers.setdefault(row.metric, {})[row.seed] = row.value
    ordered = [layers[name] for name in sorted(layers)]
    if len(ordered) <= early + late + 1:
        return {}
    means = {
        seed: tuple(fmean(layer[seed] for layer in part) for part in (ordered[:early], ordered[-late - 1 : -1]))
        for seed in sorted(set.intersection(*map(set, ordered)))
    }
    return {seed: log10(first / last) for seed, (first, last) in means.items() if first > 0 and last > 0}


def reaches_further(evidence: Evidence, first: str, second: str, prefix: str, *, early: int, late: int) -> Judgement:
    """Judges that more gradient reaches the first layers in `first` than in `second`, relative to the last layers."""
    found = [reach(evidence, model, prefix, early=early, late=late) for model in (first, second)]
    note = f"{_times(found[0])} with {first}, {_times(found[1])} with {second}: first over last layers"
    return greater(
        evidence,
        differences(*found),
        subject=f"log10 of first over last layers' gradients, {first} minus {second}",
        diverged=sum(evidence.diverged(model=model) for model in (first, second)),
        metric=prefix,
        unit="log10 ratio",
        note=note,
    )


def _times(logs: Mapping[int, float]) -> str:
    return f"{10 ** fmean(logs.values()):.3g}" if logs else "not measured"
