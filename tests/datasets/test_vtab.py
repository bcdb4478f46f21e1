"""VTAB-1k: the table of its tasks against ViT's Table 9, and the splits of those whose data are written here."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vision_repro.config import UserError
from vision_repro.datasets import cifar, pets, vtab
from vision_repro.files.decode import decode
from vision_repro.files.splits import Split, Splits


def sources(part: Any) -> list[str]:
    return [part.source(index) for index in range(len(part))]


def write_pets(root: Path, each: int = 60) -> None:
    folder = root / "oxford-iiit-pet"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for half, numbers in (("trainval", range(each)), ("test", range(900, 902))):
        rows = [
            (f"{breed.replace(' ', '_')}_{number}", label)
            for label, breed in enumerate(pets.CLASSES, 1)
            for number in numbers
        ]
        for name, _ in rows:
            (folder / "images" / f"{name}.jpg").write_text(name)
        text = "".join(f"{name} {label} 1 1\n" for name, label in rows)
        (folder / "annotations" / f"{half}.txt").write_text(text)


TABLE_9 = {  # ViT paper, Table 9: the columns under each group
    "natural": "Caltech101 CIFAR-100 DTD Flowers102 Pets Sun397 SVHN",
    "specialized": "Camelyon EuroSAT Resisc45 Retinopathy",
    "structured": "Clevr-Count Clevr-Dist DMLab dSpr-Loc dSpr-Ori KITTI-Dist sNORB-Azim sNORB-Elev",
}


def test_the_tasks_are_those_of_the_papers_table() -> None:
    for group, titles in TABLE_9.items():
        assert [task.title for task in vtab.TASKS.values() if task.group == group] == titles.split()


def test_nineteen_tasks_in_three_groups() -> None:
    groups = [task.group for task in vtab.TASKS.values()]
    assert [groups.count(group) for group in ("natural", "specialized", "structured")] == [7, 4, 8]  # ViT, 4.1
    assert len({task.title for task in vtab.TASKS.values()}) == len(vtab.TASKS) == 19
    for key, module in vtab.READERS.items():
        sizes, task = module.SIZES[key], vtab.TASKS[key]
        assert (sizes.classes, sizes.test) == (task.classes, task.test)
        assert sizes.train + sizes.val == task.train + task.val
    assert all(vtab.PATTERN.fullmatch(name) for name in (*vtab.NAMES, *vtab.SIZES))
    assert not any(vtab.PATTERN.fullmatch(name) for name in ("vtab:", "vtab:x", "vtab:pets:800", "vtab:dtd:1000:"))
    assert len(vtab.SIZES) == 38
    assert (vtab.SIZES["vtab:pets"].train, vtab.SIZES["vtab:pets:1000"].train) == (800, 1000)


def test_pets(tmp_path: Path) -> None:
    write_pets(tmp_path)
    choosing, final = (vtab.listing(name, tmp_path, tmp_path) for name in ("vtab:pets", "vtab:pets:1000"))
    assert (len(choosing.train), len(choosing.val), len(choosing.test), len(choosing.class_names)) == (800, 200, 74, 37)
    assert not set(sources(choosing.train)) & set(sources(choosing.val))
    assert sources(final.train) == sources(choosing.train) + sources(choosing.val)
    assert sources(final.val) == sources(choosing.val)
    assert final.train.labels.tolist() == [*choosing.train.labels, *choosing.val.labels]
    again = vtab.listing("vtab:pets", tmp_path, tmp_path)
    assert sources(again.train) == sources(choosing.train)
    counts = np.bincount(choosing.train.labels, minlength=37)
    assert counts.std() > 1  # drawn at random, as VTAB's first 800 are, not class by class


def test_a_thousand_images_in_two_parts_are_one_split(tmp_path: Path) -> None:
    write_pets(tmp_path)
    train = vtab.listing("vtab:pets:1000", tmp_path, tmp_path).train
    for index in (0, 799, 800, 999):
        assert train.read(index).decode() == Path(train.source(index)).stem
        breed = Path(train.source(index)).stem.rpartition("_")[0].replace("_", " ")
        assert pets.CLASSES[train.labels[index]] == breed
    chosen = train.select(np.array([900, 5, 900]))
    assert sources(chosen) == [train.source(900), train.source(5), train.source(900)]
    assert chosen.labels.tolist() == train.labels[[900, 5, 900]].tolist()
    assert sources(chosen.select(np.array([1]))) == [train.source(5)]


def cifar100(seed: int = 0) -> Splits:
    generator = torch.Generator().manual_seed(seed)

    def split(count: int) -> Split:
        images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
        return Split(images, torch.arange(count) % 100)

    return Splits("cifar100", 100, tuple(map(str, range(100))), 32, split(900), split(300), split(20), "sum")


def test_cifar100_is_handed_out_as_png_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = cifar100()
    monkeypatch.setattr(cifar, "load", lambda name, data_root, cache: splits)
    found = vtab.listing("vtab:cifar100", None, tmp_path)
    assert (len(found.train), len(found.val), len(found.test)) == (800, 200, 20)
    for index in range(20):
        assert decode(found.test.read(index), "x").equal(splits.test.images[index])
        with Image.open(io.BytesIO(found.test.read(index))) as image:
            assert image.size == (32, 32)
    assert found.test.labels.tolist() == splits.test.labels.tolist()
    known = {image.numpy().tobytes(): int(label) for image, label in zip(*vars(splits.train).values(), strict=True)}
    for index in (0, 400, 799):
        assert known[decode(found.train.read(index), "x").numpy().tobytes()] == found.train.labels[index]
    assert found.val.source(3) == "cifar100 val, image 3"


def write_folders(root: Path, classes: int, each: int = 130) -> None:
    for half, count in (("train", each), ("test", 2)):
        for label in range(classes):
            folder = root / "vtab" / "eurosat" / half / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.jpg").write_text("x")


def test_other_tasks_are_read_from_class_folders(tmp_path: Path) -> None:
    write_folders(tmp_path, 10)
    found = vtab.listing("vtab:eurosat", tmp_path, tmp_path)
    assert (len(found.train), len(found.val), len(found.test), len(found.class_names)) == (800, 200, 20, 10)


def test_data_that_do_not_fit_the_task(tmp_path: Path) -> None:
    write_folders(tmp_path, 9)
    with pytest.raises(UserError, match=r"eurosat has 9 classes: VTAB's EuroSAT has 10"):
        vtab.listing("vtab:eurosat", tmp_path, tmp_path)
    write_pets(tmp_path, 20)
    with pytest.raises(UserError, match=r"vtab:pets needs 800 images of a part of .* that has only 666"):
        vtab.listing("vtab:pets", tmp_path, tmp_path)


def test_data_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vtab:dmlab is not in --data_root=.*vtab/dmlab/train: class folders of DMLab"):
        vtab.listing("vtab:dmlab", tmp_path, tmp_path)
    with pytest.raises(UserError, match=r"pets is not in --data_root=.*make data DATA=pets"):
        vtab.listing("vtab:pets", tmp_path, tmp_path)


def test_the_real_pets_are_too_few(real_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs 800 images"):
        vtab.listing("vtab:pets", real_data, tmp_path)
