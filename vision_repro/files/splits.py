"""Decoded data sets. N: images of a split, H and W: height and width in pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vision_repro.config import UserError


@dataclass(frozen=True)
class Split:
    """Images uint8 `[N, 3, H, W]`, possibly memory-mapped, and their class numbers int64 `[N]`."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def joined(first: Split, second: Split) -> Split:
    """Returns the images of both, in memory, those of `first` first."""
    return Split(torch.cat((first.images, second.images)), torch.cat((first.labels, second.labels)))


@dataclass(frozen=True)
class Splits:
    """A data set in memory: `val` is for choosing, `test` is looked at once; `checksum` covers all of it."""

    name: str
    classes: int
    class_names: tuple[str, ...]
    image_size: int
    train: Split
    val: Split
    test: Split
    checksum: str


@dataclass(frozen=True)
class Sizes:
    """What is known of a data set before it is read: images a split, classes, pixels; None is unknown."""

    train: int | None = None
    val: int | None = None
    test: int | None = None
    classes: int | None = None
    image_size: int | None = None


Arrays = dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]  # split -> images [N, 3, H, W] and labels [N]


def checksum(arrays: Arrays) -> str:
    """Returns the SHA-256 (hex) of the pixels and little-endian labels of train, val and test."""
    digest = hashlib.sha256()
    for split in ("train", "val", "test"):
        images, labels = arrays[split]
        digest.update(np.ascontiguousarray(images).data)
        digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()


def check_labels(labels: npt.NDArray[np.int64], classes: int, source: object) -> None:
    """Raises UserError, naming `source`, unless all labels lie in 0 .. classes - 1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise UserError(
            f"{source} holds the label {labels[wrong[0]]} (image {wrong[0]}): expected 0 to {classes - 1}; "
            "fetch the file again or name the right data set."
        )
