"""What stands in class folders: paths and labels of millions of files, in arrays that workers share."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from vision_repro.config import UserError
from vision_repro.data.subset import order

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_SPLIT_SEED = 0


@dataclass(frozen=True)
class Files:
    """Image files below `root`: relative paths as bytes `[N]` and class numbers int64 `[N]`.

    Arrays, because reading a list of a million strings would copy it into every worker.
    """

    root: Path
    names: npt.NDArray[np.bytes_]
    labels: npt.NDArray[np.int64]

    def path(self, index: int) -> Path:
        """Returns the path of an image."""
        return self.root / os.fsdecode(bytes(self.names[index]))

    def select(self, indices: npt.NDArray[np.int64]) -> Files:
        """Returns the files at `indices`."""
        return Files(self.root, self.names[indices], self.labels[indices])


@dataclass(frozen=True)
class FolderSplits:
    """The files of each split; `checksum` (SHA-256, hex) covers their names and sizes.

    Deviation: not their pixels, unlike data sets in memory; reading all of ImageNet would take longer than most runs.
    """

    class_names: tuple[str, ...]
    train: Files
    val: Files
    test: Files
    checksum: str


def scan(root: Path) -> FolderSplits:
    """Returns the splits of the class folders below `root`.

    Raises:
        UserError: if there are no class folders or images, or a class of the test split is unknown to train.
    """
    digest = hashlib.sha256()
    class_names = _classes(root / "train")
    train = _files(root / "train", class_names, digest)
    held_out = next((root / name for name in ("val", "test") if (root / name).is_dir()), None)
    count = max(len(class_names), round(len(train.labels) / 100))
    parts = 1 if held_out else 2
    if len(train.labels) < parts * count + len(class_names):
        raise UserError(f"{train.root} has only {len(train.labels)} images: too few to hold out {parts} x {count}.")
    dealt = order(torch.from_numpy(train.labels), _SPLIT_SEED).numpy()
    val, rest = np.sort(dealt[:count]), np.sort(dealt[parts * count :])
    test = _files(held_out, class_names, digest) if held_out else train.select(np.sort(dealt[count : 2 * count]))
    return FolderSplits(class_names, train.select(rest), train.select(val), test, digest.hexdigest())


def _classes(folder: Path) -> tuple[str, ...]:
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        raise UserError(f"{folder} has {len(names)} class folders: expected one folder of images for each class.")
    return tuple(names)


def _files(folder: Path, class_names: tuple[str, ...], digest: hashlib._Hash) -> Files:
    unknown = set(_classes(folder)) - set(class_names)
    if unknown:
        raise UserError(f'{folder} has the class "{min(unknown)}", which train has not: expected the same classes.')
    names: list[bytes] = []
    counts: list[int] = []
    for name in class_names:
        found = _images(folder / name) if (folder / name).is_dir() else []
        digest.update(repr((folder.name, name, found)).encode())
        names += [os.fsencode(f"{name}/{file}") for file, _ in found]
        counts.append(len(found))
        if not found and folder.name == "train":
            raise UserError(f"{folder / name} holds no images: expected files ending in {', '.join(SUFFIXES)}.")
    if not names:
        raise UserError(f"{folder} holds no images in its class folders: expected {', '.join(SUFFIXES)} files.")
    return Files(folder, np.array(names, dtype=np.bytes_), np.repeat(np.arange(len(counts), dtype=np.int64), counts))


def _images(folder: Path) -> list[tuple[str, int]]:
    """Returns (name, size in bytes) of the image files of a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(
            (entry.name, entry.stat().st_size)
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".") and entry.is_file()
        )
