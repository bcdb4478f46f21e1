"""What a data set of encoded images holds: splits of files or table rows, in arrays that workers share.

N: images of a split.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from vision_repro.config import UserError
from vision_repro.files.subset import order

if TYPE_CHECKING:
    from vision_repro.files.encoded import Encoded

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VAL_FOLDERS = ("val", "validation", "valid")
_SPLIT_SEED = 0

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Files:
    """Image files below `root`: relative paths as bytes `[N]` and class numbers int64 `[N]`; an `Encoded`.

    Arrays, because reading a list of a million strings would copy it into every worker.
    """

    root: Path
    names: npt.NDArray[np.bytes_]
    labels: Indices

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """Returns the path of an image."""
        return Path(self.source(index))

    def read(self, index: int) -> bytes:
        """Returns the content of an image file.

        Raises:
            OSError: if it cannot be read.
        """
        with open(self.source(index), "rb") as file:
            return file.read()

    def source(self, index: int) -> str:
        """Returns the path of an image as text, because a `Path` keeps the words of its name in memory."""
        return os.path.join(self.root, os.fsdecode(bytes(self.names[index])))

    def select(self, indices: Indices) -> Files:
        """Returns the files at `indices`."""
        return Files(self.root, self.names[indices], self.labels[indices])


SAMPLED = 32
"""Images of each split whose contents are part of the fingerprint of a data set."""


@dataclass(frozen=True)
class Listing:
    """The encoded images of each split, and where they lie; `checksum` is the fingerprint of all (SHA-256, hex).

    It covers the name, size and label of each image, and the contents of a fixed sample of them (`fingerprint`).
    Deviation: not all contents, unlike data sets in memory; reading all of ImageNet would take longer than most runs.
    """

    class_names: tuple[str, ...]
    train: Encoded
    val: Encoded
    test: Encoded
    checksum: str
    source: str


class Inventory:
    """Takes stock of the files of a data set while they are listed: a digest of their names, sizes and labels."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def note(self, *facts: object) -> None:
        """Adds facts whose `repr` says all that matters of them."""
        self._digest.update(repr(facts).encode())

    def checksum(self) -> str:
        """Returns the SHA-256 (hex) of all facts so far, in their order."""
        return self._digest.hexdigest()


def fingerprint(facts: str, splits: Sequence[Encoded]) -> str:
    """Returns the SHA-256 (hex) of `facts` and of the contents of `SAMPLED` images of each split, evenly spread.

    So other data of the same names and sizes, such as images that were encoded anew, are noticed without reading all.
    An image that cannot be read counts as such: it is reported where images are read.
    """
    digest = hashlib.sha256(facts.encode())
    for split in splits:
        for index in np.unique(np.linspace(0, len(split) - 1, min(SAMPLED, len(split)), dtype=np.int64)).tolist():
            try:
                digest.update(hashlib.sha256(split.read(index)).digest())
            except OSError:
                digest.update(b"unreadable")
    return digest.hexdigest()


def complete(
    class_names: Sequence[str],
    train: Encoded,
    *,
    val: Encoded | None = None,
    test: Encoded | None = None,
    checksum: str,
    source: object,
    fraction: float = 0.01,
) -> Listing:
    """Returns a listing whose missing splits are dealt from `train`, class-balanced, a function of the labels alone.

    A missing `val`, then a missing `test`, takes the `fraction` of train, and at least one image for each class.

    Raises:
        UserError: if train has too few images for that.
    """
    present = len(np.unique(train.labels))
    count, parts = max(present, round(len(train) * fraction)), (val is None) + (test is None)
    if parts and len(train) < parts * count + present:
        raise UserError(f"{source} has only {len(train)} training images: too few to hold out {parts} x {count}.")
    dealt = order(torch.from_numpy(train.labels), _SPLIT_SEED).numpy() if parts else np.arange(len(train))
    held = [train.select(np.sort(dealt[part * count : (part + 1) * count])) for part in range(parts)]
    rest = train.select(np.sort(dealt[parts * count :])) if parts else train
    val = held.pop(0) if val is None else val
    test = held.pop(0) if test is None else test
    return Listing(tuple(class_names), rest, val, test, fingerprint(checksum, (rest, val, test)), str(source))


# --- class folders ---


def scan(
    root: Path,
    *,
    classes: Mapping[str, int] | None = None,
    class_names: Sequence[str] | None = None,
    fraction: float = 0.01,
) -> Listing:
    """Returns the splits of the class folders below `root`: train/, and val/, test/, both or none of them.

    `classes` gives the class number of each folder name (default: in alphabetical order), `class_names` the names of
    all classes. Where there are both val/ and test/ they are just that; one alone is the test split, as ImageNet's val.

    Raises:
        UserError: if there are no class folders or images, or a class of another split is unknown to train.
    """
    inventory = Inventory()
    found = class_folders(root / "train")
    classes = {name: number for number, name in enumerate(found)} if classes is None else classes
    train = class_files(root / "train", found, classes, inventory)
    others = [next((root / name for name in VAL_FOLDERS if (root / name).is_dir()), None)]
    if (root / "test").is_dir() and (others[0] is None or any(path.is_dir() for path in (root / "test").iterdir())):
        others.append(root / "test")
    held = [class_files(folder, found, classes, inventory) for folder in others if folder]
    return complete(
        found if class_names is None else class_names,
        train,
        val=held[0] if len(held) == 2 else None,
        test=held[-1] if held else None,
        checksum=inventory.checksum(),
        source=root,
        fraction=fraction,
    )


def class_folders(folder: Path) -> tuple[str, ...]:
    """Returns the names of the class folders in `folder`, sorted.

    Raises:
        UserError: if there are fewer than two.
    """
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        raise UserError(f"{folder} has {len(names)} class folders: expected one folder of images for each class.")
    return tuple(names)


def class_files(folder: Path, known: Sequence[str], classes: Mapping[str, int], inventory: Inventory) -> Files:
    """Returns the images in the class folders of `folder`, in the order of `known`: the class folders of train.

    Raises:
        UserError: if a class is unknown, a class of train has no images, or there are none at all.
    """
    unknown = set(class_folders(folder)) - set(known)
    if unknown:
        raise UserError(f'{folder} has the class "{min(unknown)}", which train has not: expected the same classes.')
    names: list[bytes] = []
    counts: list[int] = []
    for name in known:
        found = _images(folder / name) if (folder / name).is_dir() else []
        inventory.note(folder.name, name, found)
        names += [os.fsencode(f"{name}/{file}") for file, _ in found]
        counts.append(len(found))
        if not found and folder.name == "train":
            raise UserError(f"{folder / name} holds no images: expected files ending in {', '.join(SUFFIXES)}.")
    if not names:
        raise UserError(f"{folder} holds no images in its class folders: expected {', '.join(SUFFIXES)} files.")
    numbers = np.array([classes[name] for name in known], dtype=np.int64)
    return Files(folder, np.array(names, dtype=np.bytes_), np.repeat(numbers, counts))


def _images(folder: Path) -> list[tuple[str, int]]:
    """Returns (name, size in bytes) of the image files of a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(
            (entry.name, entry.stat().st_size)
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".") and entry.is_file()
        )


# --- files that an annotation names ---


def named_files(folder: Path, names: Sequence[str], labels: Indices, inventory: Inventory) -> Files:
    """Returns the files `names` of one folder, with their class numbers; none of them is opened.

    Raises:
        UserError: naming a file that is missing.
    """
    sizes = dict(_images(folder)) if folder.is_dir() else {}
    missing = [name for name in names if name not in sizes]
    if missing:
        others = f" and {len(missing) - 1} other images of the annotations" if len(missing) > 1 else ""
        raise UserError(f"{folder / missing[0]} is missing{others}: unpack the images again.")
    inventory.note(folder.name, [(name, sizes[name]) for name in names], labels.tolist())
    return Files(folder, np.array([os.fsencode(name) for name in names], dtype=np.bytes_), labels)
