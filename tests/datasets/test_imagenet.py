"""ImageNet: class folders, flat validation images with each source of labels, archives, and all of them broken."""

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from torchvision.datasets import imagenet as theirs

from vision_repro.config import UserError
from vision_repro.datasets import fetch, ilsvrc, ilsvrc_archives, imagenet, imagenette, wordnet
from vision_repro.files.listing import Files

IDS = wordnet.imagenet_1k()
KIT_ORDER = np.random.RandomState(0).permutation(1000)  # the kit numbers the classes in an order of its own
TRUTH = np.random.RandomState(1).randint(1, 1001, 50_000)  # the kit's label of each validation image
SOME = tuple(IDS[number] for number in (0, 217, 482, 999))


def meta() -> bytes:
    """The kit's table: the thousand classes, and a few inner nodes of WordNet behind them."""
    rows = [(number + 1, IDS[place], 0) for number, place in enumerate(KIT_ORDER)]
    rows += [(1001, "n00001740", 2), (1002, "n00001930", 3)]
    kinds = [(name, object) for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children")]
    table = np.array([(number, wnid, "some, words", "a gloss", leaf, []) for number, wnid, leaf in rows], dtype=kinds)
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"synsets": table.reshape(-1, 1)}, do_compression=True)
    return buffer.getvalue()


META = meta()
LINES = "".join(f"{label}\n" for label in TRUTH).encode()


def wnid(number: int) -> str:
    """The class of validation image `number`, said slowly."""
    return IDS[KIT_ORDER[TRUTH[number - 1] - 1]]


def put(path: Path, content: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_train(root: Path, count: int = 30) -> None:
    for word in SOME:
        for number in range(count):
            put(root / "train" / word / f"{word}_{number}.JPEG")


def write_flat(root: Path) -> list[int]:
    numbers = [1, 2, 3, 777, 50_000]
    for number in numbers:
        put(root / "val" / f"ILSVRC2012_val_{number:08}.JPEG")
    return numbers


def put_kit_archive(root: Path) -> None:
    with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        for name, content in (("meta.mat", META), ("ILSVRC2012_validation_ground_truth.txt", LINES)):
            member = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/data/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def put_kit_folder(root: Path) -> None:
    put(root / "ILSVRC2012_devkit_t12" / "data" / "meta.mat", META)
    put(root / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt", LINES)


def put_kit_files(root: Path) -> None:
    put(root / "meta.mat", META)
    put(root / "ILSVRC2012_validation_ground_truth.txt", LINES)


def put_csv(root: Path) -> None:
    rows = (f"ILSVRC2012_val_{number:08},{wnid(number)} 1 2 30 40 \n" for number in range(50_000, 0, -1))
    put(root / "LOC_val_solution.csv", ("ImageId,PredictionString\n" + "".join(rows)).encode())


def listing(root: Path) -> imagenet.Listing:
    return imagenet.listing("imagenet", root, root / "cache")


def test_class_folders_get_the_thousand_official_numbers(tmp_path: Path) -> None:
    write_train(tmp_path / "imagenet")
    for word in SOME[1:]:
        put(tmp_path / "imagenet" / "val" / word / "ILSVRC2012_val_00000007.JPEG")
    found = listing(tmp_path)
    assert (len(found.train), len(found.val), len(found.test), len(found.class_names)) == (116, 4, 3, 1000)
    assert found.test.labels.tolist() == [217, 482, 999]
    assert found.val.labels.tolist() == [0, 217, 482, 999]
    assert [found.class_names[label] for label in (0, 217)] == [
        "tench, Tinca tinca",
        "English springer, English springer spaniel",
    ]
    assert all(IDS[found.train.labels[i]] in found.train.source(i) for i in range(116))


@pytest.mark.parametrize("put_labels", [put_kit_archive, put_kit_folder, put_kit_files, put_csv])
@pytest.mark.parametrize("above", [".", "ILSVRC/Data/CLS-LOC", "imagenet-1k"])
def test_flat_validation_images(tmp_path: Path, put_labels: Callable[[Path], None], above: str) -> None:
    root = tmp_path / ("imagenet" if above == "." else above)
    write_train(root)
    numbers = write_flat(root)
    put_labels(root if above == "." else tmp_path)
    found = listing(tmp_path)
    assert [IDS[label] for label in found.test.labels] == [wnid(number) for number in numbers]
    assert [ilsvrc.number(found.test.source(i)) for i in range(5)] == numbers
    assert (len(found.train), len(found.val)) == (116, 4)
    assert found.test.read(0) == b"x"


def test_the_kit_is_read_as_torchvision_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_kit_archive(tmp_path)
    content = (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").read_bytes()
    about = {"devkit": ("ILSVRC2012_devkit_t12.tar.gz", hashlib.md5(content).hexdigest())}
    monkeypatch.setattr(theirs, "ARCHIVE_META", about)
    theirs.parse_devkit_archive(tmp_path)
    _, val_wnids = torch.load(tmp_path / "meta.bin", weights_only=True)
    assert ilsvrc.from_kit(META, LINES, "the kit") == val_wnids


def test_two_layouts_of_the_same_images_have_the_same_val(tmp_path: Path) -> None:
    write_train(tmp_path / "a" / "imagenet")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    write_flat(tmp_path / "a" / "imagenet")
    put_csv(tmp_path / "a" / "imagenet")
    put(tmp_path / "b" / "imagenet" / "val" / SOME[0] / "ILSVRC2012_val_00000001.JPEG")
    put(tmp_path / "b" / "imagenet" / "val" / SOME[1] / "ILSVRC2012_val_00000002.JPEG")
    flat, folders = listing(tmp_path / "a"), listing(tmp_path / "b")
    assert isinstance(flat.val, Files)
    assert isinstance(folders.val, Files)
    assert flat.val.names.tolist() == folders.val.names.tolist()
    assert flat.checksum != folders.checksum


def test_the_known_sizes() -> None:
    sizes = imagenet.SIZES["imagenet"]
    assert sizes.train is not None
    assert sizes.val == round(1_281_167 / 100)
    assert sizes.train + sizes.val == 1_281_167  # tensorflow/datasets, imagenet2012
    assert (sizes.test, sizes.classes) == (50_000, len(IDS))
    assert list(IDS) == sorted(IDS)


def test_imagenet21k_has_as_many_classes_as_folders_and_no_test_of_its_own(tmp_path: Path) -> None:
    for word in ("n00004475", "n00005787", "n00000000"):
        for number in range(10):
            put(tmp_path / "imagenet21k" / "train" / word / f"{number}.JPEG")
    found = imagenet.listing("imagenet21k", tmp_path, tmp_path / "cache")
    assert (len(found.train), len(found.val), len(found.test)) == (24, 3, 3)
    assert found.class_names == ("n00000000", "organism, being", "benthos")


def test_class_names_are_timms() -> None:
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    assert (tuple(info.label_names()), tuple(info.label_descriptions())) == (IDS, wordnet.readable(IDS))


def test_real_imagenette(real_data: Path, tmp_path: Path) -> None:
    found = imagenette.listing("imagenette", real_data, tmp_path)
    assert (len(found.train), len(found.val), len(found.test)) == (2970, 30, 600)
    assert np.bincount(found.test.labels).tolist() == [60] * 10
    assert found.class_names[0] == "tench"
    assert "n01440764" in found.test.source(0)
    assert set(imagenette.CLASSES) <= set(IDS)
    with pytest.raises(UserError, match=r"imagenette-160 is not in --data_root=.*imagenette2-160/train; `make data"):
        imagenette.listing("imagenette-160", real_data, tmp_path)


def test_a_part_of_imagenette_has_ten_classes(tmp_path: Path) -> None:
    for word in list(imagenette.CLASSES)[8:]:
        for number in range(5):
            put(tmp_path / "imagenette2" / "train" / word / f"{number}.JPEG")
            put(tmp_path / "imagenette2" / "val" / word / f"{number}.JPEG")
    found = imagenette.listing("imagenette-full", tmp_path, tmp_path)
    assert (set(found.test.labels.tolist()), len(found.class_names)) == ({8, 9}, 10)


# --- faults ---


def lose_labels(root: Path) -> str:
    (root / "LOC_val_solution.csv").unlink()
    return r"their labels are missing: put ILSVRC2012_devkit_t12.tar.gz .* into .*imagenet\."


def cut_csv(root: Path) -> str:
    path = root / "LOC_val_solution.csv"
    path.write_bytes(path.read_bytes()[:1_000_000])
    return r"LOC_val_solution.csv (has labels for \d+ validation images: expected 50000|names)|is no validation image"


def garbage_csv(root: Path) -> str:
    (root / "LOC_val_solution.csv").write_bytes(os.urandom(3000))
    return r"LOC_val_solution.csv|is no validation image of ImageNet"


def unknown_class(root: Path) -> str:
    path = root / "LOC_val_solution.csv"
    path.write_text(path.read_text().replace(f",{wnid(5)} ", ",n99999999 "))
    return r'name the class "n99999999"'


def odd_number(root: Path) -> str:
    put(root / "val" / "ILSVRC2012_val_00050001.JPEG")
    return r"ILSVRC2012_val_00050001.JPEG is no validation image of ImageNet"


def cut_archive(root: Path) -> str:
    (root / "LOC_val_solution.csv").unlink()
    put_kit_archive(root)
    path = root / "ILSVRC2012_devkit_t12.tar.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    return r"ILSVRC2012_devkit_t12.tar.gz(, meta.mat)? is no whole"


def other_archive(root: Path) -> str:
    (root / "LOC_val_solution.csv").unlink()
    with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("something"), io.BytesIO())
    return r"is no whole development kit"


def cut_truth(root: Path) -> str:
    (root / "LOC_val_solution.csv").unlink()
    put_kit_files(root)
    (root / "ILSVRC2012_validation_ground_truth.txt").write_bytes(LINES[: len(LINES) // 2].rsplit(b"\n", 1)[0])
    return r"has labels for \d+ validation images: expected 50000"


def wrong_truth(root: Path) -> str:
    (root / "LOC_val_solution.csv").unlink()
    put_kit_files(root)
    (root / "ILSVRC2012_validation_ground_truth.txt").write_bytes(LINES + b"1003\n")
    return r'holds the label "1003"'


def other_meta(root: Path) -> str:
    (root / "LOC_val_solution.csv").unlink()
    put_kit_files(root)
    scipy.io.savemat(root / "meta.mat", {"synsets": np.arange(3)})
    return r"meta.mat has no table of synsets"


def other_folder(root: Path) -> str:
    put(root / "train" / "n01440765" / "1.JPEG")
    return r'train has the class folder "n01440765", which is none of the 1000 WordNet ids.*Did you mean "n0144076'


def empty_class(root: Path) -> str:
    shutil.rmtree(root / "train" / SOME[1])
    (root / "train" / SOME[1]).mkdir()
    return rf"train/{SOME[1]} holds no images"


FAULTS = [value for name, value in sorted(globals().items()) if name.split("_")[0] in
          ("lose", "cut", "garbage", "unknown", "odd", "other", "wrong", "empty") and callable(value)]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_data_get_one_clear_error(tmp_path: Path, fault: Callable[[Path], str]) -> None:
    root = tmp_path / "imagenet"
    write_train(root)
    write_flat(root)
    put_csv(root)
    words = fault(root)
    with pytest.raises(UserError, match=words) as caught:
        listing(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_data_are_not_offered_for_download(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"need an account at image-net.org, and `make data DATA=imagenet` unpacks"):
        listing(tmp_path)


# --- archives ---


def tar_of(path: Path, members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    if path.name != "-":
        put(path, buffer.getvalue())
    return buffer.getvalue()


def write_archives(root: Path, monkeypatch: pytest.MonkeyPatch, **members: bytes) -> Path:
    inner = {
        f"{word}.tar": tar_of(Path("-"), {f"{word}_{number}.JPEG": os.urandom(5000) for number in range(30)})
        for word in SOME
    }
    train = tar_of(root / "ILSVRC2012_img_train.tar", {**inner, **members})
    val = tar_of(root / "ILSVRC2012_img_val.tar", {f"ILSVRC2012_val_{number:08}.JPEG": b"x" for number in range(1, 9)})
    put_kit_archive(root)
    sums = {"train": hashlib.md5(train).hexdigest(), "val": hashlib.md5(val).hexdigest()}
    known = {half: (name, sums[half]) for half, (name, _) in ilsvrc_archives.ARCHIVES.items()}
    monkeypatch.setattr(ilsvrc_archives, "ARCHIVES", known)
    return root / "ILSVRC2012_img_train.tar"


@pytest.mark.parametrize("place", [".", "imagenet"])
def test_archives_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "imagenet").mkdir()
    write_archives(tmp_path / place, monkeypatch)
    said: list[str] = []
    fetch.fetch("imagenet", tmp_path, tmp_path / "cache", said.append)
    found = listing(tmp_path)
    assert (len(found.train), len(found.val), len(found.test)) == (116, 4, 8)
    assert len(found.train.read(0)) == 5000
    assert "116 training, 4 val and 8 test images; that is not all of it, which has 1,268,355" in said[-1]
    assert not list((tmp_path / "imagenet").glob("*.tmp"))


def test_an_interrupted_unpacking_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archives(tmp_path, monkeypatch)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"ILSVRC2012_img_train.tar cannot be unpacked"):
        fetch.fetch("imagenet", tmp_path, tmp_path / "cache", lambda line: None)
    assert not (tmp_path / "imagenet" / "train").exists()
    kept = tmp_path / "imagenet" / ".train.tmp" / SOME[0]
    before = kept.stat().st_ino
    archive.write_bytes(whole)
    fetch.fetch("imagenet", tmp_path, tmp_path / "cache", lambda line: None)
    assert (tmp_path / "imagenet" / "train" / SOME[0]).stat().st_ino == before
    assert len(listing(tmp_path).train) == 116


def test_another_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archives(tmp_path, monkeypatch)
    content = bytearray(archive.read_bytes())
    content[1500] ^= 1  # inside the first image, behind two headers
    archive.write_bytes(content)
    with pytest.raises(UserError, match=r"ILSVRC2012_img_train.tar is not ImageNet's or is damaged \(its MD5 is not"):
        fetch.fetch("imagenet", tmp_path, tmp_path / "cache", lambda line: None)
    assert [path.name for path in (tmp_path / "imagenet").iterdir()] == [".unpack.lock"]


@pytest.mark.parametrize("name", ["readme.txt", "../n01440764.tar", "n01440764.tar.gz"])
def test_an_archive_with_other_members_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write_archives(tmp_path, monkeypatch, **{name: b"x"})
    with pytest.raises(UserError, match=r"expected archives such as n01440764.tar, found"):
        fetch.fetch("imagenet", tmp_path, tmp_path / "cache", lambda line: None)


def test_an_inner_archive_cannot_reach_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = tar_of(Path("-"), {"../../../evil": b"x"})
    write_archives(tmp_path, monkeypatch, **{"n03000684.tar": evil})
    with pytest.raises(UserError, match=r"cannot be unpacked .*outside the destination"):
        fetch.fetch("imagenet", tmp_path, tmp_path / "cache", lambda line: None)
    assert not list(tmp_path.rglob("evil*"))


def test_without_archives_the_error_says_which_file_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=rf"ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, .* {tmp_path}/imagenet"
    ):
        fetch.fetch("imagenet", tmp_path, tmp_path / "cache", lambda line: None)
    with pytest.raises(UserError, match=r"imagenet21k: put its class folders into imagenet21k/train"):
        fetch.fetch("imagenet21k", tmp_path, tmp_path / "cache", lambda line: None)
