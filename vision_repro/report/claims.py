"""Every claim on one list: what was judged, by folder of evidence, and what was not run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vision_repro.analysis.claims import UNTESTED, VERDICTS, Verdict
from vision_repro.analysis.verdicts import numbers_text
from vision_repro.report.catalogue import Entry
from vision_repro.report.found import Result

NOT_RUN = "not run"
WORDS = (*VERDICTS, NOT_RUN)


@dataclass(frozen=True)
class Line:
    """One claim as it is listed: `theirs` is the paper's number where one is known, `ours` with its interval."""

    verdict: str
    statement: str
    paper: str
    place: str
    theirs: str
    ours: str
    subject: str
    seeds: str
    note: str


@dataclass(frozen=True)
class Group:
    """The claims of one folder of evidence, or of one experiment that was not run (`result` is None)."""

    experiment: str
    preset: str
    result: Result | None
    evidence: bool
    lines: tuple[Line, ...]
    cost: str

    @property
    def data(self) -> str:
        """Data sets of the runs, or the empty string."""
        return self.result.datasets if self.result else ""


def counts_as_evidence(result: Result, entry: Entry | None) -> bool:
    """Returns False for presets that are declared to be no evidence, and for any named smoke."""
    scale = entry.scale(result.preset) if entry else None
    return result.preset != "smoke" and result.name.split(",")[0] != "smoke" and (scale is None or scale.evidence)


def group(result: Result, entry: Entry | None) -> Group:
    """Returns the claims of a folder; where it is no evidence nothing holds and nothing fails, whatever is written."""
    evidence = counts_as_evidence(result, entry)
    lines = tuple(_line(item, result.printed.get(item.claim, ""), evidence) for item in result.verdicts)
    return Group(result.experiment, result.name, result, evidence, lines, cost_text(result))


def not_run(entry: Entry) -> Group:
    """Returns the claims of an experiment without any evidence, as its default preset would judge them."""
    lines = tuple(Line(NOT_RUN, statement, *_source(source), "", "", "", "", "") for statement, source in entry.claims)
    scale = entry.scale(entry.default)
    return Group(entry.name, entry.default, None, False, lines, scale.cost if scale else "")


def groups(found: Sequence[Result], entries: Sequence[Entry]) -> list[Group]:
    """Returns all groups by experiment: evidence, then what was not run; what is no evidence has only its own page."""
    by_name = {entry.name: entry for entry in entries}
    judged = [group(result, by_name.get(result.experiment)) for result in found if result.verdicts]
    done = {item.experiment for item in judged if item.evidence}
    missing = [not_run(entry) for entry in entries if entry.name not in done and entry.claims]
    return sorted(
        [item for item in judged if item.evidence] + missing, key=lambda item: (item.result is None, item.experiment)
    )


def tally(items: Iterable[Group]) -> Counter[str]:
    """Returns the number of claims by verdict."""
    return Counter(line.verdict for item in items for line in item.lines)


def cost_text(result: Result) -> str:
    """Returns `125 runs, 0.15 device-hours`."""
    runs = f"{result.runs} run{'' if result.runs == 1 else 's'}"
    hours = result.device_hours
    return runs if hours is None else f"{runs}, {hours:.2g} device-hours"


def _line(item: Verdict, theirs: str, evidence: bool) -> Line:
    estimate = item.estimate
    ours, seeds = "", ""
    if estimate is not None:
        ours = numbers_text(replace(item, note="")).rpartition(", ")[0].replace("percentage points", "points")
        seeds = str(estimate.n)
    note = item.note if evidence else "; ".join(filter(None, ("this preset is no evidence", item.note)))
    verdict = item.verdict if evidence else UNTESTED
    return Line(verdict, item.statement, *_source(item.source), theirs, ours, item.subject, seeds, note)


def _source(source: str) -> tuple[str, str]:
    """Returns paper and place of `ViT, section 4.3, Figure 4`."""
    paper, _, place = source.partition(",")
    return paper.strip(), place.strip()
