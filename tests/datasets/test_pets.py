"""Oxford-IIIT Pet: the real part of it, a whole set of empty files in the original layout, and broken annotations."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import OxfordIIITPet

from vision_repro.config import UserError
from vision_repro.datasets import pets
from vision_repro.files.listing import SAMPLED, Files


def write(root: Path, trainval: int = 10, test: int = 4, classes: int = 37) -> Path:
    """Writes the original layout with images that hold their own names."""
    folder = root / "oxford-iiit-pet"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for half, numbers in (("trainval", range(trainval)), ("test", range(100, 100 + test))):
        lines = []
        for label, breed in enumerate(pets.CLASSES[:classes], 1):
            for number in numbers:
                image = f"{breed.replace(' ', '_')}_{number}"
                (folder / "images" / f"{image}.jpg").write_text(image)
                lines.append(f"{image} {label} {1 + breed[0].islower()} 1\n")
        (folder / "annotations" / f"{half}.txt").write_text("".join(lines))
    return folder


def names(files: object) -> list[str]:
    assert isinstance(files, Files)
    return [os.fsdecode(bytes(name)) for name in files.names]


def test_real_pets(real_data: Path, tmp_path: Path) -> None:
    found = pets.listing("pets", real_data, tmp_path)
    assert (len(found.train), len(found.val), len(found.test), len(found.class_names)) == (270, 30, 298, 37)
    assert np.bincount(found.val.labels).tolist() == [10, 10, 0, 0, 0, 10]
    oracle = OxfordIIITPet(real_data / "pets-3", split="test")
    expected = {path.name: label for path, label in zip(oracle._images, oracle._labels, strict=True)}
    assert dict(zip(names(found.test), found.test.labels.tolist(), strict=True)) == expected
    assert found.test.read(5) == oracle._images[names(found.test).index(oracle._images[5].name)].read_bytes()
    assert found.source == str(real_data / "pets-3" / "oxford-iiit-pet")


@pytest.mark.parametrize("below", [".", "pets", "pets-3"])
def test_the_original_layout_of_37_classes(tmp_path: Path, below: str) -> None:
    write(tmp_path / below, trainval=100 if below == "." else 10)
    found = pets.listing("pets", tmp_path, tmp_path / "cache")
    total = 3_700 if below == "." else 370
    assert (len(found.train), len(found.val), len(found.test)) == (total - total // 10, total // 10, 148)
    assert np.bincount(found.val.labels).tolist() == [total // 370] * 37
    assert not {*names(found.train)} & {*names(found.val)}
    for part in (found.train, found.val, found.test):
        breeds = [name.rpartition("_")[0].replace("_", " ") for name in names(part)]
        assert breeds == [found.class_names[label] for label in part.labels]


def test_the_official_counts_give_the_known_sizes() -> None:
    sizes = pets.SIZES["pets"]
    assert (sizes.train, sizes.val, sizes.test) == (3_680 - 368, 368, 3_669)  # ViT, Table 2's data; val 10 %, B.1.1
    assert len(set(pets.CLASSES)) == sizes.classes == 37
    assert sum(name[0].isupper() for name in pets.CLASSES) == 12  # cats, by the annotations' own convention


def test_the_split_and_the_checksum_are_the_same_for_everybody(tmp_path: Path) -> None:
    folder = write(tmp_path)
    first = pets.listing("pets", tmp_path, tmp_path / "cache")
    shutil.copytree(tmp_path / "oxford-iiit-pet", tmp_path / "elsewhere" / "pets" / "oxford-iiit-pet")
    second = pets.listing("pets", tmp_path / "elsewhere", tmp_path / "cache")
    assert first.checksum == second.checksum
    assert names(first.val) == names(second.val)
    (folder / "images" / "pug_0.jpg").write_text("another size")
    assert pets.listing("pets", tmp_path, tmp_path / "cache").checksum != first.checksum


WATCHED: dict[str, list[str]] = {}


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and "opened" in WATCHED:
        WATCHED["opened"].append(str(arguments[0]))


def test_only_the_sample_of_the_fingerprint_is_opened(tmp_path: Path) -> None:
    write(tmp_path)
    sys.addaudithook(_watch)
    WATCHED["opened"] = []
    pets.listing("pets", tmp_path, tmp_path / "cache")
    opened = WATCHED.pop("opened")
    names = [Path(path).name for path in opened if str(tmp_path) in path]
    assert names[:2] == ["trainval.txt", "test.txt"]
    assert len(names) <= 2 + 3 * SAMPLED
    assert len(set(names)) == len(names)


def test_what_make_data_fetched_is_found(tmp_path: Path) -> None:
    write(tmp_path / "cache" / "data" / "pets")
    assert len(pets.listing("pets", None, tmp_path / "cache").test) == 148
    (tmp_path / "root").mkdir()
    assert len(pets.listing("pets", tmp_path / "root", tmp_path / "cache").test) == 148


def lose_image(folder: Path) -> str:
    (folder / "images" / "beagle_3.jpg").unlink()
    return r"images/beagle_3.jpg is missing: unpack"


def lose_images(folder: Path) -> str:
    shutil.rmtree(folder / "images")
    return r"images/Abyssinian_0.jpg is missing and 369 other images"


def lose_test(folder: Path) -> str:
    (folder / "annotations" / "test.txt").unlink()
    return r"annotations/test.txt cannot be read"


def change(old: str, new: str) -> Callable[[Path], str]:
    def fault(folder: Path) -> str:
        path = folder / "annotations" / "trainval.txt"
        path.write_text(path.read_text().replace(old, new))
        return rf'trainval.txt, line \d+, "{new}.*'

    return fault


def empty(folder: Path) -> str:
    (folder / "annotations" / "trainval.txt").write_text("# nothing\n\n")
    return r"trainval.txt names no images"


def garbage(folder: Path) -> str:
    (folder / "annotations" / "trainval.txt").write_bytes(os.urandom(500) + b"\xff")
    return r"trainval.txt cannot be read|expected an image and its class"


def leak(folder: Path) -> str:
    with (folder / "annotations" / "test.txt").open("a") as file:
        file.write("pug_3 26 2 1\n")
    return r"name pug_3.jpg in trainval.txt and in test.txt"


def too_few(folder: Path) -> str:
    path = folder / "annotations" / "trainval.txt"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "_0 " in line))
    return r"has only 37 training images"


FAULTS = [
    lose_image, lose_images, lose_test, empty, garbage, leak, too_few,
    change("pug_3 26 ", "pug_3 38 "), change("pug_3 26 ", "pug_3 0 "), change("pug_3 26 ", "pug_3 x "),
    change("pug_3 26 2 1", "pug_3"), change("pug_3 26 ", "pug_3 25 "),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_data_get_one_clear_error(tmp_path: Path, fault: Callable[[Path], str]) -> None:
    words = fault(write(tmp_path))
    with pytest.raises(UserError, match=words) as caught:
        pets.listing("pets", tmp_path, tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_missing_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pets is not in --data_root=.*; `make data DATA=pets` fetches it"):
        pets.listing("pets", tmp_path, tmp_path / "cache")
    with pytest.raises(UserError, match=r"pets needs --data_root .* that holds pets/oxford-iiit-pet/annotations"):
        pets.listing("pets", None, tmp_path / "cache")
