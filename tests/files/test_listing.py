"""Listings of class folders and of named files: splits, checksums, and memory that does not grow."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vision_repro.data as data
from vision_repro.config import UserError
from vision_repro.data.config import DataConfig
from vision_repro.files import listing as listings
from vision_repro.files import places
from vision_repro.files.listing import Files


def write(root: Path, **splits: dict[str, int]) -> Path:
    for split, classes in splits.items():
        for name, count in classes.items():
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                (folder / f"{number}.jpg").write_text(f"{split} {name} {number}")
    return root


def names(files: Any) -> list[str]:
    assert isinstance(files, Files)
    return [os.fsdecode(bytes(name)) for name in files.names]


def test_files_read_what_they_name(tmp_path: Path) -> None:
    found = listings.scan(write(tmp_path, train={"a": 9, "b": 9}, val={"a": 2, "b": 1}))
    assert [found.test.read(i).decode() for i in range(3)] == ["val a 0", "val a 1", "val b 0"]
    assert found.test.labels.tolist() == [0, 0, 1]
    assert [found.test.source(i) for i in (0, 2)] == [str(tmp_path / "val/a/0.jpg"), str(tmp_path / "val/b/0.jpg")]
    assert names(found.test.select(np.array([2, 0]))) == ["b/0.jpg", "a/0.jpg"]
    assert found.source == str(tmp_path)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ((), ("train", "train")),
        (("val",), ("train", "val")),  # as ImageNet: its val is looked at once
        (("test",), ("train", "test")),
        (("validation",), ("train", "validation")),
        (("val", "test"), ("val", "test")),
        (("valid", "test"), ("valid", "test")),
    ],
)
def test_which_folder_is_which_split(tmp_path: Path, others: tuple[str, ...], expected: tuple[str, str]) -> None:
    found = listings.scan(write(tmp_path, train={"a": 20, "b": 20}, **{name: {"a": 1, "b": 1} for name in others}))
    assert tuple(Path(part.source(0)).parent.parent.name for part in (found.val, found.test)) == expected
    assert len(found.train) == 40 - 2 * expected.count("train")


def test_a_test_folder_without_classes_is_ignored_beside_val(tmp_path: Path) -> None:
    write(tmp_path, train={"a": 20, "b": 20}, val={"a": 1, "b": 1})
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "ILSVRC2012_test_00000001.JPEG").write_text("x")
    assert Path(listings.scan(tmp_path).test.source(0)).parent.parent.name == "val"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.sampled_from([0.01, 0.1, 0.5]), st.booleans())
def test_dealt_splits_are_balanced_disjoint_and_whole(labels: list[int], fraction: float, test: bool) -> None:
    numbers = np.arange(len(labels))
    train = Files(Path("x"), numbers.astype("S"), np.array(labels, dtype=np.int64))
    present = len(set(labels))
    count = max(present, round(len(labels) * fraction))
    parts = 1 + test
    given_test = None if test else train.select(numbers[:1])
    if len(labels) < parts * count + present:
        with pytest.raises(UserError, match=f"too few to hold out {parts} x {count}"):
            listings.complete("abcde", train, test=given_test, checksum="", source="x", fraction=fraction)
        return
    found = listings.complete("abcde", train, test=given_test, checksum="", source="x", fraction=fraction)
    dealt = [found.train, found.val, *([found.test] if test else [])]
    every = [int(name) for part in dealt for name in names(part)]
    assert sorted(every) == numbers.tolist()
    assert len(found.val) == count
    for part in dealt:
        assert part.labels.tolist() == [labels[int(name)] for name in names(part)]
        assert names(part) == sorted(names(part), key=int)
    taken, total = np.bincount(found.val.labels, minlength=5), np.bincount(labels, minlength=5)
    left = taken < total
    assert not left.any() or taken.max() - taken[left].min() <= 1


def test_given_splits_are_kept(tmp_path: Path) -> None:
    files = Files(tmp_path, np.array([b"1", b"2"]), np.array([0, 1]))
    found = listings.complete("ab", files, val=files.select(np.array([1])), test=files, checksum="c", source="s")
    assert (names(found.train), names(found.val), names(found.test)) == (["1", "2"], ["2"], ["1", "2"])


def test_the_checksum_covers_names_and_sizes_of_each_split(tmp_path: Path) -> None:
    write(tmp_path, train={"a": 9, "b": 9}, val={"a": 2, "b": 2})
    sums = [listings.scan(tmp_path).checksum]
    (tmp_path / "train" / "a" / "0.jpg").write_text("longer than before")
    sums.append(listings.scan(tmp_path).checksum)
    (tmp_path / "train" / "a" / "0.jpg").rename(tmp_path / "train" / "b" / "x.jpg")
    sums.append(listings.scan(tmp_path).checksum)
    (tmp_path / "val" / "a" / "0.jpg").unlink()
    sums.append(listings.scan(tmp_path).checksum)
    (tmp_path / "val" / "a" / "notes.txt").write_text("no image")
    assert listings.scan(tmp_path).checksum == sums[-1]
    assert len(set(sums)) == 4


def test_the_checksum_covers_the_labels_of_named_files(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_text("x")
    sums = set()
    for label in (0, 1):
        inventory = listings.Inventory()
        listings.named_files(tmp_path, ["1.jpg"], np.array([label]), inventory)
        sums.add(inventory.checksum())
    assert len(sums) == 2


def test_images_are_where_they_are_looked_for_first(tmp_path: Path) -> None:
    root, cache = tmp_path / "root", tmp_path / "cache"
    (cache / "data" / "b" / "train").mkdir(parents=True)
    root.mkdir()
    assert places.find("x", ("a", "b"), "train", root, cache) == cache / "data" / "b"
    assert places.find("x", ("a", "b"), "train", None, cache) == cache / "data" / "b"
    (root / "b" / "train").mkdir(parents=True)
    assert places.find("x", ("a", "b"), "train", root, cache) == root / "b"
    (root / "a" / "train").mkdir(parents=True)
    assert places.find("x", ("a", "b"), "train", root, cache) == root / "a"
    with pytest.raises(UserError, match=r"x is not in --data_root=.*: expected \S+/c/train, \S+/d/train; bring it\."):
        places.find("x", ("c", "d"), "train", root, cache, "; bring it")
    with pytest.raises(UserError, match=r"x needs --data_root .* that holds c/train\."):
        places.find("x", ("c",), "train", None, cache)


def test_a_data_root_that_may_not_be_written_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert places.home(tmp_path, tmp_path / "cache") == tmp_path
    assert places.home(None, tmp_path / "cache") == tmp_path / "cache" / "data"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert places.home(tmp_path, tmp_path / "cache") == tmp_path / "cache" / "data"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hf:cifar10", "pets", "flowers17", "imagenette"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_real_data_stream_the_same_with_and_without_workers(real_data: Path, tmp_path: Path, name: str) -> None:
    seen = []
    for workers in (0, 2):
        config = DataConfig(name, image_size=32, train_size=60, global_batch=30, steps=2, augmentation="inception")
        where = {"data_root": real_data, "cache": tmp_path, "eval_batch": 30, "workers": workers}
        made = data.datamodule(replace(config, **where))
        batches = [*made.train_dataloader(), next(iter(made.val_dataloader()))]
        assert all(batch.images.shape == (30, 3, 32, 32) for batch in batches)
        seen.append(batches)
    for alone, helped in zip(*seen, strict=True):
        assert alone.images.equal(helped.images)
        assert alone.labels.equal(helped.labels)


GROWTH = """
import os
from pathlib import Path
import numpy as np
from vision_repro.files.listing import Files

def private():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))

count = 400_000
names = np.char.add(b"n01440764/n01440764_", np.arange(count).astype("S"))
files = Files(Path("/images"), names, np.arange(count) % 1000)
listed = [files.source(index) for index in range(count)]

for source in (files.source, listed.__getitem__):
    if os.fork() == 0:
        before = private()
        for index in range(0, count, 4):
            path, label = source(index), files.labels[index]
        print(private() - before, flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's account of private memory")
def test_a_worker_that_reads_100_000_paths_grows_by_nothing() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run([sys.executable, "-W", "ignore", "-c", GROWTH], check=True, env=environment, stdout=-1).stdout
    array, listed = map(int, told.split())  # kB
    assert array < 1_500
    assert listed > 10_000  # what a list costs: its reference counts are written to


def pictures(root: Path, colour: int = 0) -> Path:
    """A folder of two classes of 40 small files each, which are no images."""
    for name in ("cat", "dog"):
        (root / "train" / name).mkdir(parents=True)
        for number in range(40):
            (root / "train" / name / f"{number:02}.jpg").write_bytes(bytes([colour, number]) * 50)
    return root


def test_the_fingerprint_is_that_of_the_data_and_not_of_their_place(tmp_path: Path) -> None:
    first, second = (listings.scan(pictures(tmp_path / name)) for name in ("here", "there"))
    assert first.checksum == second.checksum
    assert len(first.checksum) == 64


@pytest.mark.parametrize("change", ["rename", "add", "move", "grow", "encode"])
def test_other_data_under_the_same_name_have_another_fingerprint(tmp_path: Path, change: str) -> None:
    before = listings.scan(pictures(tmp_path / "data")).checksum
    folder = tmp_path / "data" / "train"
    if change == "rename":
        (folder / "cat" / "07.jpg").rename(folder / "cat" / "77.jpg")
    elif change == "add":
        (folder / "cat" / "99.jpg").write_bytes(b"x")
    elif change == "move":
        (folder / "cat" / "07.jpg").rename(folder / "dog" / "07b.jpg")
    elif change == "grow":
        (folder / "cat" / "07.jpg").write_bytes(b"x" * 101)
    else:  # all images anew, of the same names and sizes
        shutil.rmtree(tmp_path / "data")
        pictures(tmp_path / "data", colour=1)
    assert listings.scan(tmp_path / "data").checksum != before


def test_an_unreadable_file_is_no_matter_of_the_fingerprint(tmp_path: Path) -> None:
    found = listings.scan(pictures(tmp_path / "data"))
    shutil.rmtree(tmp_path / "data")
    assert listings.fingerprint("facts", (found.train,)) != listings.fingerprint("other facts", (found.train,))
