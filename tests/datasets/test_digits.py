"""Digits: the split is fixed, disjoint and balanced; the cache holds under damage and many readers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import vision_repro.data as data
from vision_repro.files import cache as caches
from vision_repro.files import splits as splits_module

CHECKSUM = "c733d477bbb92fc1d4b106c92f33c7a4dd376c24d4a41bc3c09b3da8dfd2611f"


def test_digits_are_scikit_learns_in_a_fixed_split(tmp_path: Path) -> None:
    found = data.load("digits", None, tmp_path)
    sizes = data.describe("digits")
    assert (sizes.train, sizes.val, sizes.test) == (1200, 200, 397)
    assert (len(found.train), len(found.val), len(found.test)) == (1200, 200, 397)
    assert found.train.labels.bincount().tolist() == [120] * 10
    assert found.val.labels.bincount().tolist() == [20] * 10
    parts = (found.train, found.val, found.test)
    mine = torch.cat([part.images for part in parts])
    assert mine.shape == (1797, 3, 8, 8)
    assert (mine == mine[:, :1]).all()
    grey = np.rint(load_digits().images * 255 / 16).astype(np.uint8).reshape(1797, -1)
    labels = torch.cat([part.labels for part in parts]).tolist()
    pairs = zip(map(bytes, mine[:, 0].contiguous().numpy()), labels, strict=True)
    assert sorted(pairs) == sorted(zip(map(bytes, grey), load_digits().target.tolist(), strict=True))
    assert found.checksum == CHECKSUM
    arrays = {n: (p.images.numpy(), p.labels.numpy()) for n, p in zip(("train", "val", "test"), parts, strict=True)}
    assert splits_module.checksum(arrays) == CHECKSUM


@pytest.mark.parametrize(("name", "first"), [("digits-0-4", 0), ("digits-5-9", 5)])
def test_halves_are_the_images_of_five_classes_in_the_splits_of_all(tmp_path: Path, name: str, first: int) -> None:
    whole, half, sizes = data.load("digits", None, tmp_path), data.load(name, None, tmp_path), data.describe(name)
    for part, of, count in (
        (half.train, whole.train, sizes.train),
        (half.val, whole.val, sizes.val),
        (half.test, whole.test, sizes.test),
    ):
        inside = (of.labels >= first) & (of.labels < first + 5)
        assert len(part) == count
        assert part.images.equal(of.images[inside])
        assert part.labels.equal(of.labels[inside] - first)
    assert half.classes == sizes.classes == 5
    assert half.class_names == tuple(str(first + number) for number in range(5))


@pytest.mark.parametrize("file", ["train_images.npy", "val_labels.npy", "about.json"])
@pytest.mark.parametrize("damage", ["truncate", "remove", "empty"])
def test_damaged_cache_is_rebuilt(tmp_path: Path, file: str, damage: str) -> None:
    data.load("digits", None, tmp_path)
    path = next(tmp_path.glob(f"digits-*/{file}"))
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2 if damage == "truncate" else 0])
    assert data.load("digits", None, tmp_path).checksum == CHECKSUM
    assert path.read_bytes() == content
    assert sorted(item.suffix for item in tmp_path.iterdir()) == ["", ".lock"]


def test_cache_is_decoded_once(tmp_path: Path) -> None:
    part = (np.zeros((2, 3, 2, 2), np.uint8), np.zeros(2, np.int64))
    calls: list[int] = []

    def decode() -> caches.Decoded:
        calls.append(1)
        return caches.Decoded(dict.fromkeys(("train", "val", "test"), part), ("a",))

    for _ in range(3):
        caches.cached(tmp_path, "toy", "key", decode)
    assert len(calls) == 1


RACE = """
import sys, time
from pathlib import Path
import numpy as np
from vision_repro.files import cache
def decode():
    (Path(sys.argv[1]) / f"decoded-{sys.argv[2]}").touch()
    time.sleep(0.5)
    part = (np.full((50, 3, 8, 8), 7, np.uint8), np.arange(50))
    return cache.Decoded({s: part for s in ("train", "val", "test")}, ("a",))
assert int(cache.cached(Path(sys.argv[1]), "toy", "key", decode).train.images.sum()) == 7 * 50 * 192
"""


@pytest.mark.slow
def test_processes_that_ask_at_once_decode_once(tmp_path: Path) -> None:
    children = [subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path), str(i)]) for i in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]
    assert len(list(tmp_path.glob("decoded-*"))) == 1
