"""Which images of a split cannot be read: looked at once, so that an evaluation knows its denominator beforehand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from vision_repro.config import UserError
from vision_repro.data.batches import Indices, Read, in_workers
from vision_repro.store.atomic import write_atomic

_PIECE = 256  # images a worker looks at in one go


def faults(read: Read, indices: Indices, *, workers: int, cache: Path | None, key: str) -> dict[int, str]:
    """Returns, for each of the `indices` int64 [N] that cannot be read, what is wrong with it.

    What was found is kept in a file under `cache`, named after `key` and the indices; processes that ask at the same
    time wait for the one that looks.
    """
    if cache is None:
        return _look(read, indices, workers)
    digest = hashlib.sha256(key.encode() + np.ascontiguousarray(indices, dtype="<i8").tobytes()).hexdigest()
    path = cache / f"faults-{digest[:16]}.json"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            write_atomic(path, json.dumps(list(_look(read, indices, workers).items())))
        return {int(index): str(fault) for index, fault in json.loads(path.read_text())}


def _look(read: Read, indices: Indices, workers: int) -> dict[int, str]:
    pieces = range(-(-len(indices) // _PIECE))
    return {index: fault for found in in_workers(_Looker(read, indices), pieces, workers) for index, fault in found}


@dataclass(frozen=True)
class _Looker:
    read: Read
    indices: Indices

    def __call__(self, piece: int) -> Sequence[tuple[int, str]]:
        found = []
        for index in self.indices[piece * _PIECE : (piece + 1) * _PIECE].tolist():
            try:
                self.read(index)
            except UserError as error:
                found.append((index, str(error)))
        return found
