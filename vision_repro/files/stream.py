"""The order of the training images: a pure function of (seed, step), whatever the number of processes or workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def permutation(count: int, *words: int) -> Indices:
    """Returns a permutation of 0 .. count - 1, drawn from the non-negative integers `words` alone.

    RandomState's stream is frozen by numpy (NEP 19), so an order outlives numpy and torch versions.
    """
    bits = np.random.PCG64(np.random.SeedSequence(words))
    return np.random.RandomState(bits).permutation(count).astype(np.int64, copy=False)


@lru_cache(maxsize=4)
def _epoch(count: int, seed: int, epoch: int) -> Indices:
    return permutation(count, seed, epoch)


@dataclass(frozen=True)
class Stream:
    """Endless shuffled epochs over `count` images: entry i is permutation(seed, i // count)[i % count]."""

    count: int
    seed: int

    def at(self, positions: Indices) -> Indices:
        """Returns the image at each of the ascending stream `positions` [P] as int64 [P]."""
        epochs, places = np.divmod(positions, self.count)
        if epochs[0] == epochs[-1]:
            return _epoch(self.count, self.seed, int(epochs[0]))[places]
        images = np.empty_like(places)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            images[here] = _epoch(self.count, self.seed, int(epoch))[places[here]]
        return images


@dataclass(frozen=True)
class Share:
    """What process `rank` of `world` sees of each global batch: every world-th entry, in `accumulate` micro-batches."""

    global_batch: int
    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def positions(self, first: int, steps: int) -> Iterator[Indices]:
        """Yields the stream positions of each micro-batch of the optimizer steps first .. steps - 1."""
        size = self.global_batch // self.world // self.accumulate
        for step in range(first, steps):
            mine = np.arange(step * self.global_batch + self.rank, (step + 1) * self.global_batch, self.world)
            for start in range(0, len(mine), size):
                yield mine[start : start + size]
