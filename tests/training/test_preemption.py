"""A run that is asked to stop ends with code 99 and goes on as if nothing had happened, to the last bit."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vision_repro.config import Launch, RunConfig
from vision_repro.store import checkpoints
from vision_repro.store.runs import RunFolder
from vision_repro.training import assemble, run, signals
from vision_repro.training.context import RunContext
from vision_repro.training.preemption import MOST_STEPS, Preemption, environment
from vision_repro.training.ranks import external_ranks
from vision_repro.training.recorder import Recorder

CONFIG = RunConfig(
    model="vit-32x4/2", train_size=40, steps=12, evaluations=4, global_batch=16, lr=1e-3,
    shots="", augmentation="crop-flip",
)  # fmt: skip
COMMAND = (
    "--preset=smoke", "--model=vit-32x4/2", "--train_size=40", "--steps=240", "--evaluations=12", "--global_batch=16",
    "--augmentation=crop-flip", "--shots=", "--wandb=off", "--precision=fp32",
)  # fmt: skip
Outcome = tuple[dict[str, Any], str, dict[str, torch.Tensor]]


def context(root: Path, config: RunConfig = CONFIG, **launch: Any) -> RunContext:
    return RunContext(
        folder=RunFolder(root, config),
        launch=Launch(wandb="off", checkpoint_seconds=1e6, **launch),
        cache=root / "cache",
        settings=("model",),
        accelerator="cpu",
        report=lambda message: None,
    )


def outcome(folder: Path) -> Outcome:
    weights = torch.load(folder / "weights.ckpt", weights_only=True)
    return json.loads((folder / "result.json").read_text()), (folder / "metrics.csv").read_text(), weights


def assert_same(first: Outcome, second: Outcome) -> None:
    """Compares metrics, learning curve and weights bit by bit; what a run cost may differ."""
    assert first[0]["metrics"] == second[0]["metrics"]
    assert first[1] == second[1]
    assert first[2].keys() == second[2].keys()
    assert all(torch.equal(first[2][name], second[2][name]) for name in first[2])


# One process


@pytest.fixture(scope="module", params=[1, 2])
def uninterrupted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Outcome]:
    where = context(tmp_path_factory.mktemp("whole"), accumulate=request.param)
    run.execute(CONFIG, where)
    return request.param, outcome(where.folder.path)


@pytest.mark.parametrize("number", signals.SIGNALS)
@pytest.mark.parametrize("step", [0, 2, 10])
def test_a_signal_loses_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: tuple[int, Outcome], step: int, number: int
) -> None:
    accumulate, whole = uninterrupted
    where, seeded, steps = context(tmp_path, accumulate=accumulate), Recorder.on_train_batch_start, []

    def strike(self: Recorder, trainer: Any, module: Any, batch: Any, index: int) -> None:
        seeded(self, trainer, module, batch, index)
        if trainer.global_step == step:
            os.kill(os.getpid(), number)
            steps.append(index)

    with signals.listening(), monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_start", strike)
        with pytest.raises(SystemExit) as stop:
            run.execute(CONFIG, where)
    assert stop.value.code == 99
    state = torch.load(checkpoints.find(where.folder.path), weights_only=True)
    # The step that was under way was finished and counted; none was begun after it.
    assert state["global_step"] == step + 1
    assert len(steps) == accumulate
    assert where.folder.result() is None
    run.execute(CONFIG, where)
    assert_same(whole, outcome(where.folder.path))


def test_a_signal_during_the_set_up_stops_before_the_first_step(tmp_path: Path, monkeypatch: Any) -> None:
    where, make = context(tmp_path), assemble.make_data

    def late(config: RunConfig, context: RunContext) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return make(config, context)

    with signals.listening():
        monkeypatch.setattr(assemble, "make_data", late)
        with pytest.raises(SystemExit):
            run.execute(CONFIG, where)
    assert torch.load(checkpoints.find(where.folder.path), weights_only=True)["global_step"] == 0


def test_the_handlers_of_the_caller_come_back() -> None:
    before = [signal.getsignal(number) for number in signals.SIGNALS]

    def strike() -> None:
        with signals.listening():
            os.kill(os.getpid(), signal.SIGUSR1)
            assert signals.asked()
            raise KeyError

    with pytest.raises(KeyError):
        strike()
    assert not signals.asked()
    assert [signal.getsignal(number) for number in signals.SIGNALS] == before


# What ranks agree on, and what one process pays


class FakeStrategy:
    """Two ranks of which this is one; the other one was asked to stop if `other`."""

    def __init__(self, other: bool = False) -> None:
        self.other, self.collectives = other, 0

    def reduce_boolean_decision(self, decision: bool, all: bool) -> bool:
        self.collectives += 1
        return decision or self.other

    def broadcast(self, value: Any) -> Any:
        return value

    def barrier(self, name: str) -> None:
        self.collectives += 1


class FakeTrainer:
    def __init__(self, ranks: int, strategy: FakeStrategy, accumulate: int = 1) -> None:
        self.world_size, self.strategy, self.accumulate_grad_batches = ranks, strategy, accumulate


def test_a_step_of_one_process_pays_next_to_nothing() -> None:
    strategy = FakeStrategy()
    callback, trainer = Preemption(lambda trainer: None, lambda: None), FakeTrainer(1, strategy)
    start = time.perf_counter()
    for index in range(10000):
        callback.on_train_batch_start(trainer, None, None, index)  # type: ignore[arg-type]
    assert (time.perf_counter() - start) / 10000 < 2e-5
    assert strategy.collectives == 0


def test_ranks_agree_less_often_once_steps_are_seen_to_be_short() -> None:
    strategy = FakeStrategy()
    callback, trainer = Preemption(lambda trainer: None, lambda: None), FakeTrainer(2, strategy)
    for index in range(1012):
        callback.on_train_batch_start(trainer, None, None, index)  # type: ignore[arg-type]
    assert callback.every == MOST_STEPS
    assert strategy.collectives == 12 + 10


def test_a_rank_stops_when_another_was_asked_and_only_between_optimizer_steps() -> None:
    done: list[str] = []
    callback = Preemption(lambda trainer: done.append("saved"), lambda: done.append("closed"))
    trainer = FakeTrainer(2, FakeStrategy(other=True), accumulate=2)
    with signals.listening():
        callback.on_train_batch_start(trainer, None, None, 1)  # type: ignore[arg-type]
        assert done == []
        with pytest.raises(SystemExit):
            callback.on_train_batch_start(trainer, None, None, 2)  # type: ignore[arg-type]
        assert done == ["saved", "closed"]
        os.kill(os.getpid(), signal.SIGTERM)  # further signals find nothing left to do
        assert not signals.asked()


@pytest.mark.parametrize(
    ("variables", "kind", "external"),
    [
        ({}, "LightningEnvironment", False),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}, "LightningEnvironment", False),
        (
            {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"},
            "SLURMEnvironment",
            True,
        ),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "TorchElasticEnvironment", True),
    ],
)
def test_who_started_the_ranks_is_told_not_guessed(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], kind: str, external: bool
) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_", "WORLD_"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = environment()
    assert type(found).__name__ == kind
    assert not getattr(found, "auto_requeue", False)
    assert external_ranks() is external


# The pool of an experiment: real processes, forked from one that has imported everything

Start = Callable[..., Any]


@pytest.fixture(scope="module")
def command() -> Start:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vision_repro.training.run", "torch._dynamo", "timm", "experiments.data_scaling"])

    def start(*tokens: str) -> Any:
        arguments, sys.argv = sys.argv, ["data_scaling", *COMMAND, *tokens]
        process = context.Process(target=runpy.run_module, args=("experiments.data_scaling", None, "__main__"))
        process.start()
        sys.argv = arguments
        return process

    return start


def folders(out: Path) -> list[Path]:
    return sorted((out / "runs").glob("*/"))


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.02)
    return found


def workers(out: Path) -> list[int]:
    """Returns the processes that have the log of a run of `out` open."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/fd/1").startswith(str(out)):
                found.append(int(pid))
        except OSError:
            continue
    return found


def ended(process: Any) -> int:
    process.join(300)
    assert process.exitcode is not None
    return int(process.exitcode)


@pytest.fixture(scope="module")
def whole(command: Start, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Outcome]:
    """The outcome of the command without a signal, for one and for two ranks."""
    found = {}
    for devices in (1, 2):
        out = tmp_path_factory.mktemp(f"whole{devices}")
        assert ended(command(f"--out={out}", f"--devices={devices}")) == 0
        found[devices] = outcome(folders(out)[0])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_an_experiment_that_gets_sigterm_continues_with_the_same_command(
    tmp_path: Path, command: Start, whole: dict[int, Outcome], devices: int
) -> None:
    tokens = (f"--out={tmp_path}", f"--devices={devices}", "--checkpoint_seconds=0")
    process = command(*tokens)
    folder = wait_for(lambda: next((tmp_path / "runs").glob("*/last-*.ckpt"), None)).parent
    asked = time.time()
    process.terminate()
    assert ended(process) == 99
    assert workers(tmp_path) == []
    file = checkpoints.find(folder)
    assert file is not None
    assert file.stat().st_mtime > asked
    assert torch.load(file, weights_only=True)["global_step"] < 240
    assert ended(command(*tokens)) == 0
    assert_same(whole[devices], outcome(file.parent))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_takes_its_run_with_it_and_the_same_command_continues(
    tmp_path: Path, command: Start, whole: dict[int, Outcome], rank: int
) -> None:
    tokens = (f"--out={tmp_path}", "--devices=2", "--checkpoint_seconds=0")
    process = command(*tokens)
    file = wait_for(lambda: next((tmp_path / "runs").glob("*/last-*.ckpt"), None))
    os.kill(sorted(workers(tmp_path))[rank], signal.SIGKILL)
    assert ended(process) == 1
    assert workers(tmp_path) == []
    assert checkpoints.find(file.parent)
    assert ended(command(*tokens)) == 0
    assert_same(whole[2], outcome(file.parent))


def ranks(out: Path) -> list[int]:
    """Returns the processes that torchrun has started for `out`."""
    found = []
    for item in Path("/proc").glob("[0-9]*"):
        try:
            mine = f"--out={out}".encode() in (item / "cmdline").read_bytes().split(b"\0")
            if mine and b"LOCAL_RANK=" in (item / "environ").read_bytes():
                found.append(int(item.name))
        except OSError:
            continue
    return sorted(found)


@pytest.mark.slow
def test_torchrun_restarts_all_ranks_when_one_is_killed(tmp_path: Path, whole: dict[int, Outcome]) -> None:
    words = [*COMMAND, f"--out={tmp_path}", "--devices=2", "--checkpoint_seconds=0"]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            "--max-restarts=2",
            "-m",
            "experiments.data_scaling",
            *words,
        ],
        env=os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    file = wait_for(lambda: next((tmp_path / "runs").glob("*/last-*.ckpt"), None))
    os.kill(ranks(tmp_path)[1], signal.SIGKILL)
    assert process.wait(600) == 0
    assert_same(whole[2], outcome(file.parent))
    assert json.loads((file.parent / "provenance.json").read_text())["resumed"]
