"""The order of training: a pure function of (seed, step), for any number of ranks, pieces and resumptions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vision_repro.files.stream import Share, Stream, permutation


def slow(count: int, seed: int, first: int, last: int) -> list[int]:
    return [int(permutation(count, seed, i // count)[i % count]) for i in range(first, last)]


def test_permutations_are_the_same_on_every_machine() -> None:
    assert permutation(8, 0, 0).tolist() == FROZEN
    assert permutation(8, 0, 1).tolist() != FROZEN


FROZEN = [2, 4, 3, 6, 5, 0, 1, 7]


@given(st.integers(1, 20), st.integers(0, 5), st.integers(0, 50), st.integers(1, 60))
def test_entries_equal_the_definition(count: int, seed: int, first: int, length: int) -> None:
    found = Stream(count, seed).at(np.arange(first, first + length))
    assert found.tolist() == slow(count, seed, first, first + length)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 5))
def test_shares_of_all_ranks_make_up_the_batch(world: int, accumulate: int, size: int, first: int) -> None:
    batch = world * accumulate * size
    shares = [list(Share(batch, rank, world, accumulate).positions(first, 6)) for rank in range(world)]
    for rank, share in enumerate(shares):
        assert len(share) == (6 - first) * accumulate
        for step in range(first, 6):
            mine = np.concatenate(share[(step - first) * accumulate : (step - first + 1) * accumulate])
            assert mine.tolist() == list(range(step * batch, (step + 1) * batch))[rank::world]
