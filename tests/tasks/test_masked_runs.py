"""Whole runs on masked patches of the real digits: the same on two processes as on one, and after being stopped."""

from __future__ import annotations

import csv
import math
import multiprocessing
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vision_repro.config import OBJECTIVES, Launch, RunConfig, UserError
from vision_repro.store import checkpoints
from vision_repro.store.runs import RunFolder
from vision_repro.training import run
from vision_repro.training.context import RunContext
from vision_repro.training.recorder import Recorder

# workers are forked, whatever threads other tests left behind
pytestmark = [pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")]
CONFIG = RunConfig(
    model="vit-32x2/2", train_size=40, steps=12, evaluations=4, global_batch=16, lr=3e-3, shots="",
    select="last", objective="mean-colour",
)  # fmt: skip
MAE = replace(CONFIG, objective="mae", corrupted=0.75, model="vit-32x2/2-gap-drop0.1", augmentation="crop-flip")


class KilledError(BaseException):
    """Stands for a kill between two steps."""


def place(root: Path, config: RunConfig, **launch: Any) -> RunContext:
    return RunContext(
        folder=RunFolder(root, config),
        launch=Launch(wandb="off", **launch),
        cache=root / "cache",
        settings=("model",),
        accelerator="cpu",
        report=lambda message: None,
    )


def curve(where: RunContext) -> list[dict[str, float]]:
    lines = (where.folder.path / "metrics.csv").read_text().splitlines()
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)]


def weights(where: RunContext) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(where.folder.path / "weights.ckpt", weights_only=True)
    return found


@pytest.mark.parametrize("config", [CONFIG, MAE], ids=["masked-patch", "mae"])
def test_a_killed_run_ends_bitwise_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: RunConfig
) -> None:
    config = replace(config, augmentation="crop-flip")
    whole, parts = place(tmp_path / "whole", config), place(tmp_path / "parts", config, checkpoint_seconds=0.0)
    run.execute(config, whole)
    seeded = Recorder.on_train_batch_start

    def kill(self: Recorder, trainer: Any, module: Any, batch: Any, index: int) -> None:
        seeded(self, trainer, module, batch, index)
        if trainer.global_step == 7:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_start", kill)
        with pytest.raises(KilledError):
            run.execute(config, parts)
    assert checkpoints.find(parts.folder.path)
    run.execute(config, parts)
    for name in ("metrics.csv", "result.json"):
        assert (whole.folder.path / name).read_text() == (parts.folder.path / name).read_text()
    mine, other = weights(whole), weights(parts)
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def rank_of_two(rank: int, port: int, config: RunConfig, root: Path) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
    }
    run.execute(config, place(root, config, devices=2))


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["mean-colour", "mae"])
def test_two_processes_train_and_measure_what_one_does(tmp_path: Path, objective: str) -> None:
    """Masks belong to images, not to processes: all that differs is the order of sums."""
    config = replace(CONFIG, objective=objective, global_batch=18)
    alone, together = place(tmp_path / "one", config), place(tmp_path / "two", config)
    run.execute(config, alone)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=rank_of_two, args=(rank, port, config, tmp_path / "two")) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]
    one, two = curve(alone), curve(together)
    assert [row.keys() for row in one] == [row.keys() for row in two]
    assert all(first == pytest.approx(second, rel=1e-4) for first, second in zip(one, two, strict=True))
    mine, other = weights(alone), weights(together)
    for name in mine:
        if name.endswith("qkv.bias"):  # a bias of the keys changes no softmax: its gradient is rounding, scaled by Adam
            mine[name][32:64] = other[name][32:64] = 0
        assert torch.allclose(mine[name], other[name], atol=1e-4), name


def test_the_loss_on_val_is_comparable_over_time(tmp_path: Path) -> None:
    """Nothing is learned, so it stays the same to the last bit: the masks of `val` are always the same."""
    for objective, steady in (("mae", "val_loss"), ("mean-colour", "val_entropy")):
        config = replace(CONFIG, objective=objective, lr=1e-30, weight_decay=0.0)
        where = place(tmp_path, config)
        run.execute(config, where)
        found = curve(where)
        assert len(found) == 4
        assert len({row[steady] for row in found}) == 1
        assert len({row["train_loss"] for row in found}) == (4 if objective == "mae" else 1)
    assert [row["val_loss"] for row in found] == pytest.approx([math.log(512)] * 4)  # the prediction starts uniform


@pytest.mark.parametrize("objective", OBJECTIVES[1:])
def test_every_objective_leaves_an_encoder_to_start_from(tmp_path: Path, objective: str) -> None:
    config = replace(CONFIG, objective=objective, steps=2, evaluations=1)
    where = place(tmp_path, config)
    assert run.execute(config, where)["status"] == "ok"
    names = set(weights(where))
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight"} <= names
    assert not [name for name in names if name.startswith(("mask", "decoder", "predictor"))]
    later = replace(
        CONFIG, objective="supervised", weights=str(where.folder.path / "weights.ckpt"), steps=2, evaluations=1
    )
    result = run.execute(later, place(tmp_path, later))
    assert result["metrics"]["test_accuracy"]["value"] is not None


def test_a_model_without_patches_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    config = replace(CONFIG, model="resnet8")
    with pytest.raises(UserError, match="masking patches needs a ViT"):
        run.execute(config, place(tmp_path, config))
