"""Decoded images kept on disk: uint8 pixels in shards that all processes map into memory, sharing one copy.

For training sets that do not fit in memory but, decoded, on a disk; pixels are those of the files, to the last bit.
A shard is one file: the pixels `[H, W, 3]` of up to `SHARD` images one after another, then a description in JSON, then
the length of that. It is renamed into place when it is whole, so that an interrupted build goes on where it was.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from torch import Tensor

from vision_repro.config import UserError
from vision_repro.data.batches import Decoding, in_workers
from vision_repro.files.encoded import Encoded
from vision_repro.store.atomic import DiskFullError

SHARD = 1024  # images
_FORMAT = 1  # raise it when decoding changes, so that older shards are left alone
_SAMPLE = 64  # images from which the space is estimated
_GIB = 2**30


class _Shard(NamedTuple):
    """One opened file: its pixels in memory, and of each image height and width [n, 2], start [n] and fault."""

    pixels: npt.NDArray[np.uint8]
    shapes: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    faults: dict[str, str]


@dataclass(frozen=True)
class Decoded:
    """Reads images from the shards in `folder`."""

    folder: Path

    def __call__(self, index: int) -> Tensor:
        """Returns the image at `index` as uint8 `[3, H, W]`.

        Raises:
            UserError: naming the file that was no whole image when the shards were made.
        """
        number, place = divmod(index, SHARD)
        shard = _open(self.folder / _name(number))
        height, width = shard.shapes[place]
        if not height:
            raise UserError(shard.faults[str(place)])
        start = shard.starts[place]
        pixels = shard.pixels[start : start + 3 * height * width].reshape(height, width, 3)
        return torch.from_numpy(pixels).permute(2, 0, 1)


def decoded(
    encoded: Encoded, folder: Path, *, workers: int, report: Callable[[str], None] = lambda message: None
) -> Decoded:
    """Returns the decoded images in `folder`, making the shards that are missing or damaged.

    One process makes them with its `workers`, others that ask at the same time wait for it.

    Raises:
        DiskFullError: if the disk is too small.
        UserError: if the folder cannot be written.
    """
    if _missing(encoded, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            missing = _missing(encoded, folder)
            if missing:
                _make(encoded, folder, missing, workers, report)
                _open.cache_clear()
                if _missing(encoded, folder):
                    raise UserError(f"{folder} could not be read back after it was written: give another --cache.")
    return Decoded(folder)


def place(cache: Path, checksum: str, split: str) -> Path:
    """Returns the folder of the shards of a split, named after the checksum of its listing."""
    return cache / f"decoded{_FORMAT}-{checksum[:16]}" / split


def _name(number: int) -> str:
    return f"{number:06}.shard"


def _missing(encoded: Encoded, folder: Path) -> list[int]:
    """Returns the numbers of the shards that are not there as they should be; the others are opened."""
    missing = []
    for number in range(-(-len(encoded) // SHARD)):
        try:
            count = len(_open(folder / _name(number)).starts)
        except (OSError, ValueError, KeyError):
            count = -1
        if count != min(SHARD, len(encoded) - number * SHARD):
            missing.append(number)
    return missing


@cache
def _open(path: Path) -> _Shard:
    """Opens a shard. Opened before the workers are forked, it is shared by them."""
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        end = file.tell()
        length = int.from_bytes(file.read(8), "little")
        file.seek(max(0, end - length))
        about = json.loads(file.read(min(length, end)))
    shapes = np.array(about["shapes"], dtype=np.int64).reshape(-1, 2)
    sizes = 3 * shapes.prod(axis=1)
    if sizes.sum() + length != end:
        raise ValueError(f"{path} has the wrong length")
    # copy-on-write, because torch wants writable memory: pages stay shared as nobody writes
    pixels = np.memmap(path, dtype=np.uint8, mode="c")
    return _Shard(np.asarray(pixels), shapes, np.cumsum(sizes) - sizes, about["faults"])


def _make(encoded: Encoded, folder: Path, missing: list[int], workers: int, report: Callable[[str], None]) -> None:
    for leftover in folder.glob("*.tmp"):
        leftover.unlink()
    count = len(missing) * SHARD * len(encoded) // max(len(encoded), -(-len(encoded) // SHARD) * SHARD)
    needed, free = _needed(encoded) * count, shutil.disk_usage(folder).free
    if needed > free:
        raise _too_small(folder, f"needs about {needed / _GIB:.3g} GiB and has {free / _GIB:.3g} GiB")
    report(f"Decoding {count:,} images once into {folder} (about {needed / _GIB:.3g} GiB)")
    for problem in in_workers(_Writer(encoded, folder), missing, workers):
        if problem in (errno.ENOSPC, errno.EDQUOT):
            shutil.rmtree(folder, ignore_errors=True)
            raise _too_small(folder, "became full")
        if problem:
            raise UserError(f"{folder} cannot be written ({os.strerror(problem)}): give another --cache.")


def _needed(encoded: Encoded) -> float:
    """Returns about how many bytes a decoded image takes."""
    sizes, read = [], Decoding(encoded)
    for index in np.linspace(0, len(encoded) - 1, min(_SAMPLE, len(encoded))).astype(int).tolist():
        try:
            sizes.append(read(index).numel())
        except UserError:
            continue
    return sum(sizes) / max(1, len(sizes))


def _too_small(folder: Path, what: str) -> DiskFullError:
    return DiskFullError(
        f"The disk of {folder} {what}: free some, name a --cache elsewhere, or leave out --decoded_cache. "
        "Nothing of it is used."
    )


@dataclass(frozen=True)
class _Writer:
    """Decodes and writes one shard; returns 0, or the number of the system's error."""

    encoded: Encoded
    folder: Path

    def __call__(self, number: int) -> int:
        path = self.folder / _name(number)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._write(temporary, range(number * SHARD, min(len(self.encoded), (number + 1) * SHARD)))
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            return error.errno or errno.EIO
        return 0

    def _write(self, path: Path, indices: range) -> None:
        """Writes the shard; an image that cannot be read leaves its fault, to be raised where it is used."""
        shapes: list[tuple[int, int]] = []
        faults: dict[str, str] = {}
        read = Decoding(self.encoded)
        with path.open("wb") as file:
            for place, index in enumerate(indices):
                try:
                    pixels = read(index).permute(1, 2, 0).numpy()
                except UserError as error:
                    faults[str(place)] = str(error)
                    shapes.append((0, 0))
                    continue
                shapes.append(pixels.shape[:2])
                file.write(np.ascontiguousarray(pixels).data)
            about = json.dumps({"shapes": shapes, "faults": faults}).encode()
            file.write(about)
            file.write(len(about).to_bytes(8, "little"))
