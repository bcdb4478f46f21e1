"""Data sets decoded once into .npy files that every process maps into memory, sharing one copy."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from vision_repro.files.splits import Arrays, Split, Splits, checksum

_FORMAT = b"1"  # raise it when decoding or splitting changes, so that older caches are left alone


@dataclass(frozen=True)
class Decoded:
    """Freshly decoded arrays of train, val and test, and the names of the classes."""

    arrays: Arrays
    class_names: tuple[str, ...]


def digest(paths: Iterable[Path], version: str = "") -> str:
    """Returns the SHA-256 (hex) of the contents of the files and the version of what provides or reads them."""
    sha = hashlib.sha256(_FORMAT + version.encode())
    for path in paths:
        with path.open("rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
    return sha.hexdigest()


def cached(cache: Path, name: str, key: str, decode: Callable[[], Decoded]) -> Splits:
    """Returns the data set under `cache`, decoding it first where it is missing or damaged.

    One process decodes, others that ask at the same time wait for it; a reader never sees half a cache.
    """
    folder = cache / f"{name}-{key[:12]}"
    splits = _open(folder, name)
    if splits is None:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(str(folder) + ".lock"):
            splits = _open(folder, name)
            if splits is None:
                _write(folder, decode())
                splits = _open(folder, name)
    if splits is None:
        raise OSError(f"{folder} could not be read back after it was written.")
    return splits


def _write(folder: Path, decoded: Decoded) -> None:
    """Writes files beside `folder`, then swaps them in. The caller holds the lock, so the temporary name is ours."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for split, (images, labels) in decoded.arrays.items():
        np.save(temporary / f"{split}_images.npy", images)
        np.save(temporary / f"{split}_labels.npy", labels)
    about = {"class_names": decoded.class_names, "checksum": checksum(decoded.arrays)}
    (temporary / "about.json").write_text(json.dumps(about))
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _open(folder: Path, name: str) -> Splits | None:
    """Returns the mapped data set, or None if a file is missing, truncated or at odds with another."""
    try:
        about = json.loads((folder / "about.json").read_text())
        train, val, test = (_open_split(folder, split) for split in ("train", "val", "test"))
        names = tuple(about["class_names"])
        return Splits(name, len(names), names, train.images.shape[-1], train, val, test, about["checksum"])
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def _open_split(folder: Path, split: str) -> Split:
    # copy-on-write, because torch wants writable memory: pages stay shared as nobody writes
    images, labels = (np.load(folder / f"{split}_{part}.npy", mmap_mode="c") for part in ("images", "labels"))
    if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != images.shape[:1]:
        raise ValueError(f"{folder} holds arrays that do not belong together")
    return Split(torch.from_numpy(images), torch.from_numpy(labels))
