"""The Polyak average in a run: against a slow one, through a stop, on two processes, and as what is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lightning import Trainer
from torch import nn

from vision_repro.config import Launch, RunConfig
from vision_repro.store import checkpoints
from vision_repro.store.runs import RunFolder
from vision_repro.training import assemble, run
from vision_repro.training.context import RunContext
from vision_repro.training.polyak import PolyakAverage, averaged
from vision_repro.training.recorder import Recorder

CONFIG = RunConfig(
    model="vit-32x2/4", train_size=40, steps=12, evaluations=4, global_batch=16, lr=3e-2, shots="",
    select="last", augmentation="crop-flip", polyak=0.7,
)  # fmt: skip


ROOT = Path(__file__).parents[2]


class KilledError(BaseException):
    """Stands for a kill between two steps."""


def context(root: Path, config: RunConfig = CONFIG, **launch: Any) -> RunContext:
    return RunContext(
        folder=RunFolder(root, config),
        launch=Launch(wandb="off", **launch),
        cache=root / "cache",
        settings=("model",),
        accelerator="cpu",
        report=lambda message: None,
    )


def kept(where: RunContext) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(where.folder.path / "weights.ckpt", weights_only=True)
    return found


class Notes(PolyakAverage):
    """Writes down the weights at the start and after every optimizer step, and those that validation sees."""

    steps: ClassVar[list[dict[str, np.ndarray]]] = []
    validated: ClassVar[list[dict[str, np.ndarray]]] = []

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        self.steps.append(arrays(pl_module.model))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step == len(self.steps):
            self.steps.append(arrays(pl_module.model))

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        super().on_validation_start(trainer, pl_module)
        self.validated.append(arrays(pl_module.model))


def arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().double().numpy().copy() for name, value in model.state_dict().items()}


def slow(steps: list[dict[str, np.ndarray]], name: str, factor: float) -> np.ndarray:
    """The definition: the sum over steps of (1 - factor) factor^(age) weights, and the rest of the initial ones."""
    last = len(steps) - 1
    total = factor**last * steps[0][name]
    for number in range(1, last + 1):
        total = total + (1 - factor) * factor ** (last - number) * steps[number][name]
    return total


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("select", ["last", "best"])
def test_the_slow_average_is_validated_tested_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int, select: str
) -> None:
    monkeypatch.setattr(assemble, "PolyakAverage", Notes)
    monkeypatch.setattr(Notes, "steps", [])
    monkeypatch.setattr(Notes, "validated", [])
    config = replace(CONFIG, select=select)
    where = context(tmp_path, config, accumulate=accumulate)
    result, weights = run.execute(config, where), kept(where)
    assert len(Notes.steps) == 13
    at = int(result["selected_step"])
    for name, value in weights.items():
        np.testing.assert_allclose(value.numpy(), slow(Notes.steps[: at + 1], name, 0.7), rtol=0, atol=1e-6)
        for number, seen in enumerate(Notes.validated, 1):
            expected = slow(Notes.steps[: 3 * number + 1], name, 0.7)
            np.testing.assert_allclose(seen[name], expected, rtol=0, atol=1e-6)
    assert np.abs(weights["head.weight"].numpy() - Notes.steps[at]["head.weight"]).max() > 1e-3  # not the weights
    given = replace(config, budget="none", weights=str(where.folder.path / "weights.ckpt"), lr=None, polyak=0.0)
    again = run.execute(given, context(tmp_path, given))
    assert again["metrics"]["test_accuracy"] == result["metrics"]["test_accuracy"]


def test_training_itself_never_sees_the_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "PolyakAverage", Notes)
    monkeypatch.setattr(Notes, "steps", [])
    run.execute(CONFIG, context(tmp_path))
    plain = replace(CONFIG, polyak=0.0)
    run.execute(plain, context(tmp_path, plain))
    for name, value in kept(context(tmp_path, plain)).items():
        assert np.array_equal(value.double().numpy(), Notes.steps[-1][name])


@pytest.mark.parametrize("kill_at", [4, 6, 11])
def test_a_killed_run_ends_with_the_same_average_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    whole, parts = context(tmp_path / "whole"), context(tmp_path / "parts", checkpoint_seconds=0.0)
    run.execute(CONFIG, whole)
    seeded = Recorder.on_train_batch_start

    def kill(self: Recorder, trainer: Any, module: Any, batch: Any, index: int) -> None:
        seeded(self, trainer, module, batch, index)
        if trainer.global_step == kill_at:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_start", kill)
        with pytest.raises(KilledError):
            run.execute(CONFIG, parts)
    assert checkpoints.find(parts.folder.path)
    run.execute(CONFIG, parts)
    assert all(torch.equal(value, kept(parts)[name]) for name, value in kept(whole).items())
    curves = [(where.folder.path / "metrics.csv").read_text() for where in (whole, parts)]
    assert curves[0] == curves[1]


def test_running_statistics_are_averaged_and_counts_are_not() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    names = [name for name, value in module.state_dict().items() if value.is_floating_point()]
    assert len(averaged(module)) == len(names) == 6
    assert "1.running_mean" in names
    assert "1.num_batches_tracked" not in names
    averaged(module)[0].zero_()
    assert not module.get_parameter("0.weight").any()  # the tensors themselves, not copies


@pytest.mark.slow
def test_two_processes_have_one_average(tmp_path: Path) -> None:
    """Each tests its share of the images with its own average, so that equal counts say that it is the same."""
    command = [
        sys.executable,
        "-m",
        "experiments.data_scaling",
        "--preset=smoke",
        "--model=vit-32x2/4",
        "--train_size=200",
        "--seeds=1",
        "--steps=20",
        "--evaluations=2",
        "--global_batch=32",
        "--precision=fp32",
        "--lr=0.03",
        "--shots=",
        "--polyak=0.9",
        "--select=last",
        "--devices=2",
        f"--out={tmp_path}",
    ]
    env = {**os.environ, "WANDB_MODE": "disabled", "VISION_REPRO_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True, timeout=400)
    assert done.returncode == 0, done.stderr
    folder = next(tmp_path.glob("runs/*/result.json")).parent
    given = replace(CONFIG, budget="none", weights=str(folder / "weights.ckpt"), lr=None, polyak=0.0)
    again = run.execute(given, context(tmp_path, given))
    tested = json.loads(next((folder / "measurements").glob("accuracy-*.json")).read_text())
    assert tested["metrics"]["test_accuracy"]["value"] == again["metrics"]["test_accuracy"]["value"]
