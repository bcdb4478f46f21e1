"""Claims of a paper and the verdicts on them: `holds`, `fails`, `undecided` (within noise) or `untested`.

A judge looks at differences paired over seeds and says `untested` before it says anything else where the preset is no
evidence, the seeds are too few, the models are at the ceiling, or the seeds show no spread. Fractions everywhere. The
intervals are not corrected for the number of claims: with many claims at the 95 % level, one in twenty is noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vision_repro.analysis.intervals import LEVEL, Interval, describe, t_interval
from vision_repro.analysis.table import Level, Table

HOLDS, FAILS, UNDECIDED, UNTESTED = VERDICTS = ("holds", "fails", "undecided", "untested")


@dataclass(frozen=True)
class Evidence:
    """The table and what it may be used for; `counts` is False for presets and data that are no evidence."""

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
    """What a judge found: the verdict, the quantity (`subject`) with its estimate, and what else matters (`note`)."""

    verdict: str
    subject: str
    estimate: Interval | None
    note: str = ""
    metric: str = ""
    unit: str = "fraction"

    def __post_init__(self) -> None:
        """Refuses a verdict that is none of the four."""
        if self.verdict not in VERDICTS:
            raise ValueError(f'"{self.verdict}" is no verdict: expected one of {", ".join(VERDICTS)}')

    @property
    def reason(self) -> str:
        """One sentence with the numbers, such as `BiT minus ViT at 20 images: +0.213 [+0.150, +0.276], 5 seeds`."""
        numbers = f": {describe(self.estimate)}" if self.estimate else ""
        return f"{self.subject}{numbers}" + (f"; {self.note}" if self.note else "")


@dataclass(frozen=True)
class Verdict:
    """A verdict on one claim, as it is reported, numbers in `unit`; `subject` and `note` are parts of `reason`.

    `paper` is the number that the paper prints for the same quantity, with its unit, or empty where it prints none.
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
    judge: Callable[[Evidence], Judgement]
    paper: str = ""

    def verdict(self, evidence: Evidence) -> Verdict:
        """Returns the verdict that the evidence supports."""
        found = self.judge(evidence)
        return Verdict(
            claim=self.name,
            statement=self.statement,
            source=self.source,
            verdict=found.verdict,
            estimate=found.estimate,
            unit=found.unit,
            reason=found.reason,
            metric=found.metric,
            subject=found.subject,
            note=found.note,
            paper=self.paper,
        )


def judge_all(claims: Iterable[Claim], evidence: Evidence) -> list[Verdict]:
    """Returns the verdicts in the order of the claims."""
    return [claim.verdict(evidence) for claim in claims]


def greater(
    evidence: Evidence,
    difference: Mapping[int, float],
    *,
    subject: str,
    means: Sequence[float] = (),
    diverged: int = 0,
    metric: str = "test_accuracy",
    unit: str = "fraction",
    note: str = "",
) -> Judgement:
    """Judges the claim that the difference, given by seed, is above 0.

    `holds` if the whole interval is above 0, `fails` if all of it is below, `undecided` if it contains or touches 0.
    `means` are the mean accuracies compared, for the ceiling check: it applies when all of them reach the ceiling.
    """
    interval = t_interval(difference.values(), evidence.level)
    obstacle = _obstacle(evidence, interval, means)
    verdict = UNTESTED if obstacle else HOLDS if interval.low > 0 else FAILS if interval.high < 0 else UNDECIDED
    return Judgement(verdict, subject, interval, _join(obstacle, _missing(diverged), note), metric, unit)


def equivalent(
    evidence: Evidence,
    difference: Mapping[int, float],
    *,
    margin: float,
    subject: str,
    means: Sequence[float] = (),
    diverged: int = 0,
    metric: str = "test_accuracy",
    unit: str = "fraction",
    note: str = "",
) -> Judgement:
    """Judges the claim that the difference, given by seed, is within `margin` of 0.

    `holds` if the whole interval is inside (-margin, margin), `fails` if all of it is outside, else `undecided`. This
    is the two one-sided tests procedure with the two-sided interval: at 95 % a side errs in 2.5 %, not in 5 %.

    Raises:
        ValueError: if the margin is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"an equivalence margin must be above 0, not {margin}")
    interval = t_interval(difference.values(), evidence.level)
    obstacle = _obstacle(evidence, interval, means)
    inside = -margin < interval.low and interval.high < margin
    outside = interval.low > margin or interval.high < -margin
    verdict = UNTESTED if obstacle else HOLDS if inside else FAILS if outside else UNDECIDED
    within = f"equivalence margin {in_points(margin, unit)}"
    return Judgement(verdict, subject, interval, _join(within, obstacle, _missing(diverged), note), metric, unit)


def counted(
    evidence: Evidence,
    value: float | None,
    *,
    expected: float,
    tolerance: float = 0.0,
    subject: str,
    metric: str,
    unit: str = "",
    note: str = "",
) -> Judgement:
    """Judges the claim that something counted, which has no noise, such as FLOPs, is `expected` within `tolerance`.

    `holds` or `fails`; `untested` where there is no value or the preset is no evidence. The numbers stand in the note.
    """
    if value is None:
        return Judgement(UNTESTED, subject, None, _join("not counted", note), metric, unit)
    within = f" within {tolerance:g}" if tolerance else ""
    numbers = f"{value:.6g}, expected {expected:.6g}{within}"
    obstacle = "" if evidence.counts else f'the preset "{evidence.preset}" is no evidence'
    close = abs(value - expected) <= tolerance + 1e-12 * abs(expected)
    return Judgement(
        UNTESTED if obstacle else HOLDS if close else FAILS, subject, None, _join(numbers, obstacle, note), metric, unit
    )


def _obstacle(evidence: Evidence, interval: Interval, means: Sequence[float]) -> str:
    """Returns why the numbers cannot decide anything, or the empty string."""
    if not evidence.counts:
        return f'the preset "{evidence.preset}" is no evidence'
    if interval.n < max(2, evidence.min_seeds):
        return f"needs {max(2, evidence.min_seeds)} seeds that all settings share"
    if means and min(means) >= evidence.ceiling:
        return f"all means reach the ceiling of {evidence.ceiling:g}"
    if not interval.spread:
        return "all seeds give the same number, so the noise is not measured"
    return ""


def in_points(margin: float, unit: str = "fraction") -> str:
    """Returns a margin as it is shown beside estimates: fractions as percentage points."""
    if unit != "fraction":
        return f"{margin:g}"
    return f"{100 * margin:g} point" + ("" if math.isclose(margin, 0.01) else "s")


def _missing(diverged: int) -> str:
    return f"{diverged} diverged run{'' if diverged == 1 else 's'} left out" if diverged else ""


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
