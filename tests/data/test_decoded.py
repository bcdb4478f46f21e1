"""Decoded images on disk: the same pixels, built once, whole or not at all."""

import errno
import io
import json
import multiprocessing
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from vision_repro.augmentation import crops
from vision_repro.config import UserError
from vision_repro.data import decoded
from vision_repro.data.batches import Decoding
from vision_repro.data.config import DataConfig
from vision_repro.data.streamed import StreamedData
from vision_repro.files.listing import Listing, scan
from vision_repro.store.atomic import DiskFullError

# workers are forked by torch, whatever threads other tests left behind
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@dataclass
class Counted:
    """An `Encoded` of files in memory that counts its reads in a folder, across processes, and can be slow."""

    files: list[bytes]
    log: Path
    seconds: float = 0.0
    labels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> bytes:
        time.sleep(self.seconds)
        with self.log.open("ab") as file:
            file.write(f"{index}\n".encode())
        return self.files[index]

    def source(self, index: int) -> str:
        return f"images.parquet, row {index}"

    def select(self, indices: npt.NDArray[np.int64]) -> "Counted":
        raise NotImplementedError


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.RandomState(seed).randint(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((20 + seed, 60 - seed)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Ten images of different shapes, for shards of four."""
    monkeypatch.setattr(decoded, "SHARD", 4)
    monkeypatch.setattr(decoded, "_SAMPLE", 2)
    return Counted([jpeg(seed) for seed in range(10)], tmp_path / "log")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return decoded.place(tmp_path, "0" * 64, "train")


def same(encoded: Counted, read: decoded.Decoded) -> bool:
    direct = Decoding(encoded)
    return all(read(index).equal(direct(index)) for index in range(len(encoded)))


def reads(encoded: Counted) -> Counter[int]:
    lines = encoded.log.read_text().split() if encoded.log.exists() else []
    encoded.log.unlink(missing_ok=True)
    return Counter(int(line) for line in lines)


@pytest.mark.parametrize("workers", [0, 2])
def test_pixels_are_those_of_the_files(encoded: Counted, folder: Path, workers: int) -> None:
    said: list[str] = []
    read = decoded.decoded(encoded, folder, workers=workers, report=said.append)
    assert same(encoded, read)
    assert sorted(path.name for path in folder.iterdir()) == [f"{number:06}.shard" for number in range(3)]
    assert said[0].startswith(f"Decoding 10 images once into {folder}")


def test_nothing_is_read_again(encoded: Counted, folder: Path) -> None:
    decoded.decoded(encoded, folder, workers=0)
    assert max(reads(encoded).values()) == 2  # once for the estimate of the space
    assert same(encoded, decoded.decoded(encoded, folder, workers=0)) is True
    reads(encoded)
    decoded.decoded(encoded, folder, workers=0)(3)
    assert not reads(encoded)


def test_training_and_evaluation_do_not_change_by_a_bit(real_data: Path, tmp_path: Path) -> None:
    listing = scan(real_data / "imagenette-224")
    some = np.arange(0, 2900, 40)
    listing = Listing(
        listing.class_names, listing.train.select(some), listing.val, listing.test.select(some[:8]), "1" * 64, ""
    )
    found = []
    for kept in (False, True):
        config = DataConfig("some", image_size=96, train_size=len(some), global_batch=16, steps=6, seed=1)
        config = replace(config, augmentation="inception", decoded_cache=kept, cache=tmp_path)
        made = StreamedData(config, listing)
        loaders = (made.train_dataloader(), made.val_dataloader(), made.test_dataloader(), made.pool_dataloader())
        found.append([torch.cat([batch.images for batch in loader]) for loader in loaders])
    assert all(one.equal(other) for one, other in zip(*found, strict=True))
    kept_splits = sorted(path.name for path in (tmp_path / "decoded1-1111111111111111").iterdir() if path.is_dir())
    assert kept_splits == ["train", "val"]


@pytest.mark.parametrize("policy", crops.POLICIES)
def test_crops_from_the_map_leave_the_files_alone(encoded: Counted, folder: Path, policy: str) -> None:
    read = decoded.decoded(encoded, folder, workers=0)
    before = [path.read_bytes() for path in sorted(folder.iterdir())]
    for index in range(10):
        image = read(index)
        expected = crops.POLICIES[policy](Decoding(encoded)(index), (2, index), size=24, seed=5)
        assert crops.POLICIES[policy](image, (2, index), size=24, seed=5).equal(expected)
        image.fill_(0)  # copy-on-write
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == before


# --- faults ---


def test_bad_images_keep_their_sentence(encoded: Counted, folder: Path) -> None:
    encoded.files[5] = encoded.files[5][:-100]
    with pytest.raises(UserError) as direct:
        Decoding(encoded)(5)
    read = decoded.decoded(encoded, folder, workers=0)
    with pytest.raises(UserError) as kept:
        read(5)
    assert str(kept.value) == str(direct.value)
    assert read(6).equal(Decoding(encoded)(6))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def longer(path: Path) -> None:
    path.write_bytes(b"more" + path.read_bytes())


def fewer(path: Path) -> None:
    """A shard that is right in itself, of other images."""
    about = json.dumps({"shapes": [[1, 1]], "faults": {}}).encode()
    path.write_bytes(b"\0\0\0" + about + len(about).to_bytes(8, "little"))


@pytest.mark.parametrize("damage", [Path.unlink, cut, empty, garbage, longer, fewer])
def test_only_damaged_shards_are_made_again(encoded: Counted, folder: Path, damage: Callable[[Path], Any]) -> None:
    decoded.decoded(encoded, folder, workers=0)
    reads(encoded)
    damage(folder / "000001.shard")
    decoded._open.cache_clear()
    read = decoded.decoded(encoded, folder, workers=0)
    assert set(reads(encoded)) - {0, 9} == {4, 5, 6, 7}  # 0 and 9: the estimate
    assert same(encoded, read)


def build(encoded: Counted, folder: Path, workers: int) -> None:
    os.setsid()
    decoded.decoded(encoded, folder, workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_build_goes_on_where_it_was(encoded: Counted, folder: Path, workers: int) -> None:
    encoded.files = [jpeg(seed % 40) for seed in range(41)]
    encoded.seconds = 0.02
    process = multiprocessing.get_context("fork").Process(target=build, args=(encoded, folder, workers))
    process.start()
    deadline = time.monotonic() + 30
    while len(list(folder.glob("*.shard"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.pid
    os.killpg(process.pid, 9)
    process.join()
    done = {path.name for path in folder.glob("*.shard")}
    assert 3 <= len(done) < 11
    reads(encoded)
    encoded.seconds = 0
    read = decoded.decoded(encoded, folder, workers=0)
    missing = {index for index in range(41) if f"{index // 4:06}.shard" not in done}
    assert set(reads(encoded)) - {0, 40} == missing - {0, 40}
    assert same(encoded, read)
    assert {path.suffix for path in folder.iterdir()} == {".shard"}


def test_processes_that_ask_at_once_build_once(encoded: Counted, folder: Path) -> None:
    encoded.seconds = 0.01
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=build, args=(encoded, folder, 0)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert reads(encoded).total() == 12
    assert same(encoded, decoded.decoded(encoded, folder, workers=0))


def test_a_disk_that_is_too_small_is_not_even_started_on(
    encoded: Counted, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 50, 50))  # type: ignore[attr-defined]
    with pytest.raises(
        DiskFullError, match=r"needs about .* GiB and has 4.66e-08 GiB: free some, name a --cache"
    ) as caught:
        decoded.decoded(encoded, folder, workers=0)
    assert "\n" not in str(caught.value)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_leaves_nothing(
    encoded: Counted, folder: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = decoded._Writer._write

    def write(self: Any, path: Path, indices: range) -> None:
        real(self, path, indices)
        if 8 in indices:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(decoded._Writer, "_write", write)
    with pytest.raises(DiskFullError, match=r"The disk of .*train became full: free some.*Nothing of it is used\."):
        decoded.decoded(encoded, folder, workers=0)
    assert not folder.exists()
    monkeypatch.undo()
    monkeypatch.setattr(decoded, "SHARD", 4)
    assert same(encoded, decoded.decoded(encoded, folder, workers=0))


def test_a_folder_that_cannot_be_written(encoded: Counted, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: Any, path: Path, indices: range) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(decoded._Writer, "_write", write)
    with pytest.raises(UserError, match=r"train cannot be written \(Permission denied\): give another --cache"):
        decoded.decoded(encoded, folder, workers=0)
