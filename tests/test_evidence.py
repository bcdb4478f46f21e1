"""The committed evidence follows from its own table: nothing in it was written by hand."""

import importlib
import json
import pkgutil
from pathlib import Path

import pytest

import experiments
from vision_repro.analysis.claims import Evidence, judge_all
from vision_repro.analysis.summary import summarise, to_csv
from vision_repro.analysis.table import Table
from vision_repro.analysis.verdicts import verdicts_to_json
from vision_repro.config import run_id
from vision_repro.experiment import Experiment, grid

RESULTS = Path(__file__).parent.parent / "results"
EXPERIMENTS: dict[str, Experiment] = {
    item.name: importlib.import_module(f"experiments.{item.name}").EXPERIMENT
    for item in pkgutil.iter_modules(experiments.__path__)
}
COMMITTED = [
    (name, preset)
    for name, experiment in EXPERIMENTS.items()
    for preset in experiment.presets
    if (RESULTS / name / preset).exists()
]


def test_there_is_evidence() -> None:
    assert ("data_scaling", "cpu") in COMMITTED


@pytest.mark.parametrize(("name", "preset"), COMMITTED)
def test_summary_and_verdicts_follow_from_the_table(name: str, preset: str) -> None:
    experiment, folder = EXPERIMENTS[name], RESULTS / name / preset
    table = Table.read(folder / "table.csv")
    assert to_csv(summarise(table, experiment.settings)) == (folder / "summary.csv").read_text()
    chosen = experiment.presets[preset]
    verdicts = judge_all(experiment.claims(preset, chosen), Evidence(table, preset, chosen.evidence))
    assert verdicts_to_json(verdicts) == (folder / "verdicts.json").read_text()


@pytest.mark.parametrize(("name", "preset"), COMMITTED)
def test_the_table_holds_exactly_the_runs_of_the_preset(name: str, preset: str) -> None:
    runs = {run_id(run) for run in grid(EXPERIMENTS[name], preset, EXPERIMENTS[name].presets[preset])}
    assert {row.run for row in Table.read(RESULTS / name / preset / "table.csv").rows} == runs


@pytest.mark.parametrize(("name", "preset"), COMMITTED)
def test_evidence_was_made_from_committed_code(name: str, preset: str) -> None:
    folder = RESULTS / name / preset
    facts = json.loads((folder / "provenance.json").read_text())
    assert facts["dirty"] is False
    commits = [facts["commit"]] if isinstance(facts["commit"], str) else facts["commit"]  # a run may outlast a commit
    assert all(len(commit) == 40 for commit in commits)
    assert {"figure.pdf", "figure.svg", "figure.png", "summary.md"} <= {item.name for item in folder.iterdir()}
