"""Class folders of images, decoded by worker processes: `train/<class>/*` and `val/<class>/*`.

ImageNet, ImageNet-21k, Imagenette and own folders. The folder's own `val` (or `test`) is the test split; val is 1 % of
train, drawn once, class-balanced (the authors' convention for ImageNet, ViT B.1.1). Where a folder has neither, as
ImageNet-21k, test is another 1 % of train.
S: side of the square images that the model sees, in pixels.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vision_repro.config import UserError
from vision_repro.data import subset as subsets
from vision_repro.data.batch import Batch
from vision_repro.data.crops import central, inception
from vision_repro.data.decode import decode
from vision_repro.data.listing import Files, FolderSplits, scan
from vision_repro.data.module import ImageData, Resumable
from vision_repro.data.splits import Sizes, Splits
from vision_repro.data.stream import Stream

FOLDERS = {
    "imagenet": ("imagenet", "imagenet-1k", "ILSVRC2012"),
    "imagenet21k": ("imagenet21k", "imagenet-21k"),
    "imagenette": ("imagenette", "imagenette-224", "imagenette2", "imagenette2-320", "imagenette2-160"),
    "folder": (".",),
}
NAMES: tuple[str, ...] = tuple(FOLDERS)
SIZES = {"imagenet": Sizes(1_268_355, 12_812, 50_000, 1000), "imagenette": Sizes(classes=10)}

Key = tuple[int, int]  # epoch, image: the sampler tells both, so that workers need no state
Sample = tuple[Tensor, int]


def load(name: str, data_root: Path | None, cache: Path) -> Splits:
    """Raises UserError: class folders are not read into memory as a whole; `datamodule` streams them."""
    raise UserError(f'--dataset="{name}" is a folder of images that is streamed, not held in memory.')


def find(name: str, data_root: Path | None) -> Path:
    """Returns the folder of a data set below `data_root`: the one that holds `train/`.

    Raises:
        UserError: if there is none.
    """
    if data_root is None:
        where = os.path.normpath(f"{FOLDERS[name][0]}/train")
        raise UserError(f"{name} needs --data_root (or VISION_REPRO_DATA): the folder that holds {where}.")
    for folder in FOLDERS[name]:
        if (data_root / folder / "train").is_dir():
            return data_root / folder
    known = ", ".join(str(data_root / folder / "train") for folder in FOLDERS[name])
    raise UserError(f"{name} is not in --data_root={data_root}: expected class folders in {known}.")


def datamodule(
    name: str,
    *,
    image_size: int,
    train_size: int,
    seed: int,
    global_batch: int,
    steps: int,
    augmentation: str,
    data_root: Path | None,
    cache: Path,
    eval_batch: int,
    workers: int,
) -> FolderData:
    """Returns the loaders of a run on class folders; see `vision_repro.data.datamodule`."""
    splits = scan(find(name, data_root))
    return FolderData(
        splits,
        image_size=image_size,
        subset=subsets.take(torch.from_numpy(splits.train.labels), train_size, seed),
        global_batch=global_batch,
        steps=steps,
        seed=seed,
        augmentation=augmentation,
        workers=workers,
        eval_batch=eval_batch,
    )


class Images(Dataset[Sample | UserError]):
    """Decodes and prepares the image of a key; a broken one gives its error, to be raised where it is read."""

    def __init__(self, files: Files, prepare: Callable[[Tensor, Key], Tensor]) -> None:
        self.files, self.prepare = files, prepare

    def __getitem__(self, key: Key) -> Sample | UserError:
        path = self.files.path(key[1])
        try:
            return self.prepare(decode(path.read_bytes(), path), key), int(self.files.labels[key[1]])
        except OSError as error:
            return UserError(f"{path} cannot be read ({error.strerror}).")
        except UserError as error:
            return error


class FolderBatches(Resumable):
    """Batches decoded by `workers` processes (0: in this one); the same for any number of them."""

    def __init__(self, images: Images, keys: Iterable[list[Key]], length: int, workers: int, pin: bool) -> None:
        self.images, self.keys, self.length, self.workers, self.pin = images, keys, length, workers, pin

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        loader: Any = DataLoader(
            self.images,
            batch_sampler=self.keys,
            num_workers=self.workers,
            collate_fn=_collate,
            worker_init_fn=_forget_signals,
            pin_memory=self.pin,
            generator=torch.Generator(),  # or starting workers would draw from the global generator
        )
        for batch in loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch


def _collate(samples: list[Sample | UserError]) -> Batch | UserError:
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
        good.append(sample)
    return Batch(torch.stack([image for image, _ in good]), torch.tensor([label for _, label in good]))


def _forget_signals(worker: int) -> None:
    """Forked workers inherit the run's handlers, with which they would outlive it."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


class TrainKeys:
    """The keys of each micro-batch, from the step at which the loader starts."""

    def __init__(self, stream: Stream, subset: Tensor, batches: Callable[[], Iterator[Any]]) -> None:
        self.stream, self.subset, self.batches = stream, subset.numpy(), batches

    def __iter__(self) -> Iterator[list[Key]]:
        for positions in self.batches():
            images = self.subset[self.stream.at(positions)]
            yield list(zip((positions // self.stream.count).tolist(), images.tolist(), strict=True))


class FolderData(ImageData):
    """Loaders over class folders, in the order of `ResidentData`; `subset` are int64 indices into `splits.train`."""

    def __init__(
        self,
        splits: FolderSplits,
        *,
        image_size: int,
        subset: Tensor | None,
        global_batch: int,
        steps: int,
        seed: int,
        augmentation: str = "none",
        workers: int = 2,
        eval_batch: int = 500,
    ) -> None:
        super().__init__(global_batch=global_batch, steps=steps, seed=seed, eval_batch=eval_batch)
        self.splits, self.workers = splits, min(workers, os.cpu_count() or 1)
        self.subset = torch.arange(len(splits.train.labels)) if subset is None else subset
        self.classes, self.image_size, self.checksum = len(splits.class_names), image_size, splits.checksum
        self.subset_checksum = subsets.checksum(self.subset)
        self.cropped = augmentation == "inception"  # by the workers, who see the whole image
        self.device_augmentation = "none" if self.cropped else augmentation

    def expected(self, split: str) -> int:
        """Returns how many images all processes together see of "val" or "test", or of "train" in the probe's pool."""
        files = {"val": self.splits.val, "test": self.splits.test}
        return len(self.subset) if split == "train" else len(files[split].labels)

    def train_dataloader(self) -> FolderBatches:
        """Returns the micro-batches left to train on; its length counts those before the resumed step too."""
        share = self.share()
        prepare = partial(inception, size=self.image_size, seed=self.seed) if self.cropped else self._whole
        batches = partial(share.positions, self.first_step, self.steps)
        keys = TrainKeys(Stream(len(self.subset), self.seed), self.subset, batches)
        return self._batches(self.splits.train, prepare, keys, self.steps * share.accumulate)

    def val_dataloader(self) -> FolderBatches:
        """Returns this process's shard of `val`."""
        return self._shard(self.splits.val, np.arange(self.expected("val")))

    def test_dataloader(self) -> FolderBatches:
        """Returns this process's shard of `test`."""
        return self._shard(self.splits.test, np.arange(self.expected("test")))

    def pool_dataloader(self) -> FolderBatches:
        """Returns this process's shard of the chosen training images, once each and uncropped: the pool of a probe."""
        return self._shard(self.splits.train, self.subset.numpy())

    def _whole(self, image: Tensor, key: Key) -> Tensor:
        return central(image, self.image_size)

    def _shard(self, files: Files, indices: Any) -> FolderBatches:
        keys = [(0, index) for index in indices[self.rank :: self.world].tolist()]
        batches = [keys[start : start + self.eval_batch] for start in range(0, len(keys), self.eval_batch)]
        return self._batches(files, self._whole, batches, len(batches))

    def _batches(
        self, files: Files, prepare: Callable[[Tensor, Key], Tensor], keys: Iterable[list[Key]], length: int
    ) -> FolderBatches:
        return FolderBatches(Images(files, prepare), keys, length, self.workers, self.device.type == "cuda")
