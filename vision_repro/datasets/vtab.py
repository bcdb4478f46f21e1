"""VTAB-1k: 19 tasks with 1,000 training images each, `vtab:<task>` and `vtab:<task>:1000`.

Protocol (Zhai et al. 2019, "A Large-scale Study of Representation Learning with the Visual Task Adaptation Benchmark"):
choose on 800 training and 200 val images, then train on all 1,000 and look at the whole test split. `vtab:pets` is the
first, `vtab:pets:1000` the second: its val are 200 of its 1,000 training images, so that nothing may be chosen on it.
Deviation: VTAB takes the first 800 and 200 images in the order of tensorflow-datasets, which other software cannot
know; we draw as many at random, once, from our train and val parts of the same official training images.
The tasks on CIFAR-100, Flowers and Pets read those data sets. Every other is read from class folders that a person has
made, `vtab/<task>/{train,test}/<class>/*` below the data root, with the official split of VTAB's code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vision_repro.config import UserError
from vision_repro.datasets import cifar, flowers, pets
from vision_repro.files.encoded import Encoded
from vision_repro.files.in_memory import Pixels
from vision_repro.files.listing import Indices, Listing, scan
from vision_repro.files.places import find
from vision_repro.files.splits import Sizes
from vision_repro.files.stream import permutation

TRAIN, VAL = 800, 200
_PURPOSE = (1_000_003, 2)  # as in `subset`, which has 1: never the draw of a stream or a subset


@dataclass(frozen=True)
class Task:
    """A task: its name in ViT's Table 9, group, data, number of classes and official images a split.

    `train`, `val`, `test` are the counts of VTAB's own split, of which 800 and 200 images are used and all of test.
    """

    title: str
    group: str
    source: str
    classes: int
    train: int
    val: int
    test: int


_N, _S, _T = "natural", "specialized", "structured"

# Counts and classes: google-research/task_adaptation, task_adaptation/data/*_test.py; tasks: scripts/run_all_tasks.sh
TASKS = {
    "caltech101": Task("Caltech101", _N, "Caltech-101, with a class for the background", 102, 2_754, 306, 6_084),
    "cifar100": Task("CIFAR-100", _N, "CIFAR-100", 100, 45_000, 5_000, 10_000),
    "dtd": Task("DTD", _N, "Describable Textures, first fold", 47, 1_880, 1_880, 1_880),
    "flowers": Task("Flowers102", _N, "Oxford Flowers-102", 102, 1_020, 1_020, 6_149),
    "pets": Task("Pets", _N, "Oxford-IIIT Pet", 37, 2_944, 736, 3_669),
    "sun397": Task("Sun397", _N, "SUN397", 397, 76_128, 10_875, 21_750),
    "svhn": Task("SVHN", _N, "Street View House Numbers, cropped", 10, 65_931, 7_326, 26_032),
    "camelyon": Task("Camelyon", _S, "PatchCamelyon", 2, 262_144, 32_768, 32_768),
    "eurosat": Task("EuroSAT", _S, "EuroSAT, RGB", 10, 16_200, 5_400, 5_400),
    "resisc45": Task("Resisc45", _S, "NWPU-RESISC45", 45, 18_900, 6_300, 6_300),
    "retinopathy": Task("Retinopathy", _S, "Diabetic Retinopathy, btgraham-300", 5, 35_126, 10_906, 42_670),
    "clevr-count": Task("Clevr-Count", _T, "CLEVR, number of objects", 8, 63_000, 7_000, 15_000),
    "clevr-dist": Task("Clevr-Dist", _T, "CLEVR, distance of the closest object", 6, 63_000, 7_000, 15_000),
    "dmlab": Task("DMLab", _T, "DMLab frames", 6, 65_550, 22_628, 22_735),
    "dspr-loc": Task("dSpr-Loc", _T, "dSprites, x position in 16 bins", 16, 589_824, 73_728, 73_728),
    "dspr-ori": Task("dSpr-Ori", _T, "dSprites, orientation in 16 bins", 16, 589_824, 73_728, 73_728),
    "kitti-dist": Task("KITTI-Dist", _T, "KITTI, distance of the closest vehicle", 4, 6_347, 423, 711),
    "snorb-azim": Task("sNORB-Azim", _T, "SmallNORB, azimuth", 18, 24_300, 12_150, 12_150),
    "snorb-elev": Task("sNORB-Elev", _T, "SmallNORB, elevation", 9, 24_300, 12_150, 12_150),
}
READERS = {"cifar100": cifar, "flowers": flowers, "pets": pets}
PATTERN = re.compile(rf"vtab:({'|'.join(TASKS)})(:1000)?")
NAMES: tuple[str, ...] = tuple(f"vtab:{task}" for task in READERS)  # the others need folders that somebody makes
SIZES = {
    f"vtab:{key}{final}": Sizes(TRAIN + VAL if final else TRAIN, VAL, task.test, task.classes)
    for key, task in TASKS.items()
    for final in ("", ":1000")
}


def listing(name: str, data_root: Path | None, cache: Path) -> Listing:
    """Returns the splits of a task: 800 training and 200 val images, or all 1,000 and 200 of them, and the whole test.

    Raises:
        UserError: if the data are not there, or are fewer or of other classes than the task's.
    """
    _, key, *all_of_them = name.split(":")
    task, base = TASKS[key], _base(key, data_root, cache)
    if len(base.class_names) != task.classes:
        raise UserError(f"{base.source} has {len(base.class_names)} classes: VTAB's {task.title} has {task.classes}.")
    train, val = (_draw(part, size, name, base.source) for part, size in ((base.train, TRAIN), (base.val, VAL)))
    if all_of_them:
        train = Both(train, val, np.arange(TRAIN + VAL, dtype=np.int64))
    return Listing(base.class_names, train, val, base.test, base.checksum, base.source)


def _draw(part: Encoded, size: int, name: str, source: str) -> Encoded:
    if len(part) < size:
        raise UserError(f"{name} needs {size} images of a part of {source} that has only {len(part)}.")
    return part.select(np.sort(permutation(len(part), 0, *_PURPOSE)[:size]))


def _base(key: str, data_root: Path | None, cache: Path) -> Listing:
    """Returns the data set of a task, with its own train, val and test."""
    if key == "cifar100":
        splits = cifar.load(key, data_root, cache)
        train, val, test = (Pixels(f"{key} {half}", getattr(splits, half)) for half in ("train", "val", "test"))
        return Listing(splits.class_names, train, val, test, splits.checksum, key)
    if key in READERS:
        return READERS[key].listing(key, data_root, cache)  # type: ignore[no-any-return]
    task = TASKS[key]
    advice = f": class folders of {task.source}, with VTAB's split ({task.test:,} test images)"
    return scan(find(f"vtab:{key}", (f"vtab/{key}",), "train", data_root, cache, advice), fraction=0.2)


def prepare(name: str, data_root: Path | None, cache: Path, say: Callable[[str], None]) -> None:
    """Fetches the data set of a task, if it is one that can be fetched.

    Raises:
        UserError: if it cannot.
    """
    from vision_repro.datasets import fetch

    key = name.split(":")[1]
    if key in READERS:
        fetch.fetch(key, data_root, cache, say)
    else:
        _base(key, data_root, cache)


@dataclass(frozen=True)
class Both:
    """The images `indices` int64 `[N]` of two parts, counted through; an `Encoded`."""

    first: Encoded
    second: Encoded
    indices: Indices

    @property
    def labels(self) -> Indices:
        """The class numbers int64 `[N]`."""
        labels: Indices = np.concatenate([self.first.labels, self.second.labels])[self.indices]
        return labels

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> bytes:
        """Returns the content of an image file. Raises OSError if it cannot be read."""
        part, place = self._place(index)
        return part.read(place)

    def source(self, index: int) -> str:
        """Returns what errors call an image."""
        part, place = self._place(index)
        return part.source(place)

    def select(self, indices: Indices) -> Both:
        """Returns the images at `indices`."""
        return Both(self.first, self.second, self.indices[indices])

    def _place(self, index: int) -> tuple[Encoded, int]:
        place, cut = int(self.indices[index]), len(self.first)
        return (self.first, place) if place < cut else (self.second, place - cut)
