"""Data sets, one file each: a module here with `NAMES` and `load` is a data set, with no registry to edit.

A data set file defines `NAMES`, `load(name, data_root, cache) -> Splits`, optionally `SIZES` (what is known before
reading) and, where images do not fit in memory, its own `datamodule`.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache as memoise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from vision_repro.config import UserError, nearest
from vision_repro.data.splits import Sizes, Splits

if TYPE_CHECKING:  # a reader of Batch or of the cache need not wait for lightning
    from vision_repro.data.module import ImageData


@memoise
def _modules() -> dict[str, ModuleType]:
    found: dict[str, ModuleType] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        found.update(dict.fromkeys(getattr(module, "NAMES", ()), module))
    return dict(sorted(found.items()))


def names() -> list[str]:
    """Returns the names of all data sets."""
    return list(_modules())


def _module(name: str) -> ModuleType:
    if name not in _modules():
        known = ", ".join(names())
        raise UserError(f'--dataset="{name}" is unknown: expected one of {known}.{nearest(name, names())}')
    return _modules()[name]


def load(name: str, data_root: Path | None, cache: Path) -> Splits:
    """Returns a data set decoded in memory, read from `data_root` or downloaded, by way of files under `cache`.

    Raises:
        UserError: for an unknown name, or data that are missing or broken.
    """
    module = _module(name)
    if data_root is not None and not data_root.is_dir():
        raise UserError(f"--data_root={data_root} is no folder: give the folder that holds the data sets.")
    splits: Splits = module.load(name, data_root, cache)
    return splits


def describe(name: str) -> Sizes:
    """Returns what is known of a data set without reading it.

    Raises:
        UserError: for an unknown name.
    """
    sizes: dict[str, Sizes] = getattr(_module(name), "SIZES", {})
    return sizes.get(name, Sizes())


def check(name: str, *, image_size: int, train_size: int, augmentation: str) -> None:
    """Refuses early what `datamodule` would refuse, as far as it is known without reading the data.

    Raises:
        UserError: for an unknown data set or augmentation, a wrong image size or an impossible training size.
    """
    from vision_repro.data import augment, subset

    sizes = describe(name)
    if augmentation not in augment.POLICIES:
        raise augment.unknown(augmentation)
    if sizes.image_size not in (None, image_size) or image_size < 1:
        raise UserError(f"--image_size={image_size} does not fit {name}: expected {sizes.image_size or 'at least 1'}.")
    subset.check_size(train_size, sizes.train, sizes.classes)


def datamodule(
    name: str,
    *,
    image_size: int,
    train_size: int,
    seed: int,
    global_batch: int,
    steps: int,
    augmentation: str,
    data_root: Path | None,
    cache: Path,
    eval_batch: int = 500,
    workers: int = 2,
) -> ImageData:
    """Returns the loaders of a run: on the nested subset of `train_size` images that (labels, `seed`) fix.

    `workers` [processes] decode images of class folders; data sets in memory need none.

    Raises:
        UserError: for settings that the data set cannot serve, or data that are missing or broken.
    """
    check(name, image_size=image_size, train_size=train_size, augmentation=augmentation)
    build = getattr(_module(name), "datamodule", None) or _resident
    data: ImageData = build(
        name,
        image_size=image_size,
        train_size=train_size,
        seed=seed,
        global_batch=global_batch,
        steps=steps,
        augmentation=augmentation,
        data_root=data_root,
        cache=cache,
        eval_batch=eval_batch,
        workers=workers,
    )
    return data


def _resident(
    name: str,
    *,
    image_size: int,
    train_size: int,
    seed: int,
    global_batch: int,
    steps: int,
    augmentation: str,
    data_root: Path | None,
    cache: Path,
    eval_batch: int,
    workers: int,
) -> ImageData:
    from vision_repro.data.resident import ResidentData
    from vision_repro.data.subset import take

    splits = load(name, data_root, cache)
    if image_size != splits.image_size:
        raise UserError(f"--image_size={image_size} does not fit {name}: its images have {splits.image_size} pixels.")
    return ResidentData(
        splits,
        subset=take(splits.train.labels, train_size, seed),
        global_batch=global_batch,
        steps=steps,
        seed=seed,
        eval_batch=eval_batch,
        augmentation=augmentation,
    )
