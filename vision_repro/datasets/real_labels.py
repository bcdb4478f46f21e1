"""ReaL: ImageNet's validation images labelled anew, with all classes that raters saw in them, possibly none.

Beyer et al. 2020, "Are we done with ImageNet?"; github.com/google-research/reassessed-imagenet, real.json. An image
counts as right if the predicted class is one of its labels; images without a label are left out.
N: images of a split, K: classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vision_repro.config import UserError
from vision_repro.datasets import ilsvrc, wordnet
from vision_repro.files.encoded import Encoded
from vision_repro.files.rows import Rows

CLASSES = 1_000
SIZE = 46_837  # images that have a label, of 50,000

Sets = tuple[frozenset[int], ...]


def read(path: Path | None = None) -> Sets:
    """Returns the labels of each validation image, by file number; read from real.json, or from timm's copy of it.

    Raises:
        UserError: if the file is missing or holds anything but 50,000 lists of class numbers.
    """
    path = wordnet.table("imagenet_real_labels.json") if path is None else path
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): it is real.json of reassessed-imagenet.") from None
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}): fetch real.json again.") from None
    if not isinstance(found, list) or len(found) != ilsvrc.COUNT or not all(map(_is_labels, found)):
        raise UserError(f"{path} is not real.json: expected {ilsvrc.COUNT} lists of class numbers 0 to {CLASSES - 1}.")
    return tuple(map(frozenset, found))


def _is_labels(value: object) -> bool:
    return isinstance(value, list) and all(type(label) is int and 0 <= label < CLASSES for label in value)


def targets(images: Encoded, sets: Sequence[Iterable[int]]) -> npt.NDArray[np.bool_]:
    """Returns the labels of a split of validation images as bool `[N, K]`, matched by the number in their file names.

    Raises:
        UserError: naming an image that is no validation image of ImageNet.
    """
    table = np.zeros((len(images), CLASSES), dtype=np.bool_)
    for index in range(len(images)):
        name = images.name(index) if isinstance(images, Rows) else Path(images.source(index)).name
        table[index, list(sets[ilsvrc.number(name) - 1])] = True
    return table


def count(predictions: npt.ArrayLike, table: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Returns how many of the predicted classes [N] are right, and how many count: images that have a label.

    Counts, so that those of several processes or batches can be added before they are divided.
    """
    guesses = np.asarray(predictions)
    if guesses.shape != table.shape[:1]:
        raise ValueError(f"{guesses.shape} predictions for {len(table)} images")
    return int(table[np.arange(len(table)), guesses].sum()), int(table.any(axis=1).sum())


def accuracy(predictions: npt.ArrayLike, table: npt.NDArray[np.bool_]) -> float:
    """Returns the ReaL accuracy, a fraction in [0, 1], of the predicted classes [N].

    Raises:
        UserError: if no image has a label.
    """
    right, seen = count(predictions, table)
    if not seen:
        raise UserError("None of the images has a ReaL label: nothing can be counted.")
    return right / seen
