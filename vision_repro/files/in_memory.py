"""Images in memory, handed out as encoded files: so that small ones can be resized and cropped as large ones are."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from vision_repro.files.listing import Indices
from vision_repro.files.splits import Split


@dataclass(frozen=True)
class Pixels:
    """The images of a decoded split, of which errors speak by `name`; an `Encoded` whose files are PNG, to the bit."""

    name: str
    split: Split

    @property
    def labels(self) -> Indices:
        """The class numbers int64 `[N]`."""
        labels: Indices = self.split.labels.numpy()
        return labels

    def __len__(self) -> int:
        return len(self.split)

    def read(self, index: int) -> bytes:
        """Returns an image as the content of a PNG file, uncompressed."""
        # Imported here for start-up time: PIL takes long to import.
        from PIL import Image

        buffer = io.BytesIO()
        pixels = np.ascontiguousarray(self.split.images[index].permute(1, 2, 0).numpy())
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
        return buffer.getvalue()

    def source(self, index: int) -> str:
        """Returns what errors call an image."""
        return f"{self.name}, image {index}"

    def select(self, indices: Indices) -> Pixels:
        """Returns the images at `indices`, copied."""
        return Pixels(self.name, Split(self.split.images[indices], self.split.labels[indices]))
