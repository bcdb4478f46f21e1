"""CIFAR from real parquet files, and from small files in each original format; broken ones get one clear error."""

import hashlib
import io
import json
import pickle
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision import datasets

import vision_repro.data as data
from vision_repro.config import UserError
from vision_repro.datasets import cifar
from vision_repro.files import download
from vision_repro.files.download import Remote
from vision_repro.files.splits import Splits

Pixels = npt.NDArray[np.uint8]


def pixels(count: int) -> Pixels:
    return np.random.RandomState(0).randint(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def png(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path: Path, cells: list[bytes], labels: list[int], label: str = "label", names: Any = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    images = pa.array([{"bytes": cell, "path": None} for cell in cells], kind)
    table = pa.table({"img": images, label: pa.array(labels)})
    if names:
        about = {"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    pq.write_table(table, path)


def write_both(root: Path, name: str, label: str = "label", names: Any = None) -> Pixels:
    images = pixels(120)
    for half, part in (("train", slice(0, 100)), ("test", slice(100, 120))):
        numbers = [i % 10 for i in range(120)][part]
        write_parquet(root / name / f"{half}-0.parquet", [png(image) for image in images[part]], numbers, label, names)
    return images


def restored(splits: Splits) -> dict[bytes, int]:
    """Image bytes in height x width x channel order -> label, of train and val together."""
    images = torch.cat([splits.train.images, splits.val.images]).permute(0, 2, 3, 1).contiguous().numpy()
    labels = torch.cat([splits.train.labels, splits.val.labels]).tolist()
    return {image.tobytes(): label for image, label in zip(images, labels, strict=True)}


@pytest.mark.slow
def test_real_cifar10(real_data: Path, tmp_path: Path) -> None:
    found = data.load("cifar10", real_data, tmp_path)
    assert (len(found.train), len(found.val), len(found.test)) == (49_000, 1_000, 10_000)
    assert found.val.labels.bincount().tolist() == [100] * 10
    assert found.test.labels.bincount().tolist() == [1000] * 10
    assert found.class_names[:3] == ("airplane", "automobile", "bird")
    row = pq.read_table(next((real_data / "cifar10").glob("test*"))).slice(123, 1).to_pylist()[0]
    oracle = np.array(Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB")).transpose(2, 0, 1)
    difference = np.abs(found.test.images[123].numpy().astype(int) - oracle)
    assert difference.max() <= 1  # two JPEG libraries
    assert int(found.test.labels[123]) == row["label"]
    assert data.load("cifar10", real_data, tmp_path).checksum == found.checksum


@pytest.mark.parametrize(("name", "label"), [("cifar10", "label"), ("cifar100", "fine_label")])
def test_parquet_png_comes_back_to_the_bit(tmp_path: Path, name: str, label: str) -> None:
    names = [f"class {number}" for number in range(cifar.CLASSES[name])]
    images = write_both(tmp_path, name, label, names=names)
    found = data.load(name, tmp_path, tmp_path / "cache")
    assert restored(found) == {image.tobytes(): i % 10 for i, image in enumerate(images[:100])}
    assert found.test.images.numpy().transpose(0, 2, 3, 1).tobytes() == images[100:].tobytes()
    assert found.class_names == tuple(names)
    assert (len(found.val), found.classes) == (2, cifar.CLASSES[name])


def test_parquet_in_a_deeper_folder_and_without_names(tmp_path: Path) -> None:
    write_both(tmp_path, "cifar10/plain_text")
    assert not (tmp_path / "cifar10" / "train-0.parquet").exists()
    assert data.load("cifar10", tmp_path, tmp_path / "cache").class_names == tuple("0123456789")


def break_truncated(root: Path) -> str:
    path = root / "cifar10" / "train-0.parquet"
    path.write_bytes(path.read_bytes()[:-500])
    return r"train-0.parquet cannot be read as parquet"


def break_garbage_inside(root: Path) -> str:
    path = root / "cifar10" / "test-0.parquet"
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    return r"test-0.parquet"


def break_image(root: Path) -> str:
    cells = [png(image) for image in pixels(100)]
    cells[7] = cells[7][:300]
    write_parquet(root / "cifar10" / "train-0.parquet", cells, [0] * 100)
    return r"train-0.parquet, image 7, is no whole image"


def break_empty_image(root: Path) -> str:
    write_parquet(root / "cifar10" / "train-0.parquet", [b""], [0])
    return r"train-0.parquet, image 0, is empty"


def break_size(root: Path) -> str:
    write_parquet(root / "cifar10" / "train-0.parquet", [png(pixels(1)[0, :16])], [0])
    return r"image 0, has 32x16 pixels: expected 32x32"


def break_label(root: Path) -> str:
    write_parquet(root / "cifar10" / "train-0.parquet", [png(image) for image in pixels(11)], list(range(11)))
    return r"cifar10 holds the label 10 \(image 10\): expected 0 to 9"


def break_missing_label(root: Path) -> str:
    write_parquet(root / "cifar10" / "train-0.parquet", [png(pixels(1)[0])], [None])  # type: ignore[list-item]
    return r"cifar10 holds the label -1"


def break_columns(root: Path) -> str:
    pq.write_table(pa.table({"x": [1]}), root / "cifar10" / "train-0.parquet")
    return r"has the columns \['x'\]"


def break_test_missing(root: Path) -> str:
    (root / "cifar10" / "test-0.parquet").unlink()
    return r"cifar10 is incomplete"


def break_all_missing(root: Path) -> str:
    for path in (root / "cifar10").iterdir():
        path.unlink()
    return r"cifar10 holds no cifar10: expected train\*.parquet"


FAULTS = [value for name, value in sorted(globals().items()) if name.startswith("break_")]


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_parquet_gets_one_error_with_its_path(tmp_path: Path, fault: Any) -> None:
    write_both(tmp_path, "cifar10")
    words = fault(tmp_path)
    with pytest.raises(UserError, match=words) as caught:
        data.load("cifar10", tmp_path, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("cifar10-*/*"))


# --- torchvision's folder and archive ---


def write_batches(root: Path, monkeypatch: pytest.MonkeyPatch) -> Pixels:
    """Writes cifar-100-python as its authors did, with the checksums that torchvision expects replaced by its own."""
    folder, images = root / "cifar-100-python", pixels(300)
    folder.mkdir(parents=True)
    rows = images.transpose(0, 3, 1, 2).reshape(300, -1)
    numbers = [i % 100 for i in range(300)]
    contents = {
        "train": {"data": rows[:200], "fine_labels": numbers[:200], "coarse_labels": [0] * 200},
        "test": {"data": rows[200:], "fine_labels": numbers[200:], "coarse_labels": [0] * 100},
        "meta": {"fine_label_names": [f"fine {number}" for number in range(100)]},
    }
    sums = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": sums["meta"]})
    return images


def write_archive(root: Path, monkeypatch: pytest.MonkeyPatch) -> Pixels:
    images = write_batches(root / "unpacked", monkeypatch)
    with tarfile.open(root / "cifar-100-python.tar.gz", "w:gz") as tar:
        tar.add(root / "unpacked" / "cifar-100-python", "cifar-100-python")
    serve_as(monkeypatch, "file:///nowhere", hashlib.md5((root / "cifar-100-python.tar.gz").read_bytes()).hexdigest())
    return images


def serve_as(monkeypatch: pytest.MonkeyPatch, folder: str, md5: str) -> None:
    file = "cifar-100-python.tar.gz"
    monkeypatch.setitem(cifar.SOURCES, "cifar100", (Remote(f"{folder}/{file}", file, None, md5),))


def check(found: Splits, images: Pixels) -> None:
    assert restored(found) == {image.tobytes(): i % 100 for i, image in enumerate(images[:200])}
    assert found.test.images.numpy().transpose(0, 2, 3, 1).tobytes() == images[200:].tobytes()
    assert (found.class_names[99], len(found.train), len(found.val)) == ("fine 99", 196, 4)


def test_torchvisions_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_batches(tmp_path, monkeypatch)
    check(data.load("cifar100", tmp_path, tmp_path / "cache"), images)


@pytest.mark.parametrize("file", ["train", "test", "meta"])
def test_torchvisions_folder_is_not_unpickled_unless_its_checksum_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    write_batches(tmp_path, monkeypatch)
    bomb = b"cos\nsystem\n(S'touch " + str(tmp_path / "exploded").encode() + b"'\ntR."
    (tmp_path / "cifar-100-python" / file).write_bytes(bomb)
    with pytest.raises(UserError, match="cifar-100-python is incomplete or corrupt"):
        data.load("cifar100", tmp_path, tmp_path / "cache")
    assert not (tmp_path / "exploded").exists()


def test_archive_is_read_where_it_lies_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_archive(tmp_path, monkeypatch)
    before = sorted(tmp_path.rglob("*"))
    check(data.load("cifar100", tmp_path, tmp_path / "cache"), images)
    assert sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts) == before
    assert len(list((tmp_path / "cache").iterdir())) == 2  # the arrays and their lock


def test_truncated_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(tmp_path, monkeypatch)
    path = tmp_path / "cifar-100-python.tar.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"cifar-100-python.tar.gz is incomplete or corrupt"):
        data.load("cifar100", tmp_path, tmp_path / "cache")


def test_download_is_checked_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_archive(tmp_path / "server", monkeypatch)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "server"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        md5 = cifar.SOURCES["cifar100"][0].checksum
        serve_as(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}", md5)
        (tmp_path / "root").mkdir()
        check(data.load("cifar100", tmp_path / "root", tmp_path / "cache"), images)
        server.shutdown()
    check(data.load("cifar100", None, tmp_path / "cache"), images)


def test_without_network_the_error_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_as(monkeypatch, "file:///nowhere", "0" * 32)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    for root in (tmp_path, None):
        words = r"file:///nowhere/cifar-100-python.tar.gz could not be fetched .* put it into " + str(
            tmp_path / "cache"
        )
        with pytest.raises(UserError, match=words):
            data.load("cifar100", root, tmp_path / "cache")


def test_what_is_downloaded_is_torchvisions() -> None:
    for name, kind in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        remote = cifar.SOURCES[name][0]
        assert (remote.url, remote.file, remote.checksum) == (kind.url, kind.filename, kind.tgz_md5)


def test_prepare_says_what_it_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(tmp_path / "server", monkeypatch)
    serve_as(monkeypatch, (tmp_path / "server").as_uri(), cifar.SOURCES["cifar100"][0].checksum)
    said: list[str] = []
    cifar.prepare("cifar100", None, tmp_path / "cache", said.append)
    assert "cifar-100-python.tar.gz of unknown size, from file:" in said[0]
    assert said[-1] == "cifar100 is decoded: 196 training, 4 val, 100 test images"
    assert data.load("cifar100", None, tmp_path / "cache").class_names[99] == "fine 99"
