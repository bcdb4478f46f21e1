"""Searches on this machine: what is suggested, what is stopped, and that a kill changes nothing."""

from __future__ import annotations

import csv
import json
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import data_scaling
from tests.launch.forked import Forked, until
from vision_repro.cli import plan
from vision_repro.config import UserError
from vision_repro.search import suggest
from vision_repro.search.journal import Attempt, Journal
from vision_repro.search.loop import one_run
from vision_repro.search.sweep import main
from vision_repro.store import checkpoints

ROOT = Path(__file__).parents[2]
METRIC = {"name": "val_accuracy", "goal": "maximize"}
HYPERBAND = {"type": "hyperband", "min_iter": 2, "eta": 2}
RATES = {"lr": {"distribution": "log_uniform_values", "min": 0.0001, "max": 0.1}, "warmup": {"min": 0.0, "max": 0.3}}
SMALL: dict[str, Any] = {
    "preset": "smoke", "seed": 100, "train_size": 60, "model": "vit-32x1/2", "steps": 8, "evaluations": 4,
    "shots": "", "precision": "fp32",
}  # fmt: skip


def spec(method: str, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    command = ["${env}", "python", "-m", "experiments.data_scaling", "${args}"]
    return {"method": method, "metric": METRIC, "command": command, "parameters": parameters, **more}


def attempt(number: int, curve: list[float], state: str = "running") -> Attempt:
    steps = {10 * (index + 1): value for index, value in enumerate(curve)}
    return Attempt(number, {"lr": 0.001 * (number + 1), "warmup": 0.1}, str(number), state, steps)


def test_hyperband_stops_the_half_that_is_behind() -> None:
    """Bands at 2 and 4 measurements, half of the trials go on; the list was worked out by hand."""
    search = spec("random", RATES, early_terminate=HYPERBAND)
    curves = [[0.2, 0.3], [0.2, 0.5], [0.2, 0.6, 0.7], [0.9], [0.1, 0.2, 0.3, 0.4], [0.1, 0.7, 0.8, 0.9]]
    trials = [attempt(number, curve) for number, curve in enumerate(curves)]
    # at 2 measurements: 0.7 0.6 0.5 0.3 0.2, the third place is 0.5; at 4: 0.9 0.4, the second place is 0.4
    assert suggest.to_stop(search, trials) == [0]
    trials[0].state = "stopped"
    assert suggest.to_stop(search, trials) == []
    assert suggest.to_stop(spec("random", RATES), trials) == []
    assert suggest.to_stop({**search, "early_terminate": {**HYPERBAND, "strict": True}}, trials) == []


def test_suggestions_are_plain_python_and_a_function_of_the_trials() -> None:
    for method in ("random", "bayes"):
        search = spec(method, {**RATES, "model": {"values": ["a", "b"]}, "steps": {"value": 3}, "shots": {"value": ""}})
        trials: list[Attempt] = []
        for number in range(6):
            found = suggest.suggest(search, trials, "name", number)
            random.random()  # what else is drawn has no say
            assert found == suggest.suggest(search, trials, "name", number)
            assert found is not None
            assert {key: type(value) for key, value in found.items()} == {
                "lr": float,
                "warmup": float,
                "model": str,
                "steps": int,
                "shots": str,
            }
            assert json.loads(json.dumps(found)) == found
            trials.append(Attempt(number, found, str(number), "finished", {1: -abs(float(found["warmup"] or 0) - 0.1)}))
        assert len({str(item.parameters) for item in trials}) == 6
        assert suggest.suggest(search, (), "other", 0) != trials[0].parameters


def test_a_bayesian_search_goes_where_it_is_good() -> None:
    search = spec("bayes", {"lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1.0}})
    trials: list[Attempt] = []
    for number in range(14):
        found = suggest.suggest(search, trials, "name", number)
        assert found is not None
        distance = abs(math.log10(float(found["lr"] or 0)) + 2)
        trials.append(Attempt(number, found, str(number), "finished", {1: 1 - 0.2 * distance}))
    late = [max(item.curve.values()) for item in trials[7:]]
    assert max(late) > 0.95
    assert sum(late) / len(late) > 0.82  # 0.74 is what chance gives


def test_a_grid_ends() -> None:
    search = spec("grid", {"lr": {"values": [0.1, 0.2]}, "seed": {"value": 1}})
    trials: list[Attempt] = []
    while (found := suggest.suggest(search, trials, "name", len(trials))) is not None:
        trials.append(Attempt(len(trials), found, str(len(trials))))
    assert [item.parameters["lr"] for item in trials] == [0.1, 0.2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "anneal"}, "anneal"),
        ({"early_terminate": {"type": "hyperband"}}, "hyperband"),
        ({"metric": {"name": "test_accuracy", "goal": "maximize"}, "run_cap": 3}, "is measured on test"),
        ({}, "no number of trials"),
        ({"run_cap": 3}, "set model, train_size in the sweep file"),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], words: str
) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump({**spec("random", {**RATES, "preset": {"value": "smoke"}}), **change}))
    more = ["--trials=2"] if words in ("anneal", "hyperband") else []
    assert main([str(file), f"--out={tmp_path / 'out'}", *more]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_engine_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sweeps.bayes_search", None)
    with pytest.raises(UserError, match="which is not installed: run make setup"):
        suggest.engine()


def test_a_journal_is_read_back_and_never_mixed_up(tmp_path: Path) -> None:
    file = tmp_path / "search.json"
    journal = Journal(file, spec("random", RATES))
    journal.attempts.append(attempt(0, [0.5, 0.6], "stopped"))
    journal.write()
    assert Journal(file, spec("random", RATES, run_cap=9)).attempts == journal.attempts
    with pytest.raises(UserError, match="other parameters"):
        Journal(file, spec("bayes", RATES))
    file.write_text("{")
    with pytest.raises(UserError, match="not the journal"):
        Journal(file, spec("random", RATES))


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    started = Forked(ROOT)
    yield started
    started.close()


def sweep_file(folder: Path, **found: Any) -> str:
    file = folder / "tiny.yaml"
    constant = {name: {"value": value} for name, value in SMALL.items()}
    file.write_text(yaml.safe_dump(spec("bayes", {**constant, **RATES}, **found)))
    return str(file)


def trials(out: Path) -> list[dict[str, str]]:
    with (out / "data_scaling/tiny/trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_killed_search_goes_on_as_if_it_had_not_been(forked: Forked, tmp_path: Path) -> None:
    tokens = [sweep_file(tmp_path, run_cap=4), "--jobs=1"]
    module = "vision_repro.search.sweep"
    first = forked.start(module, tokens, tmp_path / "killed")
    journal = tmp_path / "killed/data_scaling/tiny/search.json"
    until(lambda: journal.exists() and '"number": 2' in journal.read_text(), 200, "the third trial")
    forked.kill(first)
    forked.wait(first)
    for out in (tmp_path / "killed", tmp_path / "whole"):
        code, text = forked.run(module, tokens, out)
        assert code == 0, text
    names = ("trials.csv", "table.csv", "outcome.yaml")
    for name in names:
        assert len({(tmp_path / out / "data_scaling/tiny" / name).read_bytes() for out in ("killed", "whole")}) == 1
    found = trials(tmp_path / "whole")
    assert [row["state"] for row in found] == ["finished"] * 4
    assert len({row["run"] for row in found}) == 4
    assert "test" not in (tmp_path / "whole/data_scaling/tiny/table.csv").read_text()
    assert (tmp_path / "whole/data_scaling/tiny/figure.pdf").stat().st_size > 1000
    # a trial is the run that the agent would start: same id, same folder
    values = {**SMALL, "lr": found[0]["lr"], "warmup": found[0]["warmup"], "out": tmp_path / "whole"}
    planned = plan(data_scaling.EXPERIMENT, [f"--{name}={value}" for name, value in values.items()], sweep=True)
    assert planned.folder(one_run(planned)).id == found[0]["run"]
    assert planned.folder(one_run(planned)).result() is not None
    # done: nothing is run again, and more trials go on from there
    code, text = forked.run(module, [*tokens, "--trials=5"], tmp_path / "whole")
    assert code == 0, text
    assert trials(tmp_path / "whole")[:4] == found
    assert len(trials(tmp_path / "whole")) == 5


@pytest.mark.slow
def test_what_is_behind_is_stopped_and_can_be_continued(forked: Forked, tmp_path: Path) -> None:
    rates = {"lr": {"values": [0.01, 1e-9, 2e-9]}}
    constant = {name: {"value": value} for name, value in {**SMALL, "steps": 400, "evaluations": 40}.items()}
    file = tmp_path / "tiny.yaml"
    file.write_text(
        yaml.safe_dump(spec("grid", {**rates, **constant}, early_terminate={**HYPERBAND, "eta": 3}, run_cap=3))
    )
    out = tmp_path / "out"
    code, text = forked.run("vision_repro.search.sweep", [str(file), "--jobs=1"], out)
    assert code == 0, text
    found = trials(out)
    assert found[0]["state"] == "finished"
    assert "stopped" in {row["state"] for row in found[1:]}
    stopped = next(row for row in found if row["state"] == "stopped")
    assert int(stopped["step"]) < 400
    folder = out / "runs" / stopped["run"]
    assert not (folder / "result.json").exists()
    assert checkpoints.find(folder)
    values = {**SMALL, "steps": 400, "evaluations": 40, "lr": stopped["lr"]}
    code, text = forked.run("experiments.data_scaling", [f"--{name}={value}" for name, value in values.items()], out)
    assert code == 0, text
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "ok"
    assert json.loads((folder / "provenance.json").read_text())["resumed"]
    curve = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in curve] == list(range(10, 401, 10))
