"""SLURM: batch scripts with stand-ins for its commands, then arrays, pre-emption and two nodes with the real thing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from experiments.data_scaling import EXPERIMENT
from tests.launch.forked import Forked
from tests.launch.slurm_nodes import Cluster, two_nodes
from tests.launch.wandb_server import ENTITY, Server
from tests.store.finished import finish
from vision_repro.cli import plan
from vision_repro.config import Launch, RunConfig, UserError, run_id
from vision_repro.experiment import Plan
from vision_repro.launch import session, slurm, slurm_trial
from vision_repro.launch.batch_script import Request, options, script, shares
from vision_repro.launch.slurm import Jobs, levels
from vision_repro.search.sweep_file import grid_text
from vision_repro.store import checkpoints
from vision_repro.training.device import cores

ROOT = Path(__file__).parents[2]
LAUNCH = Launch(engine="slurm", partition="p", time_limit="4:00:00", sbatch="--account=a --time=1:00:00")


# What is asked for


def test_an_array_asks_for_one_task_a_node_and_the_cores_of_its_runs() -> None:
    found = options(replace(LAUNCH, jobs=3, devices=2), Request("depth", 8, gpus=False, after=("5", "6")), Path("/o"))
    for word in (
        "--array=0-7",
        "--nodes=1",
        "--ntasks-per-node=1",
        "--cpus-per-task=6",
        "--partition=p",
        "--open-mode=append",
        "--signal=USR1@60",
        "--dependency=afterany:5:6",
        "--requeue",
        "--output=/o/%A_%a.log",
    ):
        assert word in found
    assert not any(item.startswith("--gres") for item in found)
    assert found.index("--time=4:00:00") < found.index("--time=1:00:00")  # SLURM takes the last, the person's own


def test_several_nodes_ask_for_a_rank_a_gpu() -> None:
    found = options(replace(LAUNCH, num_nodes=2, devices=4, jobs=3), Request("depth", 1, gpus=True), Path("/o"))
    for word in ("--nodes=2", "--ntasks-per-node=4", "--gres=gpu:4", "--cpus-per-task=3"):
        assert word in found


def test_every_run_is_in_one_share() -> None:
    runs = [str(number) for number in range(10)]
    parts = shares(runs, 4)
    assert [len(part) for part in parts] == [3, 3, 2, 2]
    assert sorted(run for part in parts for run in part) == runs
    assert len(shares(runs, 1000)) == 10


def test_runs_wait_for_the_level_of_what_they_need() -> None:
    first = RunConfig(steps=1)
    second = RunConfig(weights=f"run:{run_id(first)}")
    third = RunConfig(weights=f"run:{run_id(second)}", seed=1)
    alone = RunConfig(seed=2)
    runs = [first, alone, second, third]
    names = [run_id(run) for run in runs]
    assert levels(runs, names) == [[names[0], names[1]], [names[2]], [names[3]]]
    assert levels(runs[2:], names[2:]) == [[names[2]], [names[3]]]  # what is done already is waited for no more


def test_a_job_uses_no_more_cores_than_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    there = cores()
    for given, expected in (("1", 1), (str(there + 5), there), ("0", there), ("", there)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", given)
        assert cores() == expected


def test_slurm_s_options_need_slurm() -> None:
    with pytest.raises(UserError, match="--partition=p is for --engine=slurm"):
        Launch(partition="p")


# With stand-ins for SLURM's commands


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts stand-ins for commands, shell scripts, in front of the real ones."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def stand_in(name: str, text: str) -> None:
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)

    stand_in("scontrol", 'echo "$@" >> scontrol.txt')
    stand_in("squeue", "echo RUNNING:None")
    return stand_in


@pytest.mark.parametrize(
    ("code", "state", "requeued"),
    [
        (0, "RUNNING:None", False),
        (1, "RUNNING:None", False),
        (99, "RUNNING:None", True),
        (143, "RUNNING:None", True),  # pre-empted before it could listen
        (99, "COMPLETING:None", False),  # cancelled by a person
        (99, "COMPLETING:TimeLimit", True),
        (99, "", True),
    ],
)
def test_the_script_outlives_a_signal_and_requeues_what_is_to_be_continued(
    tmp_path: Path, commands: Callable[[str, str], None], code: int, state: str, requeued: bool
) -> None:
    commands("squeue", f'[ "$*" = "--noheader --jobs=7_1 --format=%T:%r" ] && echo {state}')
    commands(
        "srun", f'trap "sleep 0.3; exit {code}" TERM; echo "$@" > srun.txt; for i in {{1..100}}; do sleep 0.1; done'
    )
    (tmp_path / "runs").write_text("a\nb c\n")
    text = script(["--array=0-1"], ["python", "-m", "x", "--lr=1e-3,{2}"], tmp_path, tmp_path / "runs")
    (tmp_path / "job").write_text(text)
    element = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}
    process = subprocess.Popen(["bash", "job"], env=os.environ | element, start_new_session=True)
    told = tmp_path / "srun.txt"
    for _ in range(500):
        if told.exists() and told.read_text():
            break
        time.sleep(0.02)
    assert told.read_text() == "--kill-on-bad-exit=0 python -m x --lr=1e-3,{2} --only=b c\n"
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(20) == code
    file = tmp_path / "scontrol.txt"
    assert (file.read_text() if file.exists() else "") == ("requeue 7_1\n" if requeued else "")


@pytest.mark.slow
def test_a_trial_of_an_agent_goes_on_after_a_restart_as_the_same_run(
    tmp_path: Path, commands: Callable[[str, str], None]
) -> None:
    commands("python", f'exec {sys.executable} "$@"')
    commands(
        "wandb",
        'echo "$@" >> wandb.txt; export WANDB_RUN_ID=abc WANDB_SWEEP_ID=s\n'
        "python -m experiments.data_scaling --preset=smoke --lr=0.001 || true",
    )
    commands(
        "srun",
        'echo "$WANDB_RUN_ID $WANDB_SWEEP_ID [$WANDB_RESUME] [$VISION_REPRO_TRIAL] $@" >> srun.txt\nexit $(cat code)',
    )
    job = {
        "SLURM_JOB_ID": "9",
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "1",
        "SLURM_NTASKS": "4",
        "SLURM_NNODES": "2",
    }
    codes = []
    for code in ("99", "143", "0"):
        (tmp_path / "code").write_text(code)
        process = subprocess.run(
            ["bash", str(ROOT / "sweeps/agent.sbatch"), "me/p/s"], env=os.environ | job, timeout=60
        )
        codes.append(process.returncode)
    assert codes[1:] == [143, 0]
    assert (tmp_path / "wandb.txt").read_text() == "agent --count 1 --forward-signals me/p/s\n"
    tail = (
        f"--kill-on-bad-exit=0 {sys.executable} -m experiments.data_scaling --preset=smoke --lr=0.001 "
        "--num_nodes=2 --devices=2"
    )
    assert (tmp_path / "srun.txt").read_text().splitlines() == [
        f"abc s [] [] {tail}",
        f"abc s [allow] [] {tail}",
        f"abc s [allow] [] {tail}",
    ]
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 7_1\n" * 2
    assert list((tmp_path / "outputs/trials").iterdir()) == []


def test_a_trial_s_file_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.json").write_text("[]")
    monkeypatch.setenv("VISION_REPRO_TRIAL", str(tmp_path / "t.json"))
    with pytest.raises(UserError, match="is not the file of a trial"):
        slurm_trial.again()


def test_a_refused_array_is_told_in_slurm_s_words(tmp_path: Path, commands: Callable[[str, str], None]) -> None:
    commands("sbatch", "echo 'sbatch: error: invalid partition specified: p' >&2; exit 1")
    with pytest.raises(UserError, match="invalid partition specified: p"):
        Jobs(tmp_path / "slurm").submit(LAUNCH, Request("x", 1, gpus=False), ["true"], [["a"]])
    assert Jobs(tmp_path / "slurm").elements() == {}


def test_gpus_are_asked_for_where_the_partition_has_them(commands: Callable[[str, str], None]) -> None:
    commands("sinfo", "printf 'big|gpu:a100:4\\n'; [ $# = 3 ] || printf 'small*|(null)\\n'")
    assert slurm.has_gpus("big")
    assert not slurm.has_gpus("")


def test_a_command_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="sbatch, squeue, scontrol not found here"):
        slurm.check_commands()


# Submitting, following, collecting, with a queue that the test keeps


class Queue:
    """What squeue answers; `happens[n]` is done before the n-th answer."""

    def __init__(self, planned: Plan, happens: list[Callable[[], None]]) -> None:
        self.planned, self.happens, self.submitted = planned, happens, 0
        self.states: dict[str, tuple[str, str]] = {}

    def __call__(self) -> dict[str, tuple[str, str]] | None:
        if self.happens:
            self.happens.pop(0)()
        return dict(self.states)

    def submit(self, *command: str) -> tuple[int, str, str]:
        self.submitted += 1
        elements = len(Path(command[-1]).with_suffix(".runs").read_text().splitlines())
        self.states |= {f"{self.submitted}_{number}": ("PENDING", "Priority") for number in range(elements)}
        return 0, f"{self.submitted};lab\n", ""

    def finish(self, *numbers: int) -> None:
        for number in numbers:
            finish(self.planned.folder(self.planned.runs[number]), 0.5)

    def end(self) -> None:
        self.states.clear()


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    planned = plan(EXPERIMENT, ["--preset=smoke", f"--out={tmp_path}", "--engine=slurm", "--tasks=2"])
    assert len(planned.runs) == 4
    found = Queue(planned, [])
    monkeypatch.setattr(slurm, "queue", found)
    monkeypatch.setattr(slurm, "call", found.submit)
    monkeypatch.setattr(slurm, "check_commands", lambda: None)
    monkeypatch.setattr(slurm, "has_gpus", lambda partition: False)
    for name in ("check", "prepare"):
        monkeypatch.setattr(f"vision_repro.launch.preflight.{name}", lambda planned, runs: None)
    monkeypatch.setattr(slurm, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(slurm, "LAST_PAUSE", 0.001)
    return found


def nothing() -> None:
    """Stands for time that goes by."""


def interrupt() -> None:
    raise KeyboardInterrupt


def test_the_same_command_follows_what_goes_on_and_submits_only_the_rest(
    queue: Queue, capsys: pytest.CaptureFixture[str]
) -> None:
    queue.happens = [nothing, lambda: queue.finish(0), interrupt]
    assert slurm.do_runs(queue.planned) == (130, False)
    text = capsys.readouterr().err
    assert "Submitted job 1: 4 runs in 2 array tasks." in text
    assert "The jobs 1 continue. The same command follows them again; `scancel 1` ends them." in text
    del queue.states["1_1"]  # one element was cancelled: its two runs are in no job
    queue.happens = [nothing, nothing, lambda: queue.finish(1, 2, 3), queue.end]
    assert slurm.do_runs(queue.planned) == (0, True)
    text = capsys.readouterr().err
    assert "Following jobs 1: 1 runs." in text
    assert "Submitted job 2: 2 runs in 2 array tasks." in text
    assert queue.submitted == 2
    assert slurm.do_runs(queue.planned) == (0, True)
    assert queue.submitted == 2


def test_what_failed_is_told_with_its_last_words(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        queue.finish(0, 1, 2)
        (queue.planned.root / "slurm" / "1_1.log").write_text("Traceback\nRuntimeError: out of memory\n\n")
        queue.end()

    queue.happens = [nothing, fail]
    assert slurm.do_runs(queue.planned) == (1, True)
    text = capsys.readouterr().err
    assert f"failed: run {run_id(queue.planned.runs[3])}: RuntimeError: out of memory (see" in text


def test_a_run_that_this_command_has_not_is_told(tmp_path: Path) -> None:
    planned = plan(EXPERIMENT, ["--preset=smoke", f"--out={tmp_path}", "--only=0123456789ab"])
    with pytest.raises(UserError, match="has no run 0123456789ab"):
        session.do_runs(planned)


# The real thing: two nodes on this host

RUN_SECONDS = 600
"""Longest time for what these tests wait for; a machine with nothing else to do needs a tenth of it."""
SMALL = (
    "--preset=smoke", "--model=vit-32x4/2", "--train_size=40", "--steps=480", "--evaluations=12",
    "--global_batch=16", "--augmentation=crop-flip", "--shots=", "--precision=fp32", "--checkpoint_seconds=0",
)  # fmt: skip
ARRAY = (*SMALL, "--wandb=off", "--seeds=2")
TWO_RANKS = (*SMALL, "--wandb=off", "--seeds=1")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with two_nodes(tmp_path_factory.mktemp("slurm") / "lab") as found:
        yield found


@pytest.fixture(scope="module")
def uninterrupted(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Metrics and weights of the small command, its runs on one process and on two, without a cluster."""
    found, warm = {}, Forked(ROOT)
    for devices, chosen in ((1, ARRAY), (2, TWO_RANKS)):
        out = tmp_path_factory.mktemp("alone") / "outputs"
        code, text = warm.run("experiments.data_scaling", (*chosen, f"--devices={devices}"), out)
        assert code == 0, text
        found |= {f"{devices} {name}": value for name, value in outcomes(out).items()}
    warm.close()
    assert warm.process.stdout is not None
    warm.process.stdout.close()
    return found


def outcomes(out: Path) -> dict[str, Any]:
    """Returns metrics, learning curve and weights of each finished run, by its id."""
    found = {}
    for file in sorted((out / "runs").glob("*/result.json")):
        weights = torch.load(file.parent / "weights.ckpt", weights_only=True)
        flat = torch.cat([value.double().reshape(-1) for value in weights.values()])
        metrics = json.loads(file.read_text())["metrics"]
        found[file.parent.name] = (metrics, (file.parent / "metrics.csv").read_text(), flat.numpy().tobytes())
    return found


def wait_for(cluster: Cluster, condition: Callable[[], Any], log: Path, over: Callable[[], Any] = lambda: False) -> Any:
    """Returns what the condition gives as soon as it is true; fails when it can become so no more (`over`)."""
    end = time.monotonic() + RUN_SECONDS
    while not (found := condition()):
        if (over() and not condition()) or time.monotonic() > end:
            texts = "\n".join(file.read_text() for file in log.glob("**/*.log"))
            pytest.fail(f"nothing came of it\n{texts}\n{cluster.run('squeue')}\n{cluster.logs()}")
        time.sleep(0.3)
    return found


def wait_until(cluster: Cluster, job: str, state: str, log: Path) -> None:
    """Waits for a state of a job, or fails once it has ended in another."""
    wait_for(cluster, lambda: state in cluster.states(job).values(), log, lambda: cluster.is_over(job))


@pytest.mark.slow
def test_a_job_comes_back_before_its_time_limit_and_after_being_cancelled_does_not(
    tmp_path: Path, cluster: Cluster
) -> None:
    """SLURM tells of a limit of one minute at once; what is told saves for a second and ends with code 99."""
    (tmp_path / "train").write_text(
        "trap 'sleep 1; exit 99' TERM USR1\n[ -z \"$SLURM_RESTART_COUNT\" ] || exit 0\n"
        "echo trains; for i in {1..3000}; do sleep 0.1; done\n"
    )
    (tmp_path / "runs").write_text("a\nb\n")
    numbers = []
    for limit in ("1", "10"):
        asked = options(
            replace(LAUNCH, partition="main", sbatch="", time_limit=limit), Request("x", 1, False), tmp_path
        )
        (tmp_path / limit).write_text(script(asked, ["bash", f"{tmp_path}/train"], tmp_path, tmp_path / "runs"))
        numbers.append(cluster.run("sbatch", "--parsable", str(tmp_path / limit)).strip())
    told, cancelled = (f"{number}_0" for number in numbers)
    log = tmp_path / f"{cancelled}.log"
    wait_for(cluster, lambda: log.exists() and "trains" in log.read_text(), tmp_path)
    cluster.run("scancel", cancelled)
    wait_until(cluster, cancelled, "CANCELLED", tmp_path)
    wait_until(cluster, told, "PENDING", tmp_path)
    cluster.start_again(told)
    wait_until(cluster, told, "COMPLETED", tmp_path)
    assert cluster.states(cancelled) == {numbers[1]: "CANCELLED"}
    assert "exit code 99" in log.read_text()


@pytest.mark.slow
def test_an_array_is_followed_stopped_continued_and_collected(
    tmp_path: Path, cluster: Cluster, uninterrupted: dict[str, Any]
) -> None:
    command = [sys.executable, "-m", "experiments.data_scaling", *ARRAY, f"--out={tmp_path}"]
    more = ["--engine=slurm", "--partition=main", "--tasks=2"]
    with (
        (tmp_path / "follow.log").open("w") as log,
        subprocess.Popen(
            [*command, *more], cwd=ROOT, env=dict(cluster.environment), stdout=log, stderr=log
        ) as follower,
    ):
        try:
            element = _stop_one(tmp_path, cluster, follower)
            code = follower.wait(RUN_SECONDS)
        finally:
            follower.kill()
    text = (tmp_path / "follow.log").read_text()
    assert code == 0, text
    words = (tmp_path / "data_scaling" / "slurm" / f"{element}.log").read_text()
    assert "Stopped by a signal: 0 of 1 runs are done, 1 saved" in words
    assert {f"1 {name}": value for name, value in outcomes(tmp_path).items()}.items() <= uninterrupted.items()
    assert len(outcomes(tmp_path)) == 2
    assert "Submitted job" in text
    assert "Figure, table and verdicts" in text
    assert len(list((tmp_path / "data_scaling").glob("*/figure.png"))) == 1
    # Nothing is left to do, and nothing is submitted.
    again = subprocess.run([*command, *more], cwd=ROOT, env=dict(cluster.environment), capture_output=True, text=True)
    assert again.returncode == 0
    assert "Submitted" not in again.stderr


def _stop_one(out: Path, cluster: Cluster, follower: subprocess.Popen[bytes]) -> str:
    """Stops the first run that starts and has it go on; returns the element of the array that has it."""
    runs, jobs = out / "runs", Jobs(out / "data_scaling" / "slurm")
    # Not later: on a fast machine a run takes a few seconds, on a slow one scancel does.
    log = wait_for(cluster, lambda: next(runs.glob("*/log.txt"), None), out, lambda: follower.poll() is not None)
    element = next(name for name, ids in jobs.elements().items() if log.parent.name in ids)
    cluster.run("scancel", "--signal=USR1", element)
    wait_until(cluster, element, "PENDING", out)
    cluster.start_again(element)
    return element


@pytest.mark.slow
def test_two_nodes_train_together_are_pre_empted_and_end_bitwise_as_one_machine(
    tmp_path: Path, cluster: Cluster, uninterrupted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(ROOT)
    (expected,) = (name.removeprefix("2 ") for name in uninterrupted if name.startswith("2 "))
    command = [sys.executable, "-m", "experiments.data_scaling", *TWO_RANKS, f"--out={tmp_path}", "--num_nodes=2"]
    launch = Launch(engine="slurm", partition="main", num_nodes=2, time_limit="10")
    jobs = Jobs(tmp_path / "data_scaling" / "slurm")
    element = f"{jobs.submit(launch, Request('two', 1, gpus=False), command, [[expected]])}_0"
    folder = tmp_path / "runs" / expected
    wait_for(cluster, (folder / "config.yaml").exists, tmp_path, lambda: cluster.is_over(element))
    # A job of more importance takes both nodes.
    first = cluster.run(
        "sbatch", "--parsable", "--partition=hi", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1"
    ).strip()
    wait_until(cluster, element, "PENDING", tmp_path)
    wait_until(cluster, first, "COMPLETED", tmp_path)
    # On a busy machine the job may be taken before its first step: then nothing is saved, and it starts over.
    if saved := checkpoints.find(folder):
        assert torch.load(saved, weights_only=True)["global_step"] < 480
    cluster.start_again(element)
    wait_until(cluster, element, "COMPLETED", tmp_path)
    assert outcomes(tmp_path)[expected] == uninterrupted[f"2 {expected}"]
    assert "Stopped by a signal" in (jobs.folder / f"{element}.log").read_text()


@pytest.mark.slow
def test_a_trial_of_a_sweep_trains_on_two_nodes_is_stopped_and_goes_on_as_the_same_wandb_run(
    tmp_path: Path, cluster: Cluster, uninterrupted: dict[str, Any]
) -> None:
    """The job script of the sweeps, the real `wandb agent`, and the small server in W&B's place."""
    server = Server()
    server.start()
    sweep = yaml.safe_load(grid_text(EXPERIMENT, "smoke"))
    words = [token.removeprefix("--").partition("=") for token in (*SMALL, "--seed=0", f"--out={tmp_path}")]
    sweep["parameters"] = {name: {"value": yaml.safe_load(value) if value else ""} for name, _, value in words}
    server.on_upsertsweep({"config": yaml.safe_dump(sweep), "projectName": "p"})
    variables = server.environment | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{cluster.environment['PATH']}",
        "WANDB_DIR": str(tmp_path),
        "VISION_REPRO_TRIALS": str(tmp_path / "trials"),
        "VISION_REPRO_CACHE": str(tmp_path / "cache"),
    }
    number = cluster.run(
        "sbatch",
        "--parsable",
        "--array=1-1",
        "--partition=main",
        "--nodes=2",
        "--cpus-per-task=1",
        "--time=20",
        f"--chdir={ROOT}",
        f"--output={tmp_path}/%A_%a.log",
        str(ROOT / "sweeps/agent.sbatch"),
        f"{ENTITY}/p/sweep0",
        **variables,
    ).strip()
    element = f"{number}_1"
    runs = tmp_path / "runs"
    wait_for(cluster, lambda: list(runs.glob("*/config.yaml")), tmp_path, lambda: cluster.is_over(element))
    cluster.run("scancel", "--signal=USR1", element)
    wait_until(cluster, element, "PENDING", tmp_path)
    assert list((tmp_path / "trials").iterdir()) == [tmp_path / "trials" / f"{element}.json"]
    cluster.start_again(element)
    wait_until(cluster, element, "COMPLETED", tmp_path)
    ((name, outcome),) = outcomes(tmp_path).items()
    assert outcome == uninterrupted[f"2 {name}"]
    assert "Stopped by a signal" in (tmp_path / f"{element}.log").read_text()
    assert list((tmp_path / "trials").iterdir()) == []
    (run,) = server.runs.values()
    assert (run.state, run.sweep) == ("finished", "sweep0")
    assert len(run.points("val_accuracy")) == 12
    assert run.summary["val_accuracy"] == outcome[0]["val_accuracy"]["value"]
    server.stop()
