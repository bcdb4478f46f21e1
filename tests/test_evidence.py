"""The committed evidence follows from its own table: nothing in it was written by hand."""

import json
from pathlib import Path

import pytest

from experiments import data_scaling
from vision_repro.analysis.claims import Evidence, judge_all
from vision_repro.analysis.summary import summarise, to_csv
from vision_repro.analysis.table import Table
from vision_repro.analysis.verdicts import verdicts_to_json
from vision_repro.config import run_id
from vision_repro.experiment import grid

RESULTS = Path(__file__).parent.parent / "results" / "data_scaling"
PRESETS = [name for name in data_scaling.PRESETS if (RESULTS / name).exists()]


@pytest.mark.parametrize("name", PRESETS)
def test_summary_and_verdicts_follow_from_the_table(name: str) -> None:
    preset, table = data_scaling.PRESETS[name], Table.read(RESULTS / name / "table.csv")
    rows = summarise(table, data_scaling.EXPERIMENT.settings)
    assert to_csv(rows) == (RESULTS / name / "summary.csv").read_text()
    verdicts = judge_all(data_scaling.claims(name, preset), Evidence(table, name, preset.evidence))
    assert verdicts_to_json(verdicts) == (RESULTS / name / "verdicts.json").read_text()


@pytest.mark.parametrize("name", PRESETS)
def test_the_table_holds_exactly_the_runs_of_the_preset(name: str) -> None:
    runs = {run_id(run) for run in grid(data_scaling.EXPERIMENT, name, data_scaling.PRESETS[name])}
    assert {row.run for row in Table.read(RESULTS / name / "table.csv").rows} == runs


@pytest.mark.parametrize("name", PRESETS)
def test_evidence_was_made_from_committed_code(name: str) -> None:
    facts = json.loads((RESULTS / name / "provenance.json").read_text())
    assert facts["dirty"] is False
    assert len(facts["commit"]) == 40
    assert {"figure.pdf", "figure.svg", "figure.png", "summary.md"} <= {
        item.name for item in (RESULTS / name).iterdir()
    }
