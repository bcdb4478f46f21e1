"""The outcome of an experiment in W&B: what is logged, once, by whom, and that nothing of it can do harm."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments import data_scaling
from tests.store.finished import finish
from tests.training.test_run import context
from vision_repro.cli import carry_out, plan
from vision_repro.config import Launch, RunConfig, parse_options
from vision_repro.experiment import Plan
from vision_repro.launch import wandb_report
from vision_repro.store.runs import RunFolder
from vision_repro.training import tracking

ROOT = Path(__file__).parents[2]
TINY = ("--preset=smoke", "--model=vit-32x4/2", "--train_size=20,40", "--seeds=2", "--steps=4", "--evaluations=2")


@pytest.fixture
def outcome(tmp_path: Path) -> Path:
    """A copy of a committed result: figure, tables and verdicts."""
    return Path(shutil.copytree(ROOT / "results" / "data_scaling" / "cpu", tmp_path / "data_scaling" / "cpu"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def inspect(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *words, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def cells(run: Path, shown: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """The table that a summary value points to."""
    found = json.loads((run / "files" / shown["path"]).read_text())
    return found["columns"], found["data"]


# --- what is logged ---


@pytest.mark.slow
def test_offline_a_second_call_replaces_the_first(
    outcome: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    # as in a trial of a sweep, whose run this must not become
    monkeypatch.setenv("WANDB_SWEEP_ID", "abcdefgh")
    monkeypatch.setenv("WANDB_RUN_ID", "atrial")
    monkeypatch.setenv("HOME", str(outcome.parents[1] / "home"))
    before = content(outcome)
    for _ in range(2):
        assert wandb_report.log(outcome)
        (run,) = outcome.parent.glob("wandb/offline-run-*")
        assert f"wandb sync {run}\n" in capsys.readouterr().out
    assert content(outcome) == before
    assert not list((outcome.parents[1] / "home").rglob("staging"))

    head = next(item for item in map(json.loads, inspect(run).splitlines()) if item["type"] == "run")["run"]
    assert (head["run_id"], head["job_type"]) == (wandb_report.wandb_id(outcome), "summary")
    assert (head["run_group"], head["display_name"]) == ("data_scaling", "cpu")
    found = json.loads(inspect(run, "--summary"))
    assert (found["state"], found["exit_code"], found["step"]) == ("finished", 0, 0)
    assert found["config"]["seeds"] == 5
    _check_summary(run, outcome, found["summary"])


def _check_summary(run: Path, outcome: Path, summary: dict[str, Any]) -> None:
    assert (run / "files" / summary["figure"]["path"]).read_bytes() == (outcome / "figure.png").read_bytes()
    for name, file in (("table", "table.csv"), ("summary", "summary.csv")):
        columns, rows = cells(run, summary[name])
        lines = (outcome / file).read_text().splitlines()
        assert (columns, len(rows)) == (lines[0].split(","), len(lines) - 1)
    columns, rows = cells(run, summary["table"])
    first = dict(zip(columns, rows[0], strict=True))
    assert (first["train_size"], first["status"], first["value"]) == (20, "ok", 0.2367758186397985)
    judged = json.loads((outcome / "verdicts.json").read_text())
    columns, rows = cells(run, summary["verdicts"])
    logged = [dict(zip(columns, row, strict=True)) for row in rows]
    assert [(item["claim"], item["verdict"]) for item in logged] == [
        (item["claim"], item["verdict"]) for item in judged
    ]
    assert logged[0]["mean"] == pytest.approx(judged[0]["estimate"]["mean"])
    counts = {name.removeprefix("claims_"): number for name, number in summary.items() if name.startswith("claims_")}
    words = [item["verdict"] for item in judged]
    assert counts == {word: words.count(word) for word in ("holds", "fails", "undecided", "untested")}


def test_id_is_fixed_and_differs_for_every_folder_of_results() -> None:
    assert wandb_report.wandb_id(Path("/x/data_scaling/cpu")) == "summary-644db3512009"
    names = ("a/cpu", "b/cpu", "a/cifar", "a/cpu,seeds=2", "a/cpu,lr=0.1")
    assert len({wandb_report.wandb_id(Path("outputs") / name) for name in names}) == len(names)


def test_columns_have_one_type_each() -> None:
    text = "model,size,value,shots\nvit,20,0.5,1 5\nbit,20,nan,\n1,40,,10\n"
    columns, rows = wandb_report._csv(text)
    assert columns == ["model", "size", "value", "shots"]
    assert rows == [["vit", 20, 0.5, "1 5"], ["bit", 20, None, ""], ["1", 40, None, "10"]]
    assert wandb_report._csv("a,b\n") == (["a", "b"], [])
    assert wandb_report._csv("") == ([], [])


# --- what is not, and that it harms nothing ---


@pytest.mark.parametrize(
    ("mode", "enabled", "installed", "word"),
    [
        ("disabled", True, True, "WANDB_MODE=disabled"),
        ("offline", False, True, "--wandb=off"),
        ("offline", True, False, "not installed"),
    ],
)
def test_one_sentence_says_that_nothing_was_logged(
    mode: str,
    enabled: bool,
    installed: bool,
    word: str,
    outcome: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setattr(wandb_report, "_carried_out", lambda *_: pytest.fail("a process was started"))
    if not installed:
        monkeypatch.setitem(sys.modules, "wandb", None)
    assert not wandb_report.log(outcome, enabled=enabled)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Nothing was logged to W&B: ")
    assert word in line


@pytest.mark.slow
def test_a_broken_server_costs_one_sentence(
    outcome: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = {"MODE": "online", "API_KEY": "x" * 40, "BASE_URL": "http://127.0.0.1:9", "INIT_TIMEOUT": "2"}
    for name, value in broken.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    before = content(outcome)
    assert not wandb_report.log(outcome)
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("The outcome is not in W&B (")
    assert str(outcome) in line
    assert content(outcome) == before


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_takes_too_long_is_ended_with_its_helpers(tmp_path: Path) -> None:
    script = (
        "import pathlib, subprocess, sys\n"
        "helper = subprocess.Popen(['sleep', '60'])\n"
        "pathlib.Path(sys.argv[1]).write_text(str(helper.pid))\n"
        "helper.wait()\n"
    )
    begin = time.monotonic()
    done, text = wandb_report._carried_out([sys.executable, "-S", "-c", script, str(tmp_path / "pid")], 3.0)
    assert (done, text) == (False, "it took longer than 3 s")
    assert time.monotonic() - begin < 30
    helper = int((tmp_path / "pid").read_text())
    while alive(helper) and time.monotonic() - begin < 30:
        time.sleep(0.05)
    assert not alive(helper)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("print('noise'); print('no disk'); raise SystemExit(1)", "no disk"),
        ("import os; os.kill(os.getpid(), 9)", "its process ended with code -9"),
        ("pass", "its process ended with code 0"),
    ],
)
def test_a_process_that_fails_gives_its_reason(script: str, text: str) -> None:
    assert wandb_report._carried_out([sys.executable, "-S", "-c", script], 60.0) == (False, text)
    assert not wandb_report._carried_out(["/nowhere/python"], 60.0)[0]


def test_a_folder_that_cannot_be_read_gives_a_sentence(
    outcome: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wandb_report, "write", lambda folder: json.loads("[{"))
    assert wandb_report.main([str(outcome)]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_environment_keeps_no_trace_of_a_training_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*wandb_report.OF_A_RUN, "WANDB_PROJECT", "WANDB_API_KEY", "NAME"):
        monkeypatch.setenv(name, "x")
    found = wandb_report._environment()
    assert {name for name in found if name.startswith("WANDB_")} >= {"WANDB_PROJECT", "WANDB_API_KEY"}
    assert not set(found) & set(wandb_report.OF_A_RUN)
    assert found["NAME"] == "x"


# --- the option ---


def finished(out: Path, *tokens: str) -> Plan:
    """A plan whose runs are all done."""
    planned = plan(data_scaling.EXPERIMENT, [*TINY, f"--out={out}", *tokens])
    for number, run in enumerate(planned.runs):
        finish(planned.folder(run), 0.5 + 0.01 * number)
    return planned


@pytest.mark.parametrize(("tokens", "calls"), [((), 0), (("--wandb-report",), 1), (("--wandb-report", "--dry-run"), 0)])
def test_the_outcome_is_logged_where_asked_and_decides_no_exit_code(
    tokens: Sequence[str], calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[Path, bool]] = []

    def fails(folder: Path, *, enabled: bool) -> bool:
        assert (folder / "figure.png").exists()
        logged.append((folder, enabled))
        return False

    monkeypatch.setattr(wandb_report, "log", fails)
    planned = finished(tmp_path, *tokens, "--wandb=off")
    assert carry_out(planned) == 0
    assert logged == [(planned.summary, False)] * calls


def test_the_option_is_off_unless_given() -> None:
    assert Launch().wandb_report is False
    assert parse_options(["--wandb-report"], Launch) == {"wandb_report": [True]}


# --- the link of a run ---


def tracker(url: Callable[[], object]) -> tracking.Tracker:
    """A tracker whose logger is a fake that knows an address."""
    made = tracking.Tracker(RunConfig(), context(Path()), enabled=False)
    made.logger = SimpleNamespace(experiment=type("Run", (), {"url": property(lambda _: url())})())
    return made


@pytest.mark.parametrize(
    ("url", "recorded"),
    [
        ("https://wandb.ai/a/b/runs/c", "https://wandb.ai/a/b/runs/c"),
        ("https://wandb.ai/a/b/runs/c?apiKey=secret#x", "https://wandb.ai/a/b/runs/c"),
        ("https://user:secret@wandb.example/a/b/runs/c", ""),
        ("http://127.0.0.1:8080/a/b/runs/c", ""),
        ("javascript:alert(1)", ""),
        ("https://", ""),
        (None, ""),
    ],
)
def test_only_an_https_address_is_recorded(url: object, recorded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    assert tracker(lambda: url).address() == recorded


def test_no_address_offline_and_none_from_a_logger_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> object:
        raise RuntimeError("server gone")

    monkeypatch.setenv("WANDB_MODE", "offline")
    assert tracker(fails).address() == ""
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("WANDB_MODE", "online")
    assert tracker(fails).address() == ""
    assert "server gone" in capsys.readouterr().err
    assert tracking.Tracker(RunConfig(), context(Path()), enabled=False).address() == ""


@pytest.mark.slow
@pytest.mark.parametrize("address", ["https://wandb.ai/a/b/runs/c", ""])
def test_the_address_is_in_the_provenance_of_the_run(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vision_repro.training import run
    from vision_repro.training.context import RunContext

    class Fake(tracking.Tracker):
        def address(self) -> str:
            return address

    monkeypatch.setattr(run, "Tracker", Fake)
    config = RunConfig(model="vit-32x4/2", train_size=20, steps=2, evaluations=1, global_batch=4, shots="", lr=0.001)
    folder = RunFolder(tmp_path, config)
    place = RunContext(
        folder=folder,
        launch=Launch(wandb="off"),
        cache=tmp_path / "cache",
        settings=("model",),
        accelerator="cpu",
        report=lambda message: None,
    )
    run.execute(config, place)
    facts = json.loads((folder.path / "provenance.json").read_text())
    assert facts.get("wandb_url", "") == address
    assert ("wandb_url" in facts) is bool(address)
