"""Learning curves: `metrics.csv` of the run folders behind a table, where they are there."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_repro.analysis.table import Row
from vision_repro.report.charts import Point, Series, lines_chart, looks
from vision_repro.report.found import Result
from vision_repro.report.layout import axes, setting_text

MOST_RUNS, MOST_CHARTS = 150, 3


@dataclass(frozen=True)
class Curve:
    """The learning curve of one run: name of a column -> (step, value) in order."""

    label: str
    run: Row
    columns: dict[str, list[tuple[float, float]]]


def run_rows(result: Result) -> dict[str, Row]:
    """Returns a row of the table for each run, in the table's order."""
    found: dict[str, Row] = {}
    for row in result.table.rows:
        found.setdefault(row.run, row)
    return found


def run_folder(result: Result, outputs: Path, run: str) -> Path | None:
    """Returns the folder of a run, or None where it is not there (or its id is no name of a folder)."""
    if not run or not run.isalnum():
        return None
    places = (outputs / "runs", result.folder.parent.parent / "runs")
    return next((place / run for place in places if (place / run).is_dir()), None)


def curves(result: Result, outputs: Path) -> list[Curve]:
    """Returns the curves of the runs of a table; a run without a readable curve has none."""
    _, names = axes(result.rows)
    found = []
    for run, row in run_rows(result).items():
        folder = run_folder(result, outputs, run)
        columns = _columns(folder / "metrics.csv") if folder else {}
        if columns:
            found.append(Curve(setting_text(row.settings, names), row, columns))
        if len(found) == MOST_RUNS:
            break
    return found


def _columns(file: Path) -> dict[str, list[tuple[float, float]]]:
    columns: dict[str, list[tuple[float, float]]] = {}
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                step = float(line["step"])
                for name, text in line.items():
                    value = float(text) if name != "step" and text else math.nan
                    if math.isfinite(value):
                        columns.setdefault(str(name), []).append((step, value))
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return {}
    return columns


def curve_charts(found: Sequence[Curve], prefix: str) -> list[str]:
    """Returns a chart for each column of the curves, a line a run; the last point of a line says its run."""
    names = list(dict.fromkeys(name for curve in found for name in curve.columns))
    names.sort(key=lambda name: (not name.startswith("val"), name))
    return [_chart(found, name, f"{prefix}{index}-") for index, name in enumerate(names[:MOST_CHARTS])]


def _chart(found: Sequence[Curve], name: str, prefix: str) -> str:
    labels = list(dict.fromkeys(curve.label for curve in found))
    own = looks(labels, models=all("=" not in label for label in labels))
    factor, unit = (100.0, "%") if name.endswith("accuracy") else (1.0, "")
    series = []
    for curve in found:
        points = [(step, factor * value) for step, value in curve.columns.get(name, [])]
        if points:
            setting = setting_text(curve.run.settings, list(curve.run.settings))
            last = f"{points[-1][1]:.4g} {unit}".rstrip()
            text = f"{setting}, seed {curve.run.seed}: {last} at step {points[-1][0]:g}"
            line = tuple(Point(x, y, math.nan, math.nan, "") for x, y in points[:-1])
            series.append(Series(own[curve.label], (*line, Point(*points[-1], math.nan, math.nan, text))))
    title = name.replace("_", " ") + (f" [{unit}]" if unit else "")
    return lines_chart(series, title, "step", prefix)


def tracked(result: Result, outputs: Path) -> list[tuple[str, str]]:
    """Returns (run, address) of the W&B runs that `wandb_url` of the runs' `provenance.json` names, https only."""
    found = []
    for run in run_rows(result):
        folder = run_folder(result, outputs, run)
        try:
            facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8")) if folder else {}
        except (OSError, ValueError):
            continue
        address = facts.get("wandb_url") if isinstance(facts, dict) else None
        if isinstance(address, str) and address.startswith("https://"):
            found.append((run, address))
    return found
