"""The committed evidence follows from its own table: nothing in it was written by hand."""

import importlib
import json
import pkgutil
import shutil
from pathlib import Path

import pytest

import experiments
from tests.store.finished import finish
from vision_repro.analysis.summary import summarise, to_csv
from vision_repro.analysis.verdicts import verdicts_to_json
from vision_repro.config import run_id
from vision_repro.experiment import Experiment, grid
from vision_repro.figures import redraw
from vision_repro.report.found import read
from vision_repro.report.recipes import older_recipe
from vision_repro.store.runs import RunFolder
from vision_repro.store.table import TableSpec, table_csv

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
    drawing, folder = redraw.read(RESULTS / name / preset), RESULTS / name / preset
    assert to_csv(summarise(drawing.table, EXPERIMENTS[name].settings)) == (folder / "summary.csv").read_text()
    assert verdicts_to_json(drawing.verdicts) == (folder / "verdicts.json").read_text()


@pytest.mark.parametrize(("name", "preset"), COMMITTED)
def test_a_table_holds_the_runs_of_its_preset_or_is_called_older(name: str, preset: str) -> None:
    runs = {run_id(run) for run in grid(EXPERIMENTS[name], preset, EXPERIMENTS[name].presets[preset])}
    result = read(RESULTS / name / preset, "results")
    assert ({row.run for row in result.table.rows} == runs) is (older_recipe(result) == "")


def test_a_table_of_today_is_not_called_older(tmp_path: Path) -> None:
    experiment = EXPERIMENTS["data_scaling"]
    runs = grid(experiment, "cpu", experiment.presets["cpu"])
    folder = Path(shutil.copytree(RESULTS / "data_scaling" / "cpu", tmp_path / "data_scaling" / "cpu"))
    spec = TableSpec("data_scaling", "cpu", experiment.settings)
    for run in runs:
        finish(RunFolder(tmp_path / "runs", run), 0.5)
    for some, words in ((runs, ""), (runs[1:], f"{len(runs) - 1} of the {len(runs) - 1} runs")):
        (folder / "table.csv").write_text(table_csv(spec, [RunFolder(tmp_path / "runs", run) for run in some]))
        found = older_recipe(read(folder, "results"))
        assert words in found
        assert bool(found) is bool(words)


@pytest.mark.parametrize(("name", "preset"), COMMITTED)
def test_evidence_was_made_from_committed_code(name: str, preset: str) -> None:
    folder = RESULTS / name / preset
    facts = json.loads((folder / "provenance.json").read_text())
    assert facts["dirty"] is False
    commits = [facts["commit"]] if isinstance(facts["commit"], str) else facts["commit"]  # a run may outlast a commit
    assert all(len(commit) == 40 for commit in commits)
    assert {"figure.pdf", "figure.svg", "figure.png", "summary.md"} <= {item.name for item in folder.iterdir()}
