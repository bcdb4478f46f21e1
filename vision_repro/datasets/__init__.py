"""Data sets, one file each: a module here with `NAMES` or `PATTERN` is a data set, with no registry to edit.

A data set file says which names it has (`NAMES`) or which it understands (`PATTERN`, a regular expression) and defines
one of two functions: `load(name, data_root, cache) -> Splits`, images decoded in memory, or
`listing(name, data_root, cache) -> Listing`, encoded images that worker processes decode as they are needed. It may
tell what is known before reading (`SIZES`) and what can be downloaded (`SOURCES`, or `prepare`; see `fetch`).
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from vision_repro import catalogue
from vision_repro.config import UserError, nearest
from vision_repro.files.splits import Sizes, Splits

if TYPE_CHECKING:  # a reader of the cache need not wait for pyarrow
    from vision_repro.files.listing import Listing


def names() -> list[str]:
    """Returns the names of all data sets; some files understand more, see `PATTERN` in each."""
    return sorted(name for module in catalogue.data_sets() for name in getattr(module, "NAMES", ()))


def data_set(name: str) -> ModuleType:
    """Returns the data set file of a name.

    Raises:
        UserError: if there is none.
    """
    for candidate in catalogue.data_sets():
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
