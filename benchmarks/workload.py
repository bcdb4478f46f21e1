"""Random images and the pieces of a run around them. Imports torch: call `quiet_threads` before."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from vision_repro import models
from vision_repro.augmentation.batch import Batch
from vision_repro.config import Launch, RunConfig
from vision_repro.data.config import DataConfig
from vision_repro.data.resident import ResidentData
from vision_repro.files.splits import Split, Splits
from vision_repro.store.runs import RunFolder
from vision_repro.tasks.classifier import Classifier
from vision_repro.training.context import RunContext
from vision_repro.training.recorder import Recorder
from vision_repro.training.tracking import Tracker

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
    return ResidentData(DataConfig.of(config, Launch(), Path()), splits)


def a_place(root: Path, config: RunConfig, precision: str = "fp32") -> RunContext:
    """Returns where a run is carried out: on the CPU, silent, without W&B."""
    return RunContext(
        folder=RunFolder(root, replace(config, precision=precision)),
        launch=Launch(wandb="off"),
        cache=root / "cache",
        settings=("model",),
        accelerator="cpu",
        report=lambda message: None,
    )


def recorder(config: RunConfig, context: RunContext, data: ResidentData) -> Recorder:
    """Returns the callback that `run.execute` hands the Trainer."""
    tracker = Tracker(config, context, enabled=False)
    return Recorder(config, context, tracker, data.expected("val"))


def a_task(model_name: str, size: int, bf16: bool) -> Classifier:
    """Returns the task as a run builds it on a CPU."""
    torch.manual_seed(0)
    model = models.build(model_name, image_size=size, classes=CLASSES)
    models.use_explicit_attention(model, bf16)
    return Classifier(model, lr=1e-3, weight_decay=0.1, steps=10_000)


def train(task: Classifier, optimizer: torch.optim.Optimizer, batch: Batch, bf16: bool, steps: int) -> float:
    """Returns the median time of a training step [s]."""
    times = []
    for index in range(steps):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss: Any = task.training_step(batch, index)
        optimizer.zero_grad()
        loss.backward()
        task.configure_gradient_clipping(optimizer)
        optimizer.step()
        times.append(time.perf_counter() - start)
    return median(times)
