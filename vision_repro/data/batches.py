"""Batches of images that worker processes read and prepare: the same for any number of workers.

B: images of a batch, N: images of a split.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from vision_repro.augmentation.batch import Batch
from vision_repro.config import UserError
from vision_repro.data.module import Resumable
from vision_repro.files.decode import decode
from vision_repro.files.encoded import Encoded
from vision_repro.files.stream import Stream

Indices = npt.NDArray[np.int64]
Key = tuple[int, int]  # epoch, image: the sampler tells both, so that workers need no state
Read = Callable[[int], Tensor]  # the image uint8 [3, H, W] at an index, or UserError
T = TypeVar("T")

_SPARE = 2_000_003  # a third and fourth word: never the draw of a crop, whose words are (seed, epoch, image)
_TRIES = 100


@dataclass(frozen=True)
class Decoding:
    """Reads images from their files."""

    encoded: Encoded

    def __call__(self, index: int) -> Tensor:
        """Returns the image at `index` as uint8 `[3, H, W]`.

        Raises:
            UserError: naming the file, if it cannot be read or is no whole image.
        """
        source = self.encoded.source(index)
        try:
            data = self.encoded.read(index)
        except OSError as error:
            raise UserError(f"{source} cannot be read ({error.strerror or error}).") from None
        return decode(data, source)


@dataclass(frozen=True)
class Spares:
    """What takes the place of an image that cannot be read: others of `subset` [N], a function of (seed, epoch, image).

    Nothing is known of other images, workers or processes, so that a batch keeps its size and the order of all others
    is what it would be. A spare is cropped by the key of the image it stands for.
    """

    subset: Indices
    seed: int

    def of(self, key: Key) -> list[int]:
        """Returns the images to try, in order."""
        words = np.random.SeedSequence((self.seed, *key, _SPARE)).generate_state(_TRIES, np.uint64)
        chosen: list[int] = self.subset[(words % np.uint64(len(self.subset))).astype(np.int64)].tolist()
        return chosen


class Sample(NamedTuple):
    """A prepared image, its class number, and what was wrong with the one in whose place it stands."""

    image: Tensor
    label: int
    problem: str = ""


class Images(Dataset[Sample | UserError]):
    """Reads and prepares the image of a key; without `spares` a broken one gives its error, raised where it is read."""

    def __init__(
        self, read: Read, labels: Indices, prepare: Callable[[Tensor, Key], Tensor], spares: Spares | None = None
    ) -> None:
        self.read, self.labels, self.prepare, self.spares = read, labels, prepare, spares

    def __getitem__(self, key: Key) -> Sample | UserError:
        try:
            return self._sample(key[1], key)
        except UserError as error:
            return self._spare(key, error) if self.spares else error

    def _sample(self, image: int, key: Key, problem: str = "") -> Sample:
        return Sample(self.prepare(self.read(image), key), int(self.labels[image]), problem)

    def _spare(self, key: Key, error: UserError) -> Sample | UserError:
        assert self.spares
        for image in self.spares.of(key):
            try:
                return self._sample(image, key, str(error))
            except UserError:
                continue
        return UserError(f"None of {_TRIES} images could be read in place of another. {error}")


class Batches(Resumable):
    """Batches made by `workers` processes (0: in this one); `note` is told of each image that was replaced."""

    def __init__(
        self,
        images: Images,
        keys: Iterable[list[Key]],
        length: int,
        *,
        workers: int = 0,
        pin: bool = False,
        note: Callable[[Sequence[str]], None] = lambda problems: None,
    ) -> None:
        self.images, self.keys, self.length, self.workers, self.pin = images, keys, length, workers, pin
        self.note = note

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        loader = _loader(self.images, self.workers, batch_sampler=self.keys, collate_fn=_collate, pin_memory=self.pin)
        for found in loader:
            if isinstance(found, UserError):
                raise found
            batch, problems = found
            self.note(problems)
            yield batch


def _collate(samples: list[Sample | UserError]) -> tuple[Batch, list[str]] | UserError:
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
        good.append(sample)
    images = default_collate([sample.image for sample in good])  # in a worker, straight into shared memory
    batch = Batch(images, torch.tensor([sample.label for sample in good]))
    return batch, [sample.problem for sample in good if sample.problem]


class TrainKeys:
    """The keys of each micro-batch, from the step at which the loader starts."""

    def __init__(self, stream: Stream, subset: Indices, batches: Callable[[], Iterator[Indices]]) -> None:
        self.stream, self.subset, self.batches = stream, subset, batches

    def __iter__(self) -> Iterator[list[Key]]:
        for positions in self.batches():
            images = self.subset[self.stream.at(positions)]
            yield list(zip((positions // self.stream.count).tolist(), images.tolist(), strict=True))


class OnceKeys:
    """The keys of `indices` int64 [N], once each and in order, `size` a batch."""

    def __init__(self, indices: Indices, size: int) -> None:
        self.indices, self.size = indices, size

    def __len__(self) -> int:
        return -(-len(self.indices) // self.size)

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, len(self.indices), self.size):
            yield [(0, image) for image in self.indices[start : start + self.size].tolist()]


class _Calls(Dataset[T]):
    def __init__(self, work: Callable[[int], T]) -> None:
        self.work = work

    def __getitem__(self, item: int) -> T:
        return self.work(item)


def in_workers(work: Callable[[int], T], items: Sequence[int], workers: int) -> Iterator[T]:
    """Yields `work(item)` for each of the `items`, in order, computed by `workers` processes (0: in this one)."""
    yield from _loader(_Calls(work), workers, batch_size=None, sampler=items, collate_fn=_as_it_is)


def _as_it_is(found: T) -> T:
    return found


def _loader(dataset: Dataset[Any], workers: int, **options: Any) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        num_workers=min(workers, _cores()),
        worker_init_fn=_forget_signals,
        generator=torch.Generator(),  # or starting workers would draw from the global generator
        **options,
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _forget_signals(worker: int) -> None:
    """Forked workers inherit the run's handlers, with which they would outlive it."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
