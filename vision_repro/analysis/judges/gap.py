"""The gap between training and test accuracy, which a regulariser should narrow."""

from __future__ import annotations

from vision_repro.analysis.claims import Evidence, Judgement, greater
from vision_repro.analysis.intervals import differences
from vision_repro.analysis.judges.comparisons import Setting
from vision_repro.analysis.table import Table


def gaps(table: Table, setting: Setting) -> dict[int, float]:
    """Returns training minus test accuracy (fraction) by seed, where both were measured."""
    return differences(table.values("train_accuracy", **setting), table.values("test_accuracy", **setting))


def narrower(evidence: Evidence, first: Setting, second: Setting, *, subject: str) -> Judgement:
    """Judges that the gap of `first` is smaller than that of `second`; the estimate is by how much."""
    table = evidence.table.select(preset=evidence.preset)
    found = differences(gaps(table, second), gaps(table, first))
    lost = evidence.diverged(**first) + evidence.diverged(**second)
    return greater(evidence, found, subject=subject, diverged=lost, metric="train_accuracy")
