"""The first images of a split, the same on every rank.

Legend: N images, S their side [pixels].
"""

from __future__ import annotations

from typing import Any

import torch

from vision_repro.augmentation.batch import Batch
from vision_repro.probes.features import in_order


def first_images(module: Any, split: str, count: int) -> Batch:
    """Returns the first `count` images of a split in its order, or all if it has fewer.

    `split` is "train" (the images that the run trains on, without augmentation), "val" or "test"; images uint8
    `[N, 3, S, S]` and labels int64 `[N]`, on the CPU. Every rank must call it and gets the same.
    """
    loader = {"train": "pool_dataloader", "val": "val_dataloader", "test": "test_dataloader"}[split]
    share = -(-count // module.world)
    parts: list[Batch] = []
    for batch in getattr(module, loader)():
        parts.append(Batch(batch.images.cpu(), batch.labels.cpu()))
        if sum(len(part.labels) for part in parts) >= share:
            break
    whole = (torch.cat([part[index] for part in parts])[:share] for index in range(2))
    images, labels = (in_order(module.world, part)[:count] for part in whole)
    return Batch(images, labels)
