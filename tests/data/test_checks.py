"""Checking a data set: each planted fault is found, counted and shown, and a clean one is left in peace."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vision_repro.data.checks import Finding, Report, check
from vision_repro.data.inspection import _DIGEST, first_equal
from vision_repro.files.listing import Files, Listing, scan
from vision_repro.files.splits import Split, Splits

# workers are forked by torch, whatever threads other tests left behind
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def write(path: Path, seed: int, kind: str = "JPEG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((24, 20)).save(path, kind)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of 8 training, 2 val and 3 test images, no two alike."""
    seed = 0
    for split, count in (("train", 8), ("val", 2), ("test", 3)):
        for name in ("apple", "zebra"):
            for number in range(count):
                seed += 1
                write(tmp_path / split / name / f"{number}.jpg", seed)
    return tmp_path


def copy(root: Path, source: str, target: str) -> None:
    (root / target).write_bytes((root / source).read_bytes())


def recode(root: Path, source: str, target: str) -> None:
    """Writes the same pixels as another file."""
    with Image.open(root / source) as image:
        image.convert("RGB").save(root / target, "PNG")


def only(report: Report) -> Finding:
    assert len(report.findings) == 1, report.text()
    return report.findings[0]


def test_a_clean_data_set(root: Path) -> None:
    listing = scan(root)
    report = check(listing, workers=0)
    assert report.ok
    assert report.text() == (
        f"{root}: 2 classes\n"
        "   train 16 images, 8 to 8 a class (median 8)\n"
        "   val   4 images, 2 to 2 a class (median 2)\n"
        "   test  6 images, 3 to 3 a class (median 3)\n"
        " - nothing was found"
    )
    sheet = report.sheet(listing)
    assert sheet
    assert sheet.width > sheet.height > 100


def test_the_number_of_workers_does_not_matter(root: Path) -> None:
    copy(root, "train/apple/1.jpg", "test/zebra/0.jpg")
    (root / "train" / "zebra" / "3.jpg").write_bytes(b"")
    seen: list[int] = []
    alone, helped = check(scan(root), workers=0), check(scan(root), workers=2, progress=seen.append)
    assert alone.text() == helped.text()
    assert sum(seen) == 26


def test_images_that_cannot_be_read(root: Path) -> None:
    broken = root / "train" / "apple" / "2.jpg"
    broken.write_bytes(broken.read_bytes()[:-50])
    (root / "train" / "zebra" / "5.jpg").write_bytes(b"")
    listing = scan(root)
    (root / "train" / "zebra" / "6.jpg").unlink()
    report = check(listing, workers=0)
    found = only(report)
    assert (found.count, found.what, found.serious, report.ok) == (3, "train images cannot be read", True, False)
    assert found.images == (("train", 2), ("train", 13), ("train", 14))
    assert "2.jpg is no whole image" in found.examples[0]
    assert "5.jpg is empty" in found.examples[1]
    assert "6.jpg cannot be read (No such file" in found.examples[2]
    assert report.sheet(listing) is None


def test_harmless_damage_is_told_apart(root: Path) -> None:
    pytest.importorskip("simplejpeg")
    damaged = root / "test" / "apple" / "1.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-2] + bytes(50) + b"\xff\xd9")
    report = check(scan(root), workers=0)
    found = only(report)
    assert report.ok
    assert (found.count, found.what) == (1, "test images are read in spite of damage")
    assert "extraneous bytes" in found.examples[0]


def test_labels_out_of_range(root: Path) -> None:
    listing = scan(root)
    labels = np.array([0, 0, -1, 1, 2, 1])
    assert isinstance(listing.test, Files)
    report = check(replace(listing, test=replace(listing.test, labels=labels)), workers=0)
    found = only(report)
    assert (found.count, found.what) == (2, "test images have a label that is not in 0 to 1")
    assert found.examples[0].endswith("2.jpg has the label -1")
    assert report.counts["test"].tolist() == [2, 2]


def test_classes_without_images(root: Path) -> None:
    for path in (root / "test" / "zebra").iterdir():
        path.unlink()
    report = check(scan(root), workers=0)
    found = only(report)
    assert (found.count, found.what, found.examples, report.ok) == (1, "classes have no test image", ("zebra",), True)


@pytest.mark.parametrize(("how", "files"), [(copy, 1), (recode, 0)])
def test_a_test_image_that_is_in_train_too(root: Path, how: object, files: int) -> None:
    how(root, "train/zebra/1.jpg", "test/zebra/2.jpg")  # type: ignore[operator]
    listing = scan(root)
    report = check(listing, workers=0)
    found = only(report)
    assert (found.count, found.serious) == (1, True)
    assert found.what == f"test images occur in train too, {files} of them as the same file"
    assert found.examples == (f"{root}/test/zebra/2.jpg is {root}/train/zebra/1.jpg",)
    assert found.images == (("train", 9), ("test", 5))
    assert report.sheet(listing)


def test_repetitions_within_a_split(root: Path) -> None:
    for target in ("3", "4"):
        copy(root, "train/zebra/1.jpg", f"train/zebra/{target}.jpg")
    report = check(scan(root), workers=0)
    assert report.ok
    assert only(report).what == "train images repeat another of train, 2 of them as the same file"
    copy(root, "train/zebra/1.jpg", "train/apple/0.jpg")
    report = check(scan(root), workers=0)
    assert not report.ok
    assert only(report).what == (
        "train images repeat another of train, 3 of them as the same file, 3 under another label"
    )


def test_images_of_equal_bytes_and_another_shape_are_not_equal(tmp_path: Path) -> None:
    images = {"train": (8, 2), "val": (4, 4), "test": (2, 8)}
    for split, (width, height) in images.items():
        for number, name in enumerate(("a", "b", "c")):
            path = tmp_path / split / name / "0.png"
            path.parent.mkdir(parents=True)
            Image.new("L", (width, height), number).save(path)
    assert check(scan(tmp_path), workers=0).findings == ()


def test_decoded_data_sets_are_checked_too() -> None:
    images = torch.arange(12, dtype=torch.uint8)[:, None, None, None].expand(12, 3, 8, 8).contiguous()
    images[11] = images[2]
    labels = torch.arange(12) % 3
    splits = Splits(
        "digits",
        3,
        ("a", "b", "c"),
        8,
        Split(images[:6], labels[:6]),
        Split(images[6:9], labels[6:9]),
        Split(images[9:], labels[9:]),
        "",
    )
    report = check(splits, workers=0)
    found = only(report)
    assert (report.source, found.count, found.what) == ("digits", 1, "test images occur in train too")
    assert found.examples == ("test image 2 is train image 2",)
    assert report.sheet(splits)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=40))
def test_the_first_equal_is_the_slow_one(values: list[tuple[int, int]]) -> None:
    digests = np.array(values, dtype=_DIGEST)
    slow = [values.index(value) if any(value) else place for place, value in enumerate(values)]
    assert first_equal(digests).tolist() == slow


def test_real_images_hold_no_surprise(real_data: Path) -> None:
    listing = scan(real_data / "imagenette-224")
    some = np.arange(0, 2900, 10)
    assert check(replace(listing, train=listing.train.select(some)), workers=2).findings == ()


def test_memory_holds_digests_and_no_images(root: Path) -> None:
    """Of 3000 images of 1.4 kB, pixels would take 4 MB and digests 0.1 MB."""
    import tracemalloc

    file = io.BytesIO()
    Image.new("RGB", (24, 20)).save(file, "PNG")
    path = root / "train" / "apple" / "0.png"
    path.write_bytes(file.getvalue())
    names = np.array([b"train/apple/0.png"] * 3000)
    files = Files(root, names, np.zeros(3000, dtype=np.int64))
    listing = Listing(("a", "b"), files, files.select(np.arange(2)), files.select(np.arange(2)), "", "")
    check(listing, workers=0)
    tracemalloc.start()
    report = check(listing, workers=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_500_000
    assert next(found for found in report.findings if "repeat" in found.what).count == 2999
