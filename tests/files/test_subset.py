"""Subsets: balanced, nested, and the same for everybody."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vision_repro.config import UserError
from vision_repro.files import subset

labels_lists = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@given(labels_lists, st.integers(0, 2**31))
def test_every_prefix_is_balanced_until_a_class_runs_out(values: list[int], seed: int) -> None:
    labels = torch.tensor(values)
    order = subset.order(labels, seed)
    assert sorted(order.tolist()) == list(range(len(values)))
    total = labels.bincount(minlength=5)
    for size in range(1, len(values) + 1):
        counts = labels[order[:size]].bincount(minlength=5)
        left = counts < total
        if left.any():
            assert counts.max() - counts[left].min() <= 1


def test_subsets_are_nested_and_differ_between_seeds() -> None:
    labels = torch.arange(100) % 10
    small, large = subset.take(labels, 20, 0), subset.take(labels, 70, 0)
    assert large[:20].equal(small)
    assert not subset.take(labels, 20, 1).equal(small)
    assert labels[small].bincount().tolist() == [2] * 10


def test_the_order_is_the_same_on_every_machine() -> None:
    assert subset.order(torch.arange(8) % 2, 0).tolist() == FROZEN


FROZEN = [1, 0, 5, 4, 2, 3, 7, 6]


@pytest.mark.parametrize(("size", "word"), [(101, "too large"), (9, "too small")])
def test_impossible_sizes_are_refused(size: int, word: str) -> None:
    with pytest.raises(UserError, match=f"--train_size={size} is {word}"):
        subset.take(torch.arange(100) % 10, size, 0)


def test_checksum_is_that_of_little_endian_integers() -> None:
    import hashlib

    assert subset.checksum(torch.tensor([1, 256])) == hashlib.sha256(bytes([1, *[0] * 8, 1, *[0] * 6])).hexdigest()


def test_saved_order_stands_and_must_agree(tmp_path: Path) -> None:
    labels = torch.arange(20) % 4
    path = subset.save(tmp_path / "subsets", "digits", 3, labels)
    assert [int(line) for line in path.read_text().split()] == subset.order(labels, 3).tolist()
    assert subset.save(tmp_path / "subsets", "digits", 3, labels) == path
    assert [item.name for item in path.parent.iterdir()] == ["digits-seed3.txt"]
    with pytest.raises(UserError, match="another order"):
        subset.save(tmp_path / "subsets", "digits", 3, labels // 2)
