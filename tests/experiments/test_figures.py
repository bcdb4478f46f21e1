"""No text of any experiment's figure lies on another or leaves the page: committed tables, and made-up ones."""

from __future__ import annotations

import importlib
import pkgutil
import random
from functools import cache
from pathlib import Path
from statistics import fmean

import pytest

import experiments
from tests.figures.apart import assert_apart
from vision_repro.analysis.claims import Evidence, judge_all
from vision_repro.analysis.table import Row, Table
from vision_repro.config import plain
from vision_repro.experiment import Experiment, grid
from vision_repro.figures.redraw import Drawing, read
from vision_repro.figures.venues import DEFAULT, VENUES, Venue, on_page

RESULTS = Path(__file__).parents[2] / "results"
NAMES = [item.name for item in pkgutil.iter_modules(experiments.__path__)]
COMMITTED = [
    (name, folder.name) for name in NAMES for folder in sorted((RESULTS / name).iterdir()) if "_lr_" not in folder.name
]
COLUMN = VENUES["cvpr"].widths["-column"]


def experiment(name: str) -> Experiment:
    found: Experiment = importlib.import_module(f"experiments.{name}").EXPERIMENT
    return found


@cache
def metrics(name: str) -> dict[str, tuple[float, str]]:
    """Returns what the experiment measures: the mean and the unit of each metric of its committed tables."""
    found: dict[str, list[float]] = {}
    units = {}
    for _, preset in (pair for pair in COMMITTED if pair[0] == name):
        for row in Table.read(RESULTS / name / preset / "table.csv").rows:
            if row.ok:
                found.setdefault(row.metric, []).append(row.value)
                units[row.metric] = row.unit
    return {metric: (fmean(values), units[metric]) for metric, values in found.items()}


def made_up(name: str, preset: str) -> Drawing:
    """Returns the figure of a preset whose runs all measured about what the committed ones did."""
    asked, luck, rows = experiment(name), random.Random(0), []
    chosen = asked.presets[preset]
    for run in grid(asked, preset, chosen):
        facts = plain(run)
        settings = {key: facts[key] for key in asked.settings}
        for metric, (mean, unit) in metrics(name).items():
            value = mean * luck.uniform(0.8, 1.2)
            rows.append(Row(name, preset, "r", settings, run.seed, "ok", metric, value, unit))  # type: ignore[arg-type]
    table = Table(rows)
    verdicts = judge_all(asked.claims(preset, chosen), Evidence(table, preset, chosen.evidence))
    return Drawing(asked, preset, chosen, table, verdicts)


def check(drawing: Drawing, venue: Venue, width: float) -> None:
    with on_page(venue, width):
        figure = drawing.figure(venue, width)
        assert_apart(figure, 1.5 * venue.enlarged)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset"), COMMITTED)
def test_committed_tables(name: str, preset: str) -> None:
    check(read(RESULTS / name / preset), DEFAULT, DEFAULT.text)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_made_up_tables_at_every_width(name: str) -> None:
    for preset in set(experiment(name).presets) - {"smoke", "given", "paper"}:
        drawing = made_up(name, preset)
        check(drawing, DEFAULT, DEFAULT.text)
        check(drawing, VENUES["cvpr"], COLUMN)
