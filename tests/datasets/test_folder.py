"""Class folders: real Imagenette, small folders written here, and broken ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import vision_repro.data as data
from vision_repro.augmentation.batch import Batch
from vision_repro.config import UserError
from vision_repro.data.config import DataConfig
from vision_repro.data.streamed import StreamedData
from vision_repro.files import listing

# workers are forked by torch, whatever threads other tests left behind
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def write_image(path: Path, seed: int, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.random.RandomState(seed).randint(0, 256, (4, 4, 3), dtype=np.uint8))
    image.resize(size).convert(mode).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, 12 training and 3 test images each, some of them odd."""
    for split, count in (("train", 12), ("val", 3)):
        for label, name in enumerate(("apple", "zebra")):
            for number in range(count):
                write_image(tmp_path / "own" / split / name / f"{number:02}.jpg", 100 * label + number)
    write_image(tmp_path / "own" / "train" / "apple" / "20.JPEG", 20, "L")
    write_image(tmp_path / "own" / "train" / "apple" / "21.jpg", 21, "CMYK")
    write_image(tmp_path / "own" / "train" / "apple" / "22.png", 22, "RGBA", (7, 90))
    (tmp_path / "own" / "train" / "apple" / "notes.txt").write_text("no image")
    return tmp_path / "own"


def module(root: Path, name: str = "folder", **changes: Any) -> StreamedData:
    settings: dict[str, Any] = {
        "image_size": 16,
        "train_size": 20,
        "seed": 3,
        "global_batch": 8,
        "steps": 6,
        "augmentation": "inception",
        "data_root": root,
        "cache": root / "cache",
        "eval_batch": 4,
        "workers": 0,
    }
    made = data.datamodule(DataConfig(name, **{**settings, **changes}))
    assert isinstance(made, StreamedData)
    return made


def joined(loader: Any) -> tuple[Tensor, Tensor]:
    batches: list[Batch] = list(loader)
    assert len(batches) <= len(loader)
    return torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])


def test_every_image_becomes_three_channels_of_the_right_size(root: Path) -> None:
    made = module(root, train_size=25)
    images, labels = joined(made.pool_dataloader())
    assert images.shape == (25, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert labels.bincount().tolist() == [14, 11]
    assert (made.expected("train"), made.expected("val"), made.expected("test"), made.classes) == (25, 2, 6, 2)
    train = made.listing.train
    grey = next(i for i in range(25) if train.path(i).name == "20.JPEG")
    position = made.subset.tolist().index(grey)
    assert (images[position] == images[position][:1]).all()


def test_val_is_carved_from_train_and_the_rest_is_disjoint(root: Path) -> None:
    splits = listing.scan(root)
    train, val = ({bytes(name) for name in part.names} for part in (splits.train, splits.val))
    assert not train & val
    assert len(train | val) == 27
    assert splits.val.labels.tolist() == [0, 1]
    assert listing.scan(root).checksum == splits.checksum


def test_without_a_test_folder_test_is_carved_too(root: Path) -> None:
    with_folder = listing.scan(root)
    (root / "val").rename(root / "elsewhere")
    splits = listing.scan(root)
    parts = [{bytes(name) for name in part.names} for part in (splits.train, splits.val, splits.test)]
    assert [len(part) for part in parts] == [23, 2, 2]
    assert len(set.union(*parts)) == 27
    assert splits.val.names.tolist() == with_folder.val.names.tolist()
    assert splits.checksum != with_folder.checksum


def test_unknown_file_names_survive(root: Path) -> None:
    write_image(root / "train" / "zebra" / "zèbre é.jpg", 5)
    splits = listing.scan(root)
    paths = [part.path(i) for part in (splits.train, splits.val) for i in range(len(part.labels))]
    assert all(path.is_file() for path in paths)


# --- faults ---


def fault_cut(root: Path) -> str:
    path = root / "val" / "zebra" / "01.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    return "zebra/01.jpg is no whole image"


def fault_garbage(root: Path) -> str:
    (root / "val" / "zebra" / "01.jpg").write_bytes(b"garbage")
    return "zebra/01.jpg is no whole image"


def fault_empty(root: Path) -> str:
    (root / "val" / "zebra" / "01.jpg").write_bytes(b"")
    return "zebra/01.jpg is empty"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fault", [fault_cut, fault_garbage, fault_empty])
def test_a_corrupt_image_gives_one_error_with_its_path(root: Path, fault: Any, workers: int) -> None:
    words = fault(root)
    with pytest.raises(UserError, match=words) as caught:
        list(module(root, workers=workers).test_dataloader())
    assert "\n" not in str(caught.value)


def test_an_image_that_vanishes(root: Path) -> None:
    made = module(root)
    (root / "val" / "zebra" / "01.jpg").unlink()
    with pytest.raises(UserError, match=r"zebra/01.jpg cannot be read \(No such file"):
        list(made.test_dataloader())


def lose_train(root: Path) -> str:
    (root / "train").rename(root / "elsewhere")
    return "folder is not in --data_root=.*own/train"


def lose_classes(root: Path) -> str:
    (root / "train" / "zebra").rename(root / "zebra")
    return "train has 1 class folders"


def lose_images(root: Path) -> str:
    for path in (root / "train" / "zebra").iterdir():
        path.unlink()
    return "train/zebra holds no images"


def lose_test_images(root: Path) -> str:
    for path in (root / "val").glob("*/*"):
        path.unlink()
    return "val holds no images"


def gain_class(root: Path) -> str:
    (root / "val" / "monkey").mkdir()
    return 'val has the class "monkey", which train has not'


@pytest.mark.parametrize("fault", [lose_train, lose_classes, lose_images, lose_test_images, gain_class])
def test_folders_that_are_no_data_set_are_refused(root: Path, fault: Any) -> None:
    words = fault(root)
    with pytest.raises(UserError, match=words):
        module(root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_size": 26}, "--train_size=26 is too large: the training split has 25"),
        ({"train_size": 1}, "--train_size=1 is too small"),
        ({"image_size": 0}, "--image_size=0 does not fit"),
        ({"data_root": None}, "folder needs --data_root"),
    ],
)
def test_impossible_settings_are_refused(root: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        module(root, **change)


def test_streamed_folders_are_not_loaded_into_memory(root: Path) -> None:
    with pytest.raises(UserError, match="streamed"):
        data.load("folder", root, root / "cache")


@pytest.mark.slow
def test_real_imagenette(real_data: Path, tmp_path: Path) -> None:
    made = module(real_data, "imagenette", image_size=64, train_size=100, global_batch=32, steps=2, workers=2)
    assert (made.classes, made.expected("val"), made.expected("test")) == (10, 30, 600)
    images, labels = joined(made.test_dataloader())
    assert images.shape == (600, 3, 64, 64)
    assert labels.bincount().tolist() == [60] * 10
    assert joined(made.train_dataloader())[0].shape == (64, 3, 64, 64)
