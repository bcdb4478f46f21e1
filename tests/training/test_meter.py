"""What a run is measured to take: phases, images, energy and memory, over resumptions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vision_repro.augmentation.batch import Batch
from vision_repro.config import Launch, RunConfig
from vision_repro.store.runs import RunFolder
from vision_repro.tasks.forward_flops import forward_flops
from vision_repro.training import run
from vision_repro.training.context import RunContext
from vision_repro.training.meter import Meter, process_memory
from vision_repro.training.recorder import Recorder

CONFIG = RunConfig(
    model="vit-32x2/4", train_size=40, steps=8, evaluations=4, global_batch=16, lr=1e-3, shots="",
)  # fmt: skip
BATCH = Batch(torch.zeros(5, 3, 8, 8, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64))
TRAINER: Any = SimpleNamespace(world_size=2)


class Clock:
    """A clock that is set by hand [s]."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Joules:
    """A counter that shows what it is told to, and counts its readings."""

    name = "test"
    shown: float | None = 0.0
    read = 0

    def joules(self) -> float | None:
        self.read += 1
        return self.shown


def test_phases_add_up_to_the_time_that_passed() -> None:
    clock = Clock()
    meter = Meter("cpu", clock=clock)
    for hook, seconds in (
        (meter.on_train_start, 3),
        (meter.on_validation_start, 10),
        (meter.on_validation_end, 2),
        (meter.on_train_end, 20),
    ):
        clock.now += seconds
        hook(TRAINER, None)
    clock.now += 5
    found = meter.measured()
    assert (found["setup_seconds"], found["training_seconds"], found["evaluation_seconds"]) == (3, 30, 7)


def test_a_resumed_run_goes_on_counting() -> None:
    clock, first, second = Clock(), Joules(), Joules()
    meter = Meter("cpu", first, clock)
    meter.on_train_start(TRAINER, None)
    meter.on_train_batch_end(TRAINER, None, None, BATCH, 0)
    clock.now, first.shown = clock.now + 4, 100.0
    saved = json.loads(json.dumps(meter.state_dict()))  # plain types, as a checkpoint wants them
    clock.now += 1000  # stopped: what came after the checkpoint is done again
    again = Meter("cpu", second, clock)
    again.load_state_dict(saved)
    again.on_train_start(TRAINER, None)
    again.on_train_batch_end(TRAINER, None, None, BATCH, 1)
    clock.now, second.shown = clock.now + 6, 50.0
    found = again.measured()
    assert (found["training_seconds"], found["images"], found["resumed"]) == (10, 20, 1)
    assert (found["energy_joules"], found["images_per_second"]) == (150.0, 2.0)


@pytest.mark.parametrize("untold", ["first", "second", "both"])
def test_energy_that_a_part_of_the_run_does_not_tell_is_not_known(untold: str) -> None:
    meter = Meter("cpu", None if untold in ("first", "both") else Joules())
    again = Meter("cpu", None if untold in ("second", "both") else Joules())
    again.load_state_dict(meter.state_dict())
    assert again.measured()["energy_joules"] is None


def test_energy_is_read_often_enough_and_not_at_each_step() -> None:
    clock, counter = Clock(), Joules()
    meter = Meter("cpu", counter, clock)
    for _ in range(100):
        clock.now += 1
        meter.on_train_batch_end(TRAINER, None, None, BATCH, 0)
        meter.on_test_batch_end(TRAINER, None)
    assert counter.read == 5


def test_the_memory_of_the_process_is_in_bytes() -> None:
    resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    assert process_memory() == pytest.approx(1024 * int(resident.split()[1]), rel=0.1)


def context(root: Path, config: RunConfig = CONFIG, **launch: Any) -> RunContext:
    return RunContext(
        folder=RunFolder(root, config),
        launch=Launch(wandb="off", **launch),
        cache=root / "cache",
        settings=("model",),
        accelerator="cpu",
        report=lambda message: None,
    )


def cost_of(where: RunContext) -> dict[str, Any]:
    return dict(json.loads((where.folder.path / "cost.json").read_text()))


def test_a_run_records_its_cost_also_when_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = context(tmp_path / "whole"), context(tmp_path / "parts", checkpoint_seconds=0.0)
    result = run.execute(CONFIG, whole)
    seeded = Recorder.on_train_batch_start

    def kill(self: Recorder, trainer: Any, module: Any, batch: Any, index: int) -> None:
        seeded(self, trainer, module, batch, index)
        if trainer.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_start", kill)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run.execute(CONFIG, parts)
    assert not (parts.folder.path / "cost.json").exists()
    assert run.execute(CONFIG, parts) == result

    flops = 3 * forward_flops(CONFIG, 10) * 8 * 16
    assert result["cost"] == {"training_flops": flops}
    first, second = cost_of(whole), cost_of(parts)
    assert (first["resumed"], second["resumed"]) == (0, 1)
    for found in (first, second):
        assert (found["training_flops"], found["images"]) == (flops, 8 * 16)
        assert found["counted_over_measured"] == pytest.approx(1, abs=0.01)
        assert found["training_seconds"] > 0
        assert found["evaluation_seconds"] > 0
        assert found["images_per_second"] == pytest.approx(128 / found["training_seconds"], rel=0.1)
        seconds = sum(found[f"{name}_seconds"] for name in ("setup", "training", "evaluation"))
        assert found["device_hours"] == pytest.approx(seconds / 3600, abs=1e-6)
        assert found["peak_memory_bytes"] > 50e6
        assert found["utilisation"] is None


def test_what_trains_nothing_costs_evaluation_only(tmp_path: Path) -> None:
    config = replace(CONFIG, budget="none", weights="random", shots="1", lr=None)
    where = context(tmp_path, config)
    assert run.execute(config, where)["cost"] == {"training_flops": 0}
    found = cost_of(where)
    assert (found["images"], found["training_seconds"], found["images_per_second"]) == (0, 0.0, None)
    assert found["evaluation_seconds"] > 0


def test_a_diverged_run_costs_the_steps_that_it_made(tmp_path: Path) -> None:
    config = replace(CONFIG, lr=1e30, grad_clip=0.0)
    result = run.execute(config, context(tmp_path, config))
    assert result["status"] == "diverged"
    steps = result["cost"]["training_flops"] / (3 * forward_flops(CONFIG, 10) * 16)
    assert steps in (2, 4, 6)
