"""Images that stay encoded until a worker needs them. N: images of a split."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Encoded(Protocol):
    """The image files of a split, wherever they lie: in folders, or in the rows of tables.

    Labels and places are arrays: reading a list of a million strings would copy it into every worker.
    """

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The class numbers int64 `[N]`."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Returns the content of the image file. Raises OSError if it cannot be read."""

    def source(self, index: int) -> str:
        """Returns what errors call the image: a path, or a table and its row."""

    def select(self, indices: npt.NDArray[np.int64]) -> Encoded:
        """Returns the images at `indices` [M]."""
