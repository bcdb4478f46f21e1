"""Feeding small images: batched augmentation of images in memory against torchvision's transforms in a DataLoader.

Both give float batches `[B, 3, 32, 32]`: crop with padding 4, flip, normalised. All ways may use all cores.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from statistics import median
from typing import Any

from benchmarks.timing import Row, best, in_turns, ratios, show
from vision_repro.training.device import cores, quiet_threads

quiet_threads()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

from benchmarks.workload import random_data  # noqa: E402
from vision_repro.augmentation.augment import augment, normalise  # noqa: E402
from vision_repro.config import RunConfig  # noqa: E402

BATCH = 64
WARM_UP = 10  # batches left out while workers start and fill their queue


class Arrays(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's CIFAR10 holds them, `[N, 32, 32, 3]`, given to `transform` one by one."""

    def __init__(self, images: Any, labels: Any, as_pil: bool) -> None:
        self.images, self.labels, self.as_pil = images, labels, as_pil
        self.transform = v2.Compose(
            [
                *([] if as_pil else [v2.ToImage()]),
                v2.RandomCrop(32, padding=4),
                v2.RandomHorizontalFlip(),
                *([v2.ToImage()] if as_pil else []),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index]) if self.as_pil else self.images[index]
        return self.transform(image), int(self.labels[index])


def rate(batches: Iterable[Any]) -> float:
    """Returns images/s over all batches after the warm-up."""
    count, start = 0, 0.0
    for number, _ in enumerate(batches):
        if number == WARM_UP - 1:
            start = time.perf_counter()
        elif number >= WARM_UP:
            count += BATCH
    return count / (time.perf_counter() - start)


def ours(data: Any) -> float:
    """Returns the images/s of the suite's loader and augmentation."""
    return rate(
        (normalise(augment(batch.images, data.device_augmentation)), batch.labels) for batch in data.train_dataloader()
    )


def theirs(data: Any, as_pil: bool, workers: int, batches: int) -> float:
    """Returns the images/s of a DataLoader over the same pixels."""
    split = data.splits.train
    images = np.ascontiguousarray(split.images[: BATCH * batches].permute(0, 2, 3, 1).numpy())
    dataset = Arrays(images, split.labels.numpy()[: len(images)], as_pil)
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, drop_last=True)
    return rate(loader)


def main(options: Sequence[str]) -> int:
    """Measures and prints; `--quick` shows only that it works."""
    quick = "--quick" in options
    warnings.simplefilter("ignore")
    torch.set_num_threads(cores())
    batches, rounds = (20, 1) if quick else (250, 3)
    config = RunConfig(
        image_size=32,
        train_size=50_000,
        steps=batches * (1 if quick else 8),
        global_batch=BATCH,
        augmentation="crop-flip",
    )
    data = random_data(config)
    kinds = [(as_pil, workers) for as_pil in (False, True) for workers in (0, 2)]
    found = in_turns([partial(ours, data), *(partial(theirs, data, *kind, batches) for kind in kinds)], rounds)
    fast = found[0]
    rows = [
        Row(f"{median(fast):,.0f} images/s, against the best DataLoader", ratios(fast, best(found[1:])), "x", ">= 4")
    ]
    for (as_pil, workers), rates in zip(kinds, found[1:], strict=True):
        what = (
            f"against v2 on {'PIL images' if as_pil else 'tensors'}, {workers} workers ({median(rates):,.0f} images/s)"
        )
        rows.append(Row(what, ratios(fast, rates)))
    show("Images in memory, crop and flip, 32x32", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
