"""ILSVRC 2012 as its organisers publish it: archives, flat validation images, labels in a development kit.

The labels of ILSVRC2012_val_00000001.JPEG .. 00050000.JPEG are read from the first of these that lies beside train/
and val/, in a folder above them, or in the data root:
    LOC_val_solution.csv                                                  (as Kaggle has it)
    ILSVRC2012_devkit_t12/data/, or its files meta.mat and ILSVRC2012_validation_ground_truth.txt themselves
    ILSVRC2012_devkit_t12.tar.gz
"""

from __future__ import annotations

import csv
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vision_repro.config import UserError
from vision_repro.files import archives, matlab
from vision_repro.files.listing import Files, Inventory, named_files

COUNT = 50_000  # validation images
KIT = "ILSVRC2012_devkit_t12"
_CSV, _META, _TRUTH = "LOC_val_solution.csv", "meta.mat", "ILSVRC2012_validation_ground_truth.txt"
_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})(?!\d)")


def is_flat(folder: Path) -> bool:
    """Returns whether validation images lie in the folder itself, not in class folders."""
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(_NUMBER.match(entry.name) for entry in entries if not entry.is_dir())


def number(name: str) -> int:
    """Returns the number 1 .. 50,000 of a validation image, by its file name.

    Raises:
        UserError: for any other name.
    """
    found = _NUMBER.search(name)
    if found is None or not 1 <= int(found[1]) <= COUNT:
        raise UserError(f"{name} is no validation image of ImageNet: expected ILSVRC2012_val_00000001 to {COUNT:08}.")
    return int(found[1])


def val_files(root: Path, classes: Mapping[str, int], inventory: Inventory, *places: Path) -> Files:
    """Returns the flat validation images of `root`/val with their class numbers.

    Raises:
        UserError: if their labels are nowhere to be found, or broken, or an image has none.
    """
    ids = _labels([root, root.parent, root.parent.parent, root.parent.parent.parent, *places])
    unknown = next((word for word in ids if word not in classes), None)
    if unknown is not None:
        raise UserError(f'The labels of the validation images name the class "{unknown}": expected ImageNet-1k\'s.')
    with os.scandir(root / "val") as entries:
        names = sorted(entry.name for entry in entries if _NUMBER.match(entry.name))
    labels = np.array([classes[ids[number(name) - 1]] for name in names], dtype=np.int64)
    return named_files(root / "val", names, labels, inventory)


def _labels(places: Sequence[Path]) -> list[str]:
    """Returns the WordNet id of each validation image, in the order of their numbers."""
    for place in dict.fromkeys(places):
        if (place / _CSV).is_file():
            return _from_csv(place / _CSV)
        for folder in (place / KIT / "data", place / "data", place):
            if (folder / _META).is_file() and (folder / _TRUTH).is_file():
                return from_kit((folder / _META).read_bytes(), (folder / _TRUTH).read_bytes(), folder)
        if (place / f"{KIT}.tar.gz").is_file():
            return _from_archive(place / f"{KIT}.tar.gz")
    raise UserError(
        f"{places[0] / 'val'} holds ILSVRC2012_val_*.JPEG without class folders, and their labels are missing: put "
        f"{KIT}.tar.gz (from image-net.org) or {_CSV} (from Kaggle) into {places[0]}."
    )


def _from_csv(path: Path) -> list[str]:
    ids = [""] * COUNT
    try:
        with path.open(newline="", errors="replace") as file:
            for row in csv.DictReader(file):
                ids[number(row.get("ImageId") or "") - 1] = (row.get("PredictionString") or " ").split(" ")[0]
    except (csv.Error, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}): fetch it again.") from None
    return _checked(ids, path)


def _from_archive(path: Path) -> list[str]:
    try:
        with tarfile.open(path) as tar:
            meta, truth = (tar.extractfile(f"{KIT}/data/{name}") for name in (_META, _TRUTH))
            assert meta is not None
            assert truth is not None
            return from_kit(meta.read(), truth.read(), path)
    except (*archives.BROKEN, KeyError, AssertionError) as error:
        raise UserError(f"{path} is no whole development kit ({error}): fetch it again.") from None


def from_kit(meta: bytes, truth: bytes, source: object) -> list[str]:
    """Returns the WordNet id of each validation image, from the kit's tables.

    The kit counts its classes from 1 in an order of its own, which is not that of the sorted WordNet ids.

    Raises:
        UserError: naming `source`, if the tables are broken or do not belong together.
    """
    synsets = np.atleast_1d(matlab.read(meta, ["synsets"], f"{source}, {_META}")["synsets"])
    if not {"ILSVRC2012_ID", "WNID"} <= set(synsets.dtype.names or ()):
        raise UserError(f"{source}, {_META} has no table of synsets with ILSVRC2012_ID and WNID: fetch it again.")
    words = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
    lines = truth.decode("ascii", errors="replace").split()
    wrong = next((line for line in lines if not line.isdigit() or int(line) not in words), None)
    if wrong is not None:
        raise UserError(
            f'{source}, {_TRUTH} holds the label "{wrong}": expected the number of a class; fetch it again.'
        )
    return _checked([words[int(line)] for line in lines], source)


def _checked(ids: list[str], source: object) -> list[str]:
    known = sum(bool(word) for word in ids)
    if not known == len(ids) == COUNT:
        raise UserError(f"{source} has labels for {known} validation images: expected {COUNT}; fetch it again.")
    return ids
