"""Claims of a paper and the verdicts on them: `holds`, `fails`, `undecided` (within noise) or `untested`.

A judge takes the evidence and returns a judgement (see `analysis/judges/`). Fractions everywhere. The intervals are not
corrected for the number of claims: of many claims judged at the 95 % level, one in twenty is noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vision_repro.analysis.intervals import LEVEL, Interval, describe
from vision_repro.analysis.table import Level, Table

HOLDS, FAILS, UNDECIDED, UNTESTED = VERDICTS = ("holds", "fails", "undecided", "untested")


@dataclass(frozen=True)
class Evidence:
    """The table, and whether it may decide claims: `counts` is False for presets and data that are no evidence.

    A verdict needs `min_seeds` seeds; accuracies from `ceiling` on say nothing; intervals are at `level`.
    """

    table: Table
    preset: str
    counts: bool
    min_seeds: int = 3
    ceiling: float = 0.99
    level: float = LEVEL

    def values(self, metric: str, **setting: Level) -> dict[int, float]:
        """Returns the metric by seed in this preset, without diverged runs."""
        return self.table.values(metric, preset=self.preset, **setting)

    def diverged(self, **setting: Level) -> int:
        """Returns the number of diverged runs of a setting in this preset."""
        return self.table.diverged(preset=self.preset, **setting)

    def sizes(self, over: str = "train_size", **setting: Level) -> list[int | float]:
        """Returns the sizes measured in this preset for a setting, ascending."""
        levels = self.table.select(preset=self.preset, **setting).levels(over)
        return [size for size in levels if not isinstance(size, str)]


@dataclass(frozen=True)
class Judgement:
    """The verdict of a judge, the quantity (`subject`) with its estimate, and remarks (`note`)."""

    verdict: str
    subject: str
    estimate: Interval | None
    note: str = ""
    metric: str = ""
    unit: str = "fraction"

    def __post_init__(self) -> None:
        """Raises ValueError for a word that is not one of the four verdicts."""
        if self.verdict not in VERDICTS:
            raise ValueError(f'"{self.verdict}" is no verdict: expected one of {", ".join(VERDICTS)}')

    @property
    def reason(self) -> str:
        """One sentence with the numbers, such as `BiT minus ViT at 20 images: +0.213 [+0.150, +0.276], 5 seeds`."""
        numbers = f": {describe(self.estimate)}" if self.estimate else ""
        return f"{self.subject}{numbers}" + (f"; {self.note}" if self.note else "")


Judge = Callable[[Evidence], Judgement]
"""A judge whose settings are fixed."""


@dataclass(frozen=True)
class Verdict:
    """A verdict on one claim, as it is reported, numbers in `unit`; `subject` and `note` are parts of `reason`.

    `paper` is the number that the paper prints for the same quantity, with its unit, or empty if it prints none.
    """

    claim: str
    statement: str
    source: str
    verdict: str
    estimate: Interval | None
    unit: str
    reason: str
    metric: str
    subject: str = ""
    note: str = ""
    paper: str = ""


@dataclass(frozen=True)
class Claim:
    """A statement of a paper with its source, the judge that tests it on a table, and the paper's number, if any."""

    name: str
    statement: str
    source: str
    judge: Judge
    paper: str = ""

    def verdict(self, evidence: Evidence) -> Verdict:
        """Returns the verdict that the evidence supports."""
        judgement = self.judge(evidence)
        return Verdict(
            claim=self.name,
            statement=self.statement,
            source=self.source,
            verdict=judgement.verdict,
            estimate=judgement.estimate,
            unit=judgement.unit,
            reason=judgement.reason,
            metric=judgement.metric,
            subject=judgement.subject,
            note=judgement.note,
            paper=self.paper,
        )


def judge_all(claims: Iterable[Claim], evidence: Evidence) -> list[Verdict]:
    """Returns the verdicts in the order of the claims."""
    return [claim.verdict(evidence) for claim in claims]
