"""Training crops of JPEG files: the suite's streaming against ImageFolder, Pillow and transforms v1, and against v2.

All give float batches `[B, 3, S, S]`, normalised: a random box of 5 % to 100 % of the area, resized, flipped. "One
core" is this process without workers; the limit is decoding alone, for batches that are left as uint8, as a GPU takes
them. `--data` names the folder that holds Imagenette.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.timing import Row, in_turns, ratios, show, value
from vision_repro.training.device import quiet_threads

quiet_threads()

import torch  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchvision import transforms as v1  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402
from torchvision.io import decode_image  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

from vision_repro.augmentation.augment import AREA, normalise  # noqa: E402
from vision_repro.data.batches import Decoding  # noqa: E402
from vision_repro.data.config import DataConfig  # noqa: E402
from vision_repro.data.streamed import StreamedData  # noqa: E402
from vision_repro.datasets.imagenette import listing as find  # noqa: E402
from vision_repro.files.decode import decoder  # noqa: E402
from vision_repro.files.listing import Listing  # noqa: E402

BATCH = 64
WARM_UP = 4  # batches left out while workers start
HALF = ([0.5] * 3, [0.5] * 3)


def rate(batches: Iterable[Any], count: int) -> float:
    """Returns the images/s of `count` batches after the warm-up."""
    start = 0.0
    for number, _ in enumerate(islice(batches, WARM_UP + count)):
        if number == WARM_UP - 1:
            start = time.perf_counter()
    return BATCH * count / (time.perf_counter() - start)


def ours(
    listing: Listing, size: int, count: int, *, workers: int = 0, cache: Path | None = None, floats: bool = True
) -> float:
    """Returns the images/s of the suite's loader, with or without a cache of decoded images, and normalising."""
    config = DataConfig(
        "listed",
        image_size=size,
        train_size=len(listing.train),
        global_batch=BATCH,
        steps=WARM_UP + count,
        augmentation="inception",
        workers=workers,
        decoded_cache=cache is not None,
        cache=cache,
    )
    data = StreamedData(config, listing)
    batches = data.train_dataloader()
    return rate((normalise(batch.images) for batch in batches) if floats else batches, count)


def theirs(root: Path, size: int, workers: int, count: int, modern: bool) -> float:
    """Returns the images/s of ImageFolder in a DataLoader: Pillow and v1, or decode_image and v2 on uint8."""
    if modern:
        steps = [
            v2.RandomResizedCrop(size, scale=AREA, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(*HALF),
        ]
        images = ImageFolder(str(root), v2.Compose(steps), loader=partial(decode_image, mode="RGB"))
    else:
        old = [v1.RandomResizedCrop(size, scale=AREA), v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize(*HALF)]
        images = ImageFolder(str(root), v1.Compose(old))
    return rate(DataLoader(images, BATCH, shuffle=True, num_workers=workers, drop_last=True), count)


def limit(listing: Listing, count: int) -> float:
    """Returns the images/s of reading and decoding alone, on one core."""
    read, start = Decoding(listing.train), time.perf_counter()
    for index in range(BATCH * count):
        read(index % len(listing.train))
    return BATCH * count / (time.perf_counter() - start)


def table(listing: Listing, root: Path, size: int, count: int, rounds: int, cache: Path) -> list[Row]:
    """Returns the rows of one image size [pixels]."""
    ways: list[Callable[[], float]] = [partial(limit, listing, count)]
    ways += [partial(ours, listing, size, count, floats=False, cache=kept) for kept in (None, cache)]
    for workers in (0, 2):
        ways += [partial(ours, listing, size, count, workers=workers, cache=kept) for kept in (None, cache)]
        ways += [partial(theirs, root, size, workers, count, modern) for modern in (False, True)]
    alone, bytes1, kept_bytes1, plain1, kept1, old1, new1, plain2, kept2, old2, new2 = in_turns(ways, rounds)

    def row(what: str, fast: Sequence[float], slow: Sequence[float], goal: str = "") -> Row:
        rates = f"{median(fast):,.0f} and {median(slow):,.0f} images/s"
        return Row(f"{size} px, {what} ({rates})", ratios(fast, slow), "x", goal)

    return [
        row("one core, against v1", plain1, old1, ">= 1.7"),
        row("one core, against v2", plain1, new1),
        row("one core, decoded cache against v1", kept1, old1, ">= 2.2"),
        row("two workers, against v1", plain2, old2, ">= 1.3"),
        row("two workers, against v2", plain2, new2),
        row("two workers, decoded cache against v1", kept2, old2),
        row("one core, uint8 against decoding alone", bytes1, alone),
        row("one core, uint8 from the decoded cache against decoding alone", kept_bytes1, alone),
    ]


def main(options: Sequence[str]) -> int:
    """Measures and prints; `--quick` shows only that it works."""
    quick = "--quick" in options
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    given = value(options, "data") or os.environ.get("VISION_REPRO_DATA", "")
    if not given:
        print("jpeg: needs --data=PATH or VISION_REPRO_DATA, the folder that holds imagenette-224 or imagenette2.")
        return 0
    with tempfile.TemporaryDirectory() as cache:
        listing = find("imagenette", Path(given), Path(cache))
        root, rows = Path(listing.source) / "train", []
        for size in (128, 224):
            rows += table(listing, root, size, 3 if quick else 16, 1 if quick else 3, Path(cache))
    show(f"JPEG files, random crops, decoded by {decoder()}", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
