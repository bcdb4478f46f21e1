"""What stands on the page of one experiment and preset."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vision_repro.accounting import ledger_text
from vision_repro.report.catalogue import Entry
from vision_repro.report.charts import metric_chart
from vision_repro.report.claims import Group
from vision_repro.report.curves import MOST_RUNS, curve_charts, curves, tracked
from vision_repro.report.found import Result
from vision_repro.report.layout import metrics, pivot, unit_text
from vision_repro.report.papers import read_tables
from vision_repro.report.recipes import older_recipe

MOST_CHARTS, MOST_TABLES = 4, 10
_FACTS = ("paper", "expected")


@dataclass(frozen=True)
class NumbersTable:
    """The table of one metric: lines are (settings, cells)."""

    metric: str
    unit: str
    settings: int
    head: Sequence[str]
    lines: Sequence[tuple[list[str], list[str]]]


def result_page(
    result: Result, entry: Entry | None, judged: Group, files: Mapping[str, str], outputs: Path
) -> dict[str, Any]:
    """Returns what the template of a result needs."""
    names = metrics(result.rows, [item.metric for item in result.verdicts])
    judged_first = [name for name in names if name in {item.metric for item in result.verdicts}] or names[:1]
    shown = list(dict.fromkeys([*judged_first, *names[:2]]))[:MOST_CHARTS]
    charts = [metric_chart(result.rows, name, f"m{index}-") for index, name in enumerate(shown)]
    learning = curves(result, outputs)
    papers = read_tables(entry.facts if entry else {}, result.datasets)
    return {
        "result": result,
        "entry": entry,
        "group": judged,
        "question": _question(result, entry),
        "files": files,
        "facts": [(name, entry.facts[name]) for name in _FACTS if name in entry.facts] if entry else [],
        "charts": [Markup(chart) for chart in charts if chart],  # written by matplotlib, which escapes its texts
        "tables": [_numbers(result, name) for name in names[:MOST_TABLES]],
        "more": names[MOST_TABLES:],
        "papers": papers,
        "paper_charts": [Markup(chart) for table in papers for chart in table.charts],
        "curves": [Markup(chart) for chart in curve_charts(learning, "c-")] if learning else [],
        "curve_count": len(learning),
        "most_runs": MOST_RUNS,
        "tracked": tracked(result, outputs),
        "commands": _commands(result, entry),
        "provenance": flat(result.provenance),
        "settings": flat({key: value for key, value in result.config.items() if key != "preset"}),
        "outcome": _outcome(result),
        "older": older_recipe(result),
        "ledger": ledger_text.table_rows(result.ledger) if result.ledger else None,
    }


def _numbers(result: Result, metric: str) -> NumbersTable:
    head, lines = pivot(result.rows, metric)
    unit = next(row.unit for row in result.rows if row.metric == metric)
    return NumbersTable(metric.replace("_", " "), unit_text(unit), len(lines[0][0]) if lines else 0, head, lines)


def _question(result: Result, entry: Entry | None) -> str:
    """Returns the question without its source in brackets where a line of its own names that."""
    if entry is None:
        return result.experiment
    return re.sub(r"\s*\([^()]*\)$", "", entry.question) if "paper" in entry.facts else entry.question


def _commands(result: Result, entry: Entry | None) -> list[str]:
    """Returns what to type to get the table again: the verb, or the command that the runs recorded."""
    scale = entry.scale(result.preset) if entry else None
    recorded = result.provenance.get("command")
    commands = [scale.command] if scale and result.name == result.preset else []
    if result.searched:
        commands.append(f"make sweep FILE=sweeps/{result.name}.yaml")
    for command in recorded if isinstance(recorded, list) else [recorded]:
        if isinstance(command, str) and command:
            commands.append(command)
    return commands


def _outcome(result: Result) -> str:
    try:
        return (result.folder / "outcome.yaml").read_text(encoding="utf-8") if result.searched else ""
    except (OSError, UnicodeDecodeError):
        return ""


def flat(values: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Returns (name, entries) of nested facts, names joined by a blank: `versions torch`."""
    found: list[tuple[str, list[str]]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += [(f"{name} {inner}", entries) for inner, entries in flat(value)]
        elif isinstance(value, list):
            found.append((str(name), [_text(item) for item in value]))
        else:
            found.append((str(name), [_text(value)]))
    return found


def _text(value: Any) -> str:
    words = {None: "not set", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
