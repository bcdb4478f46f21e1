"""Training subsets: class-balanced, nested in each other, a function of (labels, seed) alone."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vision_repro.config import UserError
from vision_repro.files.stream import permutation

_PURPOSE = (1_000_003, 1)  # three words: never the draw of a stream, whose words are (seed, epoch)


def order(labels: Tensor, seed: int) -> Tensor:
    """Returns a permutation int64 [N] whose every prefix is class-balanced within 1, until a class runs out.

    The images are shuffled, then dealt in rounds of one image a class; prefixes of one order are nested.
    """
    shuffled = permutation(len(labels), seed, *_PURPOSE)
    classes = labels.numpy()[shuffled]
    grouped = np.argsort(classes, kind="stable")
    sizes = np.unique(classes, return_counts=True)[1]
    rounds = np.empty(len(classes), dtype=np.int64)
    rounds[grouped] = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return torch.from_numpy(shuffled[np.argsort(rounds, kind="stable")])


def check_size(size: int, available: int | None, classes: int | None) -> None:
    """Raises UserError if `size` is more than the available images or fewer than the classes (None: unknown)."""
    if available is not None and size > available:
        raise UserError(f"--train_size={size} is too large: the training split has {available} images.")
    if classes is not None and size < classes:
        raise UserError(f"--train_size={size} is too small: expected at least one image for each of {classes} classes.")


def take(labels: Tensor, size: int, seed: int) -> Tensor:
    """Returns the first `size` indices of `order`, int64 [size].

    Raises:
        UserError: if there are fewer images, or more classes, than `size`.
    """
    check_size(size, len(labels), len(np.unique(labels.numpy())))
    return order(labels, seed)[:size]


def chosen(subset: Tensor | None, train: int, more: int) -> Tensor:
    """Returns the indices `subset` into `train` images (None is all of them), and those of the `more` behind them."""
    first = torch.arange(train) if subset is None else subset
    return torch.cat((first, torch.arange(train, train + more)))


def checksum(indices: Tensor) -> str:
    """Returns the SHA-256 (hex) of the indices as little-endian int64."""
    return hashlib.sha256(indices.numpy().astype("<i8").tobytes()).hexdigest()


def save(folder: Path, dataset: str, seed: int, labels: Tensor) -> Path:
    """Writes the order of a data set and seed, one index per line, and returns the file.

    Raises:
        UserError: if the file stands and says something else.
    """
    path = folder / f"{dataset}-seed{seed}.txt"
    text = "".join(f"{index}\n" for index in order(labels, seed).tolist())
    if path.exists():
        if path.read_text() != text:
            raise UserError(f"{path} holds another order of the training images: move it away, or bring back its data.")
        return path
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
    return path
