"""Flowers-102 in small files of the original format and in class folders; the real Flowers-17 folders; broken files."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from torchvision import datasets

from vision_repro.config import UserError
from vision_repro.datasets import flowers
from vision_repro.files import matlab
from vision_repro.files.listing import Files

COUNTS = {"trnid": 2, "valid": 1, "tstid": 3}  # images a class


def write(root: Path, folder: str = "flowers-102", **changes: object) -> Path:
    """Writes jpg/, imagelabels.mat and setid.mat, with images that hold their own names."""
    place = root / folder
    (place / "jpg").mkdir(parents=True)
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(1, 103), sum(COUNTS.values())))
    places = np.argsort(labels, kind="stable").reshape(102, -1) + 1
    cuts = np.cumsum([0, *COUNTS.values()])
    parts = {name: places[:, a:b].ravel() for name, a, b in zip(COUNTS, cuts, cuts[1:], strict=False)}
    for number in range(1, len(labels) + 1):
        (place / "jpg" / f"image_{number:05}.jpg").write_text(str(number))
    save(place / "imagelabels.mat", labels=changes.pop("labels", labels))
    save(place / "setid.mat", **{name: changes.pop(name, part) for name, part in parts.items()})
    return place


def save(path: Path, **arrays: object) -> None:
    """As the authors did: uint8 labels and uint16 numbers, each one row."""
    kinds = {"labels": np.uint8}
    rows = {name: np.atleast_2d(np.asarray(value)).astype(kinds.get(name, np.uint16)) for name, value in arrays.items()}
    scipy.io.savemat(path, rows, do_compression=True)


def names(files: object) -> list[str]:
    assert isinstance(files, Files)
    return [os.fsdecode(bytes(name)) for name in files.names]


@pytest.mark.parametrize("folder", ["flowers-102", "flowers"])
def test_the_original_layout_as_torchvision_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    place = write(tmp_path, folder)
    found = flowers.listing("flowers", tmp_path, tmp_path / "cache")
    assert [len(part) for part in (found.train, found.val, found.test)] == [204, 102, 306]
    assert np.bincount(found.train.labels).tolist() == [2] * 102
    monkeypatch.setattr(datasets.Flowers102, "_check_integrity", lambda self: True)
    (tmp_path / "flowers-102").exists() or place.rename(tmp_path / "flowers-102")
    for split, part in (("train", found.train), ("val", found.val), ("test", found.test)):
        oracle = datasets.Flowers102(tmp_path, split=split)
        expected = {path.name: label for path, label in zip(oracle._image_files, oracle._labels, strict=True)}
        assert dict(zip(names(part), part.labels.tolist(), strict=True)) == expected
    assert tuple(datasets.Flowers102.classes) == found.class_names


def test_sizes_are_the_official_ones() -> None:
    sizes = flowers.SIZES["flowers"]
    assert (sizes.train, sizes.val, sizes.test, sizes.classes) == (1_020, 1_020, 6_149, len(set(flowers.CLASSES)))
    assert flowers.COUNT == 1_020 + 1_020 + 6_149


def test_a_part_of_the_set_still_has_102_classes(tmp_path: Path) -> None:
    place = write(tmp_path, trnid=[3], valid=[4], tstid=[5, 6])
    for path in (place / "jpg").iterdir():
        if path.name > "image_00006.jpg":
            path.unlink()
    found = flowers.listing("flowers", tmp_path, tmp_path / "cache")
    assert ([len(part) for part in (found.train, found.val, found.test)], len(found.class_names)) == ([1, 1, 2], 102)


def write_folders(root: Path, *classes: str) -> None:
    for half, count in (("train", 20), ("test", 2)):
        for name in classes:
            for number in range(count):
                path = root / "flowers" / half / name / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("x")


def test_class_folders_by_name_or_number(tmp_path: Path) -> None:
    write_folders(tmp_path, "Colts Foot", "blackberry-lily", "1")
    found = flowers.listing("flowers", tmp_path, tmp_path / "cache")
    assert sorted(set(found.train.labels.tolist())) == [0, 11, 101]
    assert [found.class_names[label] for label in sorted(set(found.test.labels.tolist()))] == [
        "pink primrose",
        "colt's foot",
        "blackberry lily",
    ]
    assert (len(found.train), len(found.val), len(found.test)) == (54, 6, 6)


def test_class_folders_of_other_flowers(tmp_path: Path) -> None:
    write_folders(tmp_path, "sunflower", "bluebell")
    with pytest.raises(UserError, match=r'the class "bluebell", which is none of the 102.*--dataset=folder'):
        flowers.listing("flowers", tmp_path, tmp_path / "cache")


def test_real_flowers17(real_data: Path, tmp_path: Path) -> None:
    found = flowers.listing("flowers17", real_data, tmp_path)
    assert (len(found.train), len(found.val), len(found.test)) == (648, 72, 240)
    assert np.bincount(found.val.labels).tolist() == [6] * 12
    assert {found.class_names[label] for label in found.test.labels} == set(found.class_names)
    assert "bluebell" in found.class_names  # a class that Flowers-102 does not have
    assert all(Path(found.test.source(i)).parent.name == found.class_names[found.test.labels[i]] for i in range(240))
    assert found.train.read(0)[:2] == b"\xff\xd8"


# --- faults ---


def cut(name: str, left: float) -> Callable[[Path], str]:
    def fault(place: Path) -> str:
        path = place / name
        path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
        return rf"{name} (is no whole .mat file|lacks the variable)"

    return fault


def pickle_instead(place: Path) -> str:
    (place / "setid.mat").write_bytes(b"cos\nsystem\n(S'touch exploded'\ntR." * 10)
    return r"setid.mat is no whole .mat file"


def lose(name: str, words: str) -> Callable[[Path], str]:
    def fault(place: Path) -> str:
        (place / name).unlink()
        return words

    return fault


def rewrite(words: str, file: str, **arrays: object) -> Callable[[Path], str]:
    def fault(place: Path) -> str:
        save(place / file, **arrays)
        return words

    return fault


FAULTS = [
    cut("setid.mat", 0.5), cut("imagelabels.mat", 0.9), cut("setid.mat", 0.0), pickle_instead,
    lose("imagelabels.mat", r"imagelabels.mat cannot be read \(No such file"),
    lose("jpg/image_00007.jpg", r"jpg/image_00007.jpg is missing: unpack"),
    rewrite(r"holds the label 103: expected 1 to 102", "imagelabels.mat", labels=[103] * 612),
    rewrite(r"holds the label 0: expected 1 to 102", "imagelabels.mat", labels=[0] + [1] * 611),
    rewrite(r"lacks the variable tstid", "setid.mat", trnid=[1], valid=[2]),
    rewrite(r"names an image twice", "setid.mat", trnid=[1, 2], valid=[2], tstid=[3]),
    rewrite(r"beyond the 612 of imagelabels.mat", "setid.mat", trnid=[1], valid=[2], tstid=[613]),
    rewrite(r"names an image twice, or one beyond", "setid.mat", trnid=[0], valid=[2], tstid=[3]),
    rewrite(r"holds uint16 \(2, 2\)", "setid.mat", trnid=[[1, 2], [3, 4]], valid=[5], tstid=[6]),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_data_get_one_clear_error(tmp_path: Path, fault: Callable[[Path], str]) -> None:
    words = fault(write(tmp_path))
    with pytest.raises(UserError, match=words) as caught:
        flowers.listing("flowers", tmp_path, tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_missing_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"flowers is not in --data_root=.*make data DATA=flowers"):
        flowers.listing("flowers", tmp_path, tmp_path / "cache")
    with pytest.raises(UserError, match=r"flowers17 is not in --data_root=.*flowers-12/train\.$"):
        flowers.listing("flowers17", tmp_path, tmp_path / "cache")


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_mat_files_are_read_or_refused(tmp_path: Path, compressed: bool) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"trnid": np.arange(500, dtype=np.uint16)}, do_compression=compressed)
    whole = (tmp_path / "x.mat").read_bytes()
    random = np.random.RandomState(0)
    outcomes = set()
    for _ in range(150):
        content = bytearray(whole)
        for place in random.randint(0, len(whole), 3):
            content[place] = random.randint(256)
        try:
            matlab.integers(matlab.read(bytes(content), ["trnid"], "x.mat")["trnid"], "x.mat")
            outcomes.add("read")
        except UserError as error:
            outcomes.add(str(error).split(" ")[0])
    assert outcomes == ({"x.mat"} if compressed else {"x.mat", "read"})  # zlib has a checksum, bare numbers have none
