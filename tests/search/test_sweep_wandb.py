"""The real `wandb sweep`, `wandb agent` and `wandb sync` against a small local server, well and out of order."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from experiments import data_scaling, masked_patch
from tests.launch.forked import Forked
from tests.launch.wandb_server import ENTITY, Server
from tests.store.finished import finish
from vision_repro.analysis.table import Table
from vision_repro.cli import plan
from vision_repro.conclude import conclude_trial
from vision_repro.config import plain, run_id
from vision_repro.experiment import grid
from vision_repro.search.sweep_file import grid_text
from vision_repro.store.table import table_csv

ROOT = Path(__file__).parents[2]
TINY = (
    "--preset=smoke",
    "--model=vit-32x1/2",
    "--train_size=20",
    "--steps=30",
    "--evaluations=15",
    "--shots=",
    "--precision=fp32",
)
POINTS = 15
AT_ONCE = {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "0.2"}


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    started.start()
    yield started
    started.stop()


def wandb(folder: Path, server: Server, *words: str, timeout: float = 900) -> str:
    """Returns what the real command line of W&B prints."""
    python = Path(sys.executable).parent
    environment = {**os.environ, **server.environment, "PATH": f"{python}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"VISION_REPRO_CACHE": str(folder / "cache"), "WANDB_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "wandb", *words],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
def test_agents_run_the_runs_of_the_experiment_into_its_table(server: Server, tmp_path: Path) -> None:
    """The smoke grid as the sweep file has it, two processes a trial: one W&B run each, same ids, same table."""
    sweep = yaml.safe_load(grid_text(data_scaling.EXPERIMENT, "smoke"))
    sweep["parameters"] |= {name: {"value": value} for name, value in (("devices", 2), ("out", str(tmp_path / "out")))}
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(sweep))
    wandb(tmp_path, server, "sweep", "--project=p", str(tmp_path / "smoke.yaml"))
    (name,) = server.sweeps
    text = wandb(tmp_path, server, "agent", "--count=2", f"{ENTITY}/p/{name}")
    planned = plan(data_scaling.EXPERIMENT, ["--preset=smoke", f"--out={tmp_path / 'out'}"])
    done = [run for run in planned.runs if planned.folder(run).result()]
    assert len(done) == 2, text
    folders = {file.parent.name for file in (tmp_path / "out/runs").glob("*/config.yaml")}
    assert folders == {run_id(run) for run in done}
    # "the same table": the one that the experiment's own command makes of these runs
    assert (planned.summary / "table.csv").read_text() == table_csv(planned.spec, map(planned.folder, planned.runs))
    assert len({row.run for row in Table.read(planned.summary / "table.csv").rows}) == 2
    assert [path.parent for path in planned.root.glob("*/table.csv")] == [planned.summary]
    assert len(server.runs) == 2
    for trial, run in zip(server.runs.values(), done, strict=True):
        assert (trial.state, trial.sweep) == ("finished", name)
        assert {key: trial.config[key]["value"] for key in plain(run)} == plain(run)
        result = planned.folder(run).result()
        assert result is not None
        assert trial.points("val_accuracy") == [result["metrics"]["val_accuracy"]["value"]]


@pytest.mark.slow
def test_the_run_that_a_trial_starts_from_does_not_become_its_wandb_run(server: Server, tmp_path: Path) -> None:
    """A trial that must pre-train first: W&B has the fine-tuning only, under the id that the agent gave."""
    chosen = {"pretraining": "mean-colour", "budget": "steps", "train_size": 20, "out": str(tmp_path / "out")}
    sweep = yaml.safe_load(grid_text(masked_patch.EXPERIMENT, "smoke"))
    sweep["parameters"] |= {name: {"value": value} for name, value in chosen.items()}
    server.on_upsertsweep({"config": yaml.safe_dump(sweep), "projectName": "p"})
    text = wandb(tmp_path, server, "agent", "--count=1", f"{ENTITY}/p/sweep0")
    tokens = ["--preset=smoke", *(f"--{name}={value}" for name, value in chosen.items())]
    planned = plan(masked_patch.EXPERIMENT, tokens)
    (run,), (before,) = planned.runs, planned.upstream
    result, first = planned.folder(run).outcome(), planned.folder(before).result()
    assert result is not None, text
    assert first is not None, text
    assert not list(planned.folder(before).path.glob("wandb"))
    (trial,) = server.runs.values()
    assert (trial.name, trial.state, trial.sweep) == ("trial0", "finished", "sweep0")
    assert {key: trial.config[key]["value"] for key in plain(run)} == plain(run)
    assert trial.display.endswith("seed=0")
    assert "pretraining=mean-colour" in trial.display
    assert trial.points("val_accuracy") == [result["metrics"]["val_accuracy"]["value"]]
    assert trial.summary["test_accuracy"] == result["metrics"]["test_accuracy"]["value"]


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    started = Forked(ROOT)
    yield started
    started.close()


@pytest.mark.slow
def test_a_server_in_trouble_harms_no_run_and_sync_brings_everything_later(forked: Forked, tmp_path: Path) -> None:
    """Offline, answering 500, not answering, and gone in mid-run: four servers, four runs at once, one table."""
    servers = {name: Server() for name in ("offline", "error", "hang", "gone")}
    started = {}
    servers["error"].mood, servers["hang"].mood, servers["gone"].leave_after = "error", "hang", 1
    for name, server in servers.items():
        server.start()
        less = {"WANDB_INIT_TIMEOUT": "5"} if name in ("error", "hang") else {}
        less |= {"WANDB_MODE": "offline"} if name == "offline" else {"WANDB_FINISH_TIMEOUT": "5"}
        environment = {**server.environment, **AT_ONCE, **less}
        started[name] = forked.start("experiments.data_scaling", TINY, tmp_path / name, **environment)
    for name, child in started.items():
        assert forked.wait(child) == 0, (tmp_path / f"{name}.log").read_text()
    tables = {name: next((tmp_path / name).glob("data_scaling/smoke*/table.csv")).read_text() for name in servers}
    assert len(set(tables.values())) == 1
    assert tables["gone"].count(",ok,test_accuracy,") == 1
    assert servers["gone"].mood == "gone"
    for name in ("error", "hang"):
        log = next((tmp_path / name).glob("runs/*/log.txt")).read_text()
        assert "W&B is off for this run" in log
        servers[name].stop()
    servers["offline"].stop()
    later = Server()
    later.start()
    for name, kind in (("offline", "offline-run"), ("gone", "run")):
        later.runs.clear()
        (folder,) = (tmp_path / name).glob(f"runs/*/wandb/{kind}-*")
        wandb(tmp_path, later, "sync", "--no-skip-online", str(folder))
        (run,) = later.runs.values()
        assert run.state == "finished"
        assert run.name == folder.name.rsplit("-", 1)[1]
        assert len(run.points("val_accuracy")) == POINTS
        assert run.config["model"]["value"] == "vit-32x1/2"
        assert "test_accuracy" in run.summary
    later.stop()


def test_a_trial_outside_the_grid_adds_to_the_table_of_its_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    for rate in (0.001, 0.002):
        tokens = ["--preset=smoke", "--model=vit-32x4/2", "--train_size=20", f"--lr={rate}", f"--out={tmp_path}"]
        planned = plan(data_scaling.EXPERIMENT, tokens)
        finish(planned.folder(planned.runs[0]), rate)
        conclude_trial(planned)
    found = Table.read(tmp_path / "data_scaling/sweep-abc/table.csv")
    assert found.columns == ("model", "train_size", "lr")
    rows = sorted(found.rows, key=lambda row: row.value)
    assert {row.metric for row in rows} == {"val_accuracy", "few_shot_1", "few_shot_5"}
    assert [(row.get("lr"), row.metric, row.value) for row in rows if row.metric == "val_accuracy"] == [
        (0.001, "val_accuracy", 0.001),
        (0.002, "val_accuracy", 0.002),
    ]
    assert not list(tmp_path.glob("data_scaling/smoke*"))


def test_the_last_trial_of_a_grid_makes_the_figure_and_the_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    experiment = data_scaling.EXPERIMENT
    out = tmp_path / "data_scaling/smoke"
    runs = grid(experiment, "smoke", experiment.presets["smoke"])
    for number, run in enumerate(runs):
        tokens = ["--preset=smoke", f"--model={run.model}", f"--train_size={run.train_size}", f"--out={tmp_path}"]
        planned = plan(experiment, tokens)
        assert planned.runs == (run,)
        finish(planned.folder(run), 0.5 + number / 10)
        assert not (out / "figure.pdf").exists()
        conclude_trial(planned)
        assert len({row.run for row in Table.read(out / "table.csv").rows}) == number + 1
    assert (out / "figure.pdf").exists()
    assert (out / "verdicts.json").exists()
