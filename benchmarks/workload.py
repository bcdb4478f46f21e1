"""Random images and the pieces of a run around them. Imports torch: call `quiet_threads` before."""

from __future__ import annotations

from pathlib import Path

import torch

from vision_repro import run
from vision_repro.config import RunConfig
from vision_repro.data.resident import ResidentData
from vision_repro.data.splits import Split, Splits
from vision_repro.launch import Launch
from vision_repro.launch.tracking import Tracker
from vision_repro.results import RunFolder

CLASSES = 10


def random_split(count: int, size: int) -> Split:
    """Returns random images uint8 `[count, 3, size, size]` and labels."""
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    return Split(images, torch.randint(0, CLASSES, (count,)))


def random_data(config: RunConfig) -> ResidentData:
    """Returns the loaders of a run over random images of the config's size and number."""
    train, val = random_split(config.train_size, config.image_size), random_split(16, config.image_size)
    names = tuple(str(number) for number in range(CLASSES))
    splits = Splits("random", CLASSES, names, config.image_size, train, val, val, checksum="")
    return ResidentData(
        splits, subset=None, global_batch=config.global_batch, steps=config.total_steps, seed=config.seed,
        augmentation=config.augmentation,
    )  # fmt: skip


def a_place(root: Path, config: RunConfig, precision: str) -> run.Place:
    """Returns where a run is carried out: on the CPU, silent, without W&B."""
    return run.Place(
        folder=RunFolder(root, config), launch=Launch(wandb="off"), cache=root / "cache", settings=("model",),
        precision=precision, why_precision="benchmark", accelerator="cpu", report=lambda message: None,
    )  # fmt: skip


def recorder(config: RunConfig, place: run.Place, data: ResidentData) -> run.Recorder:
    """Returns the callback that `run.execute` hands the Trainer."""
    tracker = Tracker(config, place.folder.id, place.folder.path, place.settings, enabled=False)
    return run.Recorder(config, place, tracker, data.expected("val"))
