"""Frozen features of a whole split, from every rank's shard.

Shapes: N images of the split, B of a batch, V views of an image, D features.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning import Trainer
from torch import Tensor

from vision_repro import models


@torch.inference_mode()
def frozen_features(trainer: Trainer, task: Any, loader: Any) -> tuple[Tensor, Tensor]:
    """Returns frozen features `[N, D]` and labels `[N]` of a whole split, in the split's order, on every rank.

    Of images with several views, it is the mean of their features.
    """
    task.eval().to(trainer.strategy.root_device)
    parts: list[tuple[Tensor, Tensor]] = []
    for batch in loader:
        moved = type(batch)(*(part.to(task.device) for part in batch))
        with trainer.precision_plugin.forward_context():
            features = _features(task, moved.images)
        parts.append((features.float().cpu(), moved.labels.cpu()))
    mine = (torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))
    if trainer.world_size == 1:
        return mine
    shards: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(shards, mine)
    count = sum(len(shard[1]) for shard in shards)
    features, labels = torch.empty(count, mine[0].shape[1]), torch.empty(count, dtype=torch.long)
    for rank, (part, part_labels) in enumerate(shards):
        features[rank :: trainer.world_size], labels[rank :: trainer.world_size] = part, part_labels
    return features, labels


def _features(task: Any, images: Tensor) -> Tensor:
    """Returns features `[B, D]` of uint8 images `[B, 3, H, W]` or `[B, V, 3, H, W]`."""
    if images.ndim == 4:
        return models.features(task.model, task.normalise(images))
    found = models.features(task.model, task.normalise(images.flatten(0, 1)))
    return found.view(*images.shape[:2], -1).mean(1)
