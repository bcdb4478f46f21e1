"""Data sets, one file each: a module here with `NAMES` or `PATTERN` is a data set, with no registry to edit.

A data set file says which names it has (`NAMES`) or which it understands (`PATTERN`, a regular expression) and defines
one of two functions: `load(name, data_root, cache) -> Splits`, images decoded in memory, or
`listing(name, data_root, cache) -> Listing`, encoded images that worker processes decode as they are needed. It may
tell what is known before reading (`SIZES`) and what can be downloaded (`SOURCES`, or `prepare`; see `fetch`).

How it hangs together: `fetch` brings files; `listing` or `load` finds and splits them; `subset` and `stream` say which
images are trained on and in which order; `resident` and `streamed` are the two LightningDataModules; `policy` reads
the words of an augmentation, `crops` cut single images in the workers, `augment` changes whole batches on the device,
`normalisation` maps pixels to inputs. `checks` looks for faults, `sheet` draws what a person should see.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from functools import cache as memoise
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from vision_repro.config import UserError, nearest
from vision_repro.data.splits import Sizes, Splits

if TYPE_CHECKING:  # a reader of Batch or of the cache need not wait for lightning
    from vision_repro.data.listing import Listing
    from vision_repro.data.module import ImageData


@memoise
def _modules() -> tuple[ModuleType, ...]:
    found = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    return tuple(module for module in found if hasattr(module, "load") or hasattr(module, "listing"))


def names() -> list[str]:
    """Returns the names of all data sets; some files understand more, see `PATTERN` in each."""
    return sorted(name for module in _modules() for name in getattr(module, "NAMES", ()))


def data_set(name: str) -> ModuleType:
    """Returns the data set file of a name.

    Raises:
        UserError: if there is none.
    """
    for candidate in _modules():
        pattern = getattr(candidate, "PATTERN", None)
        if name in getattr(candidate, "NAMES", ()) or (pattern and pattern.fullmatch(name)):
            return candidate
    known = ", ".join(names())
    raise UserError(f'--dataset="{name}" is unknown: expected one of {known}.{nearest(name, names())}')


def is_streamed(name: str) -> bool:
    """Returns whether the images of a data set stay encoded, to be decoded by worker processes.

    Raises:
        UserError: for an unknown name.
    """
    return hasattr(data_set(name), "listing")


def check_root(data_root: Path | None) -> None:
    """Raises UserError if the folder that should hold data sets is none."""
    if data_root is not None and not data_root.is_dir():
        raise UserError(f"--data_root={data_root} is no folder: give the folder that holds the data sets.")


def listed(name: str, data_root: Path | None, cache: Path) -> Listing:
    """Returns the encoded images of a data set that is streamed, found in `data_root` or under `cache`.

    Raises:
        UserError: for an unknown name, one that is held in memory, or data that are missing or broken.
    """
    found = data_set(name)
    check_root(data_root)
    if not hasattr(found, "listing"):
        raise UserError(f'--dataset="{name}" is held in memory, not streamed.')
    listing: Listing = found.listing(name, data_root, cache)
    return listing


def load(name: str, data_root: Path | None, cache: Path) -> Splits:
    """Returns a data set decoded in memory, read from `data_root` or downloaded, by way of files under `cache`.

    Raises:
        UserError: for an unknown name, or data that are missing or broken.
    """
    found = data_set(name)
    check_root(data_root)
    if not hasattr(found, "load"):
        raise UserError(f'--dataset="{name}" is streamed from its files, not held in memory.')
    splits: Splits = found.load(name, data_root, cache)
    return splits


def describe(name: str) -> Sizes:
    """Returns what is known of a data set without reading it.

    Raises:
        UserError: for an unknown name.
    """
    sizes: dict[str, Sizes] = getattr(data_set(name), "SIZES", {})
    return sizes.get(name, Sizes())


def check(name: str, *, image_size: int, train_size: int, augmentation: str) -> None:
    """Refuses early what `datamodule` would refuse, as far as it is known without reading the data.

    Images in memory are resized to any `image_size` [pixels], as streamed ones are.

    Raises:
        UserError: for an unknown data set or augmentation, a wrong image size or an impossible training size.
    """
    from vision_repro.data import policy, subset

    sizes = describe(name)
    if policy.parse(augmentation).needs_whole_images and not is_streamed(name):
        raise UserError(
            f'--augmentation="{augmentation}" crops images larger than the model sees, but those of {name} are held in '
            "memory at one size: expected inception or crop-flip."
        )
    if image_size < 1:
        usual = f", such as {sizes.image_size}, the size of its images" if sizes.image_size else ""
        raise UserError(f"--image_size={image_size} does not fit {name}: expected at least 1{usual}.")
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
    views: str = "crop",
    on_bad_image: str = "error",
    decoded_cache: bool = False,
    all_of_train: bool = False,
) -> ImageData:
    """Returns the loaders of a run: on the nested subset of `train_size` images that (labels, `seed`) fix.

    `views` is what is made of a test image (`crops.views`). The last three are for images that are streamed:
    `workers` [processes] that decode them, what to do about one that cannot be read, and whether decoded images are
    kept under `cache`. With `all_of_train` all images of `val` are trained on too; `val` is measured as ever.

    Raises:
        UserError: for settings that the data set cannot serve, or data that are missing or broken.
    """
    import torch

    from vision_repro.data.resident import ResidentData
    from vision_repro.data.streamed import StreamedData
    from vision_repro.data.subset import take

    check(name, image_size=image_size, train_size=train_size, augmentation=augmentation)
    if is_streamed(name):
        listing = listed(name, data_root, cache)
        return StreamedData(
            listing, image_size=image_size, subset=take(torch.from_numpy(listing.train.labels), train_size, seed),
            global_batch=global_batch, steps=steps, seed=seed, augmentation=augmentation, workers=workers,
            eval_batch=eval_batch, views=views, on_bad_image=on_bad_image, decoded_cache=decoded_cache, cache=cache,
            report=partial(print, file=sys.stderr), all_of_train=all_of_train,
        )  # fmt: skip
    splits = load(name, data_root, cache)
    return ResidentData(
        splits, subset=take(splits.train.labels, train_size, seed), global_batch=global_batch, steps=steps, seed=seed,
        eval_batch=eval_batch, augmentation=augmentation, views=views, image_size=image_size, all_of_train=all_of_train,
    )  # fmt: skip
