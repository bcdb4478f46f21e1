"""Loaders over encoded images that worker processes decode: data too large for memory, or of any shape.

B: images of a batch, V: views of a test image, S: side of the square images that the model sees, in pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vision_repro.augmentation import crops
from vision_repro.config import UserError, nearest
from vision_repro.data import decoded as decoding
from vision_repro.data.batches import Batches, Decoding, Images, Indices, Key, OnceKeys, Read, Spares, TrainKeys
from vision_repro.data.config import DataConfig
from vision_repro.data.module import ImageData
from vision_repro.data.readable import faults
from vision_repro.files import subset as subsets
from vision_repro.files.decode import decoder
from vision_repro.files.encoded import Encoded
from vision_repro.files.stream import Stream

if TYPE_CHECKING:
    from vision_repro.files.listing import Listing

ON_BAD_IMAGE = ("error", "skip")


class StreamedData(ImageData):
    """Loaders over a listing, in the order of `ResidentData`; `subset` are int64 indices into `listing.train`.

    The workers crop where the augmentation says inception, vgg or resize-crop, because they see the whole image; the
    rest of it is left to the device. Without such a crop, training sees the image as evaluation does.

    `views` is what is made of a test image (`crops.views`): "ten" and "fifty" give batches `[B, V, 3, S, S]`, of test
    only; val and the probe's pool see one view, the whole image for "square" and else the central crop.

    An image that cannot be read is an error, or with `on_bad_image="skip"` is counted in `skipped`: in training,
    another takes its place, chosen by (seed, epoch, image) (`batches.Spares`); val, test and the pool leave it out, and
    `expected` with them, for which these splits are read once beforehand.

    With `decoded_cache`, train and val are decoded once into files under `cache`; no pixel changes. It is all of train,
    whatever the subset, so that runs share it. With `train_on_val`, all of `val` is trained on beside the subset.

    Attributes: `single`, the view of val and pool, `decoder`, the name of the JPEG decoder, `skipped`: split -> what
    was wrong -> how often this process met it.
    """

    def __init__(
        self,
        config: DataConfig,
        listing: Listing,
        subset: Tensor | None = None,
        report: Callable[[str], None] = lambda message: None,
    ) -> None:
        super().__init__(config)
        _check("views", config.views, tuple(crops.VIEWS))
        _check("on_bad_image", config.on_bad_image, ON_BAD_IMAGE)
        if config.decoded_cache and config.cache is None:
            raise UserError("--decoded_cache needs --cache: the folder that keeps the decoded images.")
        self.listing, self.report, self.skip = listing, report, config.on_bad_image == "skip"
        self.single = "square" if config.views == "square" else "crop"
        self.subset = subsets.chosen(subset, len(listing.train), len(listing.val) if config.train_on_val else 0)
        self.classes, self.checksum = len(listing.class_names), listing.checksum
        self.subset_checksum = subsets.checksum(self.subset)
        parts = config.augmentation.split("+")
        self.crop = next((part for part in parts if part in crops.POLICIES), "")
        self.device_augmentation = "+".join(part for part in parts if part != self.crop) or "none"
        self.decoder = decoder()
        self.skipped: dict[str, Counter[str]] = {"train": Counter(), "val": Counter(), "test": Counter()}
        self._readers: dict[str, Read] = {}
        self._readable: dict[str, Indices] = {}

    def expected(self, split: str) -> int:
        """Returns how many images all processes together see of "val" or "test", or of "train" in the probe's pool."""
        return len(self._indices(split))

    def labels(self, split: str) -> Tensor:
        """Returns the class numbers int64 `[N]` of a split, those of unreadable images included."""
        return torch.from_numpy(self._labels(split))

    def train_dataloader(self) -> Batches:
        """Returns the micro-batches left to train on; its length counts those before the resumed step too."""
        share, subset = self.share(), self.subset.numpy()
        crop = crops.POLICIES.get(self.crop)
        prepare = partial(crop, size=self.image_size, seed=self.config.seed) if crop else self._view(self.single)
        spares = Spares(subset, self.config.seed) if self.skip else None
        images = Images(self._reader("train"), self._labels("train"), prepare, spares)
        keys = TrainKeys(
            Stream(len(subset), self.config.seed), subset, partial(share.positions, self.first_step, self.config.steps)
        )
        return self._batches(images, keys, self.config.steps * share.accumulate)

    def val_dataloader(self) -> Batches:
        """Returns this process's shard of `val`, a view an image."""
        return self._shard("val", self.single)

    def test_dataloader(self) -> Batches:
        """Returns this process's shard of `test`, with all views."""
        return self._shard("test", self.views)

    def pool_dataloader(self) -> Batches:
        """Returns this process's shard of the chosen training images, once each and uncropped: the pool of a probe."""
        return self._shard("train", self.single)

    def skipped_report(self) -> str:
        """Returns a line a split on what this process could not read, with an example; empty if all is well."""
        lines = []
        for split, problems in self.skipped.items():
            if problems:
                done = f"replaced {problems.total()} times" if split == "train" else "left out"
                lines.append(f"{split}: {len(problems)} images could not be read and were {done}: {min(problems)}")
        return "\n".join(lines)

    def _encoded(self, split: str) -> Encoded:
        return {"train": self.listing.train, "val": self.listing.val, "test": self.listing.test}[split]

    def _labels(self, split: str) -> Indices:
        labels = self._encoded(split).labels
        return np.concatenate((labels, self.listing.val.labels)) if self._is_joined(split) else labels

    def _is_joined(self, split: str) -> bool:
        return split == "train" and self.config.train_on_val

    def _reader(self, split: str) -> Read:
        """Returns what reads the images of a split, with those of val behind train where these are trained on."""
        own = self._own_reader(split)
        return _Joined(own, self._own_reader("val"), len(self.listing.train)) if self._is_joined(split) else own

    def _own_reader(self, split: str) -> Read:
        """Returns what reads the images of a split: from the files, or decoded; a test image is read only once."""
        if split not in self._readers:
            encoded = self._encoded(split)
            self._readers[split] = Decoding(encoded)
            if self.config.decoded_cache and self.config.cache and split != "test":
                folder = decoding.place(self.config.cache, self.checksum, split)
                self._readers[split] = decoding.decoded(
                    encoded, folder, workers=self.config.workers, report=self.report
                )
        return self._readers[split]

    def _indices(self, split: str) -> Indices:
        """Returns the images that all processes see, in order, without those that are skipped."""
        indices = self.subset.numpy() if split == "train" else np.arange(len(self._encoded(split)))
        if not self.skip:
            return indices
        if split not in self._readable:
            key = f"{self.checksum} {split}"
            found = faults(self._reader(split), indices, workers=self.config.workers, cache=self.config.cache, key=key)
            if split != "train":
                self.skipped[split].update(found.values())
            self._readable[split] = indices[~np.isin(indices, list(found))]
        return self._readable[split]

    def _view(self, kind: str) -> Callable[[Tensor, Key], Tensor]:
        return partial(_views, kind=kind, size=self.image_size)

    def _shard(self, split: str, kind: str) -> Batches:
        indices = self._indices(split)[self.rank :: self.world]
        keys = OnceKeys(indices, max(1, self.config.eval_batch // crops.VIEWS[kind]))
        images = Images(self._reader(split), self._labels(split), self._view(kind))
        return self._batches(images, keys, len(keys))

    def _batches(self, images: Images, keys: Iterable[list[Key]], length: int) -> Batches:
        pin = self.device.type == "cuda"
        return Batches(images, keys, length, workers=self.config.workers, pin=pin, note=self._note)

    def _note(self, problems: Sequence[str]) -> None:
        self.skipped["train"].update(problems)


@dataclass(frozen=True)
class _Joined:
    """Reads `count` images of `first`, and behind them those of `second`."""

    first: Read
    second: Read
    count: int

    def __call__(self, index: int) -> Tensor:
        return self.first(index) if index < self.count else self.second(index - self.count)


def _views(image: Tensor, key: Key, *, kind: str, size: int) -> Tensor:
    return crops.views(image, kind, size)


def _check(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UserError(f'--{name}="{value}" is unknown: expected one of {", ".join(known)}.{nearest(value, known)}')
