"""Frozen features of whole splits, gathered from the shards of all ranks.

Shapes: N images of the split, B of a batch, V views of an image, D features.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from lightning import Trainer
from torch import Tensor

from vision_repro import models


class Features(NamedTuple):
    """The input of a feature probe: features float32 `[N, D]` and labels int64 `[N]` of each split, on the CPU.

    `train` holds the labelled images that the run trains on, each once and without augmentation.
    """

    train: Tensor
    train_labels: Tensor
    val: Tensor
    val_labels: Tensor
    test: Tensor
    test_labels: Tensor


class Frozen:
    """The frozen features of a run's splits: extracted once, when first used; the same on all ranks."""

    def __init__(self, trainer: Trainer, task: Any, module: Any) -> None:
        """Takes the data module of the run, and the task whose model has the weights to measure."""
        self.trainer, self.task, self.module = trainer, task, module
        self._found: dict[str, tuple[Tensor, Tensor]] = {}

    def of(self, split: str) -> tuple[Tensor, Tensor]:
        """Returns features `[N, D]` and labels `[N]` of "train", "val" or "test". Every rank must call it."""
        if split not in self._found:
            module = self.module
            loaders = {"train": module.pool_dataloader, "val": module.val_dataloader, "test": module.test_dataloader}
            self._found[split] = frozen_features(self.trainer, self.task, loaders[split]())
        return self._found[split]

    def all(self) -> Features:
        """Returns the features of all splits."""
        return Features(*self.of("train"), *self.of("val"), *self.of("test"))


@torch.inference_mode()
def frozen_features(trainer: Trainer, task: Any, loader: Any) -> tuple[Tensor, Tensor]:
    """Returns frozen features `[N, D]` and labels `[N]` of a whole split, in the split's order, on every rank.

    The features of an image with several views are the mean over its views.
    """
    task.eval().to(trainer.strategy.root_device)
    parts: list[tuple[Tensor, Tensor]] = []
    for batch in loader:
        moved = type(batch)(*(part.to(task.device) for part in batch))
        with trainer.precision_plugin.forward_context():
            features = _features(task, moved.images)
        parts.append((features.float().cpu(), moved.labels.cpu()))
    mine = (torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))
    return in_order(trainer.world_size, mine[0]), in_order(trainer.world_size, mine[1])


def in_order(world: int, mine: Tensor) -> Tensor:
    """Returns all rows of a split on every rank, given this rank's, every `world`-th row. Every rank must call it."""
    if world == 1:
        return mine
    shards: list[Any] = [None] * world
    torch.distributed.all_gather_object(shards, mine)
    rows = mine.new_empty(sum(map(len, shards)), *mine.shape[1:])
    for rank, part in enumerate(shards):
        rows[rank::world] = part
    return rows


def _features(task: Any, images: Tensor) -> Tensor:
    """Returns features `[B, D]` of uint8 images `[B, 3, H, W]` or `[B, V, 3, H, W]`."""
    if images.ndim == 4:
        return models.features(task.model, task.normalise(images))
    found = models.features(task.model, task.normalise(images.flatten(0, 1)))
    return found.view(*images.shape[:2], -1).mean(1)
