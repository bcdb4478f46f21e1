"""The first images of a split: in its order, of any split, on any number of ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vision_repro import data
from vision_repro.augmentation.batch import Batch
from vision_repro.data.config import DataConfig
from vision_repro.probes.images import first_images


class Shard:
    """A data module of one of several ranks: every `world`-th image and label, in batches of 3."""

    def __init__(self, images: torch.Tensor, rank: int, world: int) -> None:
        self.images, self.rank, self.world = images, rank, world

    def test_dataloader(self) -> Any:
        mine = self.images[self.rank :: self.world]
        return (Batch(part, part[:, 0, 0, 0].long()) for part in mine.split(3))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("count", [7, 10, 128])
def test_every_rank_sees_the_first_images_in_order(monkeypatch: pytest.MonkeyPatch, world: int, count: int) -> None:
    images = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).expand(20, 3, 2, 2)
    shares: dict[int, list[torch.Tensor]] = {1: [], 4: []}  # by dimensions: of labels, of images

    def note(found: list[Any], mine: torch.Tensor) -> None:
        shares[mine.ndim].append(mine)
        found[:] = shares[mine.ndim][:world] if len(shares[mine.ndim]) > world else [mine] * world

    monkeypatch.setattr(torch.distributed, "all_gather_object", note)
    for rank in range(world):
        first_images(Shard(images, rank, world), "test", count)
    for rank in range(world):
        found = first_images(Shard(images, rank, world), "test", count)
        assert torch.equal(found.images, images[:count])
        assert torch.equal(found.labels, torch.arange(20)[:count])


@pytest.mark.parametrize(("split", "count"), [("train", 7), ("val", 3), ("test", 10_000)])
def test_the_first_images_are_those_of_the_split_in_its_order(split: str, count: int, tmp_path: Path) -> None:
    module = data.datamodule(DataConfig("digits", 8, train_size=40, global_batch=8, steps=1, seed=1, cache=tmp_path))
    loader = {"train": module.pool_dataloader, "val": module.val_dataloader, "test": module.test_dataloader}[split]
    whole = [torch.cat(parts) for parts in zip(*((batch.images, batch.labels) for batch in loader()), strict=True)]
    found = first_images(module, split, count)
    assert torch.equal(found.images, whole[0][:count])
    assert torch.equal(found.labels, whole[1][:count])
    assert len(found.labels) == min(count, len(whole[1]))
