"""Small images that live on the device as uint8 from the first step to the last.

B: images of a batch, N: images of a split, V: views of a test image, H and W: height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vision_repro.augmentation import crops
from vision_repro.augmentation.batch import Batch
from vision_repro.data.config import DataConfig
from vision_repro.data.module import ImageData, Resumable
from vision_repro.files import subset as subsets
from vision_repro.files.splits import Split, Splits, joined
from vision_repro.files.stream import Share, Stream


class TrainBatches(Resumable):
    """The micro-batches of the steps first .. steps - 1; its length counts those before `first` too.

    Lightning counts a resumed epoch from its beginning, so that the length must not shrink.
    """

    def __init__(
        self, split: Split, subset: Tensor, seed: int, share: Share, first: int, steps: int, image_size: int
    ) -> None:
        self.split, self.subset, self.share, self.first, self.steps = split, subset, share, first, steps
        self.stream, self.image_size = Stream(len(subset), seed), image_size

    def __len__(self) -> int:
        return self.steps * self.share.accumulate

    def __iter__(self) -> Iterator[Batch]:
        for positions in self.share.positions(self.first, self.steps):
            batch = _select(self.split, self.subset[torch.from_numpy(self.stream.at(positions))])
            yield batch._replace(images=crops.resize(batch.images, self.image_size, self.image_size))


class EvalBatches:
    """Every world-th image of `indices` int64 [N] in order, in batches of `size`: no image twice, none left out.

    With several `views` (`crops.views`), batches are `[B, V, 3, H, W]`.
    """

    def __init__(self, split: Split, indices: Tensor, size: int, image_size: int, views: str = "crop") -> None:
        self.split, self.indices, self.views, self.image_size = split, indices, views, image_size
        self.size = max(1, size // crops.VIEWS[views])

    def __len__(self) -> int:
        return -(-len(self.indices) // self.size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.indices), self.size):
            batch = _select(self.split, self.indices[start : start + self.size])
            # one view is the whole image, which has no margin to cut off
            kind = self.views if crops.VIEWS[self.views] > 1 else "square"
            yield batch._replace(images=crops.views(batch.images, kind, self.image_size))


def _select(split: Split, indices: Tensor) -> Batch:
    indices = indices.to(split.labels.device, non_blocking=True)
    return Batch(split.images.index_select(0, indices), split.labels.index_select(0, indices))


class ResidentData(ImageData):
    """Loaders over `splits`, training on the images `subset` (int64 indices into train; None is all of them).

    Step s trains on entries s * global_batch onwards of the stream of (seed, epoch) permutations; a batch may span
    epochs, and a resumed run goes on at `trainer.global_step`. One view of a test image is the image itself, several
    are crops of it enlarged.

    Where `image_size` [pixels] is not that of the images, each batch is resized on the device (bilinear, antialiased,
    uint8), before it is augmented. With `train_on_val`, all of `val` is trained on beside the subset.
    """

    def __init__(self, config: DataConfig, splits: Splits, subset: Tensor | None = None) -> None:
        super().__init__(config)
        more = config.train_on_val
        self.splits = splits
        self.train = joined(splits.train, splits.val) if more else splits.train
        self.subset = subsets.chosen(subset, len(splits.train), len(splits.val) if more else 0)
        self.classes, self.checksum = splits.classes, splits.checksum
        self.subset_checksum = subsets.checksum(self.subset)
        self.device_augmentation = config.augmentation
        self._resident: dict[tuple[str, torch.device], Split] = {}

    def expected(self, split: str) -> int:
        """Returns how many images all processes together see of "val" or "test", or of "train" in the probe's pool."""
        return len(self.subset) if split == "train" else len(self._split(split))

    def labels(self, split: str) -> Tensor:
        """Returns the class numbers int64 `[N]` of a split."""
        return self._split(split).labels

    def train_dataloader(self) -> TrainBatches:
        """Returns the micro-batches left to train on."""
        first, steps = self.first_step, self.config.steps
        seed, split = self.config.seed, self._on_device("train")
        return TrainBatches(split, self.subset, seed, self.share(), first, steps, self.image_size)

    def val_dataloader(self) -> EvalBatches:
        """Returns this process's shard of `val`."""
        return self._shard("val", torch.arange(len(self.splits.val)))

    def test_dataloader(self) -> EvalBatches:
        """Returns this process's shard of `test`."""
        return self._shard("test", torch.arange(len(self.splits.test)), self.views)

    def pool_dataloader(self) -> EvalBatches:
        """Returns this process's shard of the chosen training images, once each: the pool of a probe."""
        return self._shard("train", self.subset)

    def _split(self, name: str) -> Split:
        return {"train": self.train, "val": self.splits.val, "test": self.splits.test}[name]

    def _shard(self, name: str, indices: Tensor, views: str = "crop") -> EvalBatches:
        mine = indices[self.rank :: self.world]
        return EvalBatches(self._on_device(name), mine, self.config.eval_batch, self.image_size, views)

    def _on_device(self, name: str) -> Split:
        """Returns the split on this process's device, moved there once; on the CPU the memory map itself."""
        key = (name, self.device)
        if key not in self._resident:
            split = self._split(name)
            self._resident[key] = Split(split.images.to(self.device), split.labels.to(self.device))
        return self._resident[key]
