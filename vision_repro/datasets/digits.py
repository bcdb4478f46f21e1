"""Handwritten digits, 8x8 real scans that come with scikit-learn: always offline.

The 1,797 images are the test part of the UCI "Optical Recognition of Handwritten Digits" set.
Deviation: there is no official split, so ours is drawn once, whoever asks: train 1,200 (120 a class), val 200 (20 a
class), test 397 (the rest). Images of one writer may stand in several splits, as scikit-learn does not name writers.
`digits-0-4` and `digits-5-9` are the images of five classes each, in these splits: something to learn first, and
something else to transfer to, without a download.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from vision_repro.files import cache as caches
from vision_repro.files.splits import Sizes, Splits
from vision_repro.files.subset import order

CLASSES = {"digits": range(10), "digits-0-4": range(5), "digits-5-9": range(5, 10)}
NAMES: tuple[str, ...] = tuple(CLASSES)
SIZES = {
    "digits": Sizes(train=1200, val=200, test=397, classes=10, image_size=8),
    "digits-0-4": Sizes(train=600, val=100, test=201, classes=5, image_size=8),
    "digits-5-9": Sizes(train=600, val=100, test=196, classes=5, image_size=8),
}
_SPLIT_SEED = 0


def load(name: str, data_root: Path | None, cache: Path) -> Splits:
    """Returns the digits as uint8 `[N, 3, 8, 8]`: 0 .. 16 scaled to 0 .. 255, three equal channels."""
    return caches.cached(cache, name, caches.digest([], version("scikit-learn")), partial(_decode, CLASSES[name]))


def prepare(name: str, data_root: Path | None, cache: Path, say: Callable[[str], None]) -> None:
    """Says that there is nothing to fetch."""
    say("digits come with scikit-learn: there is nothing to fetch")


def _decode(classes: range) -> caches.Decoded:
    """Returns the images of `classes`, which are counted from 0."""
    # Imported here for start-up time: sklearn takes long to import.
    from sklearn.datasets import load_digits

    data = load_digits()
    grey = np.round(data.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[:, None], 3, axis=1)
    labels = data.target.astype(np.int64)
    dealt = order(torch.from_numpy(labels), _SPLIT_SEED).numpy()
    parts = {"val": dealt[:200], "train": dealt[200:1400], "test": dealt[1400:]}
    kept = {split: np.sort(part[np.isin(labels[part], classes)]) for split, part in parts.items()}
    arrays = {split: (images[part], labels[part] - classes.start) for split, part in kept.items()}
    return caches.Decoded(arrays, tuple(map(str, classes)))
