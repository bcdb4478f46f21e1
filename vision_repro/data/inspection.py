"""One look at every image of a split: can it be read, and which other one is it equal to. N: images of a split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vision_repro.config import UserError
from vision_repro.data.batches import Indices, in_workers
from vision_repro.files.decode import inspect
from vision_repro.files.encoded import Encoded
from vision_repro.files.splits import Split

_PIECE = 128  # images a worker looks at in one go
_BYTES = 16  # of a digest
_DIGEST = np.dtype([("high", "<u8"), ("low", "<u8")])  # of zeros where there is nothing
Digests = npt.NDArray[np.void]


class Look(NamedTuple):
    """What was seen of images: digests of files and of pixels [N], and what is wrong with (image, sentence)."""

    files: Digests
    pixels: Digests
    unreadable: list[tuple[int, str]]
    damaged: list[tuple[int, str]]


@dataclass(frozen=True)
class Part:
    """The images of a split, encoded or decoded."""

    split: str
    images: Encoded | Split

    @property
    def labels(self) -> Indices:
        """The class numbers int64 `[N]`."""
        return np.asarray(self.images.labels)

    def source(self, image: int) -> str:
        """Returns what an image is called."""
        return f"{self.split} image {image}" if isinstance(self.images, Split) else self.images.source(image)

    def read(self, image: int) -> tuple[bytes, Tensor, str]:
        """Returns the file, if there is one, the pixels uint8 `[3, H, W]`, and what a strict decoder complains of.

        Raises:
            UserError: naming the file, if it cannot be read or is no whole image.
        """
        if isinstance(self.images, Split):
            return b"", self.images.images[image], ""
        try:
            data = self.images.read(image)
        except OSError as error:
            raise UserError(f"{self.source(image)} cannot be read ({error.strerror or error}).") from None
        return data, *inspect(data, self.source(image))

    def look(self, workers: int, progress: Callable[[int], None]) -> Look:
        """Returns what `workers` processes see of all images; `progress` is told of each further number looked at."""
        whole = Look(np.zeros(len(self.labels), _DIGEST), np.zeros(len(self.labels), _DIGEST), [], [])
        pieces = range(-(-len(self.labels) // _PIECE))
        for piece, seen in enumerate(in_workers(self._look, pieces, workers)):
            here = slice(piece * _PIECE, piece * _PIECE + len(seen.files))
            whole.files[here], whole.pixels[here] = seen.files, seen.pixels
            whole.unreadable.extend(seen.unreadable)
            whole.damaged.extend(seen.damaged)
            progress(len(seen.files))
        return whole

    def _look(self, piece: int) -> Look:
        images = range(piece * _PIECE, min(len(self.labels), (piece + 1) * _PIECE))
        seen = Look(np.zeros(len(images), _DIGEST), np.zeros(len(images), _DIGEST), [], [])
        for place, image in enumerate(images):
            try:
                data, pixels, complaint = self.read(image)
            except UserError as error:
                seen.unreadable.append((image, str(error)))
                continue
            if data:
                seen.files[place] = _digest(data)
            upright = pixels.permute(1, 2, 0).contiguous().numpy()
            seen.pixels[place] = _digest(upright.data, "x".join(map(str, upright.shape)))
            if complaint:
                seen.damaged.append((image, f"{self.source(image)}: {complaint}"))
        return seen


def _digest(data: bytes | memoryview, kind: str = "") -> np.void:
    found: np.void = np.frombuffer(blake2b(data, digest_size=_BYTES, key=kind.encode()).digest(), _DIGEST)[0]
    return found


def first_equal(digests: Digests) -> Indices:
    """Returns the first image that equals each, int64 [N]; itself where it was not read."""
    order = np.lexsort((np.arange(len(digests)), digests["low"], digests["high"]))
    ordered = digests[order]
    new = np.ones(len(digests), dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    first = np.empty(len(digests), dtype=np.int64)
    first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(digests)), 0))]
    unread = (digests["low"] == 0) & (digests["high"] == 0)
    first[unread] = np.flatnonzero(unread)
    return first
