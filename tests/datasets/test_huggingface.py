"""Data sets in tables: real CIFAR-10 parquet files, small tables of each kind, the hub's library offline, faults."""

import io
import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vision_repro.config import UserError
from vision_repro.datasets import huggingface
from vision_repro.files import hub, rows

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def cell(number: int) -> bytes:
    return b"image %d " % number * (number + 1)


def table(
    numbers: range | list[int], labels: Any = None, image: str = "image", label: str = "label", **extra: Any
) -> Any:
    """A table whose images say their number and whose labels are number % 3, described as Hugging Face does."""
    labels = [number % 3 for number in numbers] if labels is None else labels
    cells = pa.array([{"bytes": cell(number), "path": f"{number}.jpg"} for number in numbers], IMAGE)
    columns = {"id": pa.array(list(numbers)), image: cells, label: pa.array(labels), **extra}
    about = {
        "info": {"features": {image: {"_type": "Image"}, label: {"_type": "ClassLabel", "names": ["a", "b", "c"]}}}
    }
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(about)})


def write(path: Path, content: Any, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, path, **options)


def write_set(folder: Path) -> None:
    """90 training images in two files of several blocks, 9 for validation, 12 for testing."""
    write(folder / "data" / "train-00000-of-00002.parquet", table(range(50)), row_group_size=20)
    write(folder / "data" / "train-00001-of-00002.parquet", table(range(50, 90)), row_group_size=7)
    write(folder / "data" / "validation-00000-of-00001.parquet", table(range(100, 109)))
    write(folder / "data" / "test-00000-of-00001.parquet", table(range(200, 212)))


def listing(root: Path, name: str = "hf:set") -> huggingface.Listing:
    return huggingface.listing(name, root, root / "cache")


def numbers(part: Any) -> list[int]:
    """The images of a split, read one by one; their labels must be theirs."""
    found = [int(part.read(index).split(b" ")[1]) for index in range(len(part))]
    assert all(part.read(index) == cell(number) for index, number in enumerate(found))
    assert part.labels.tolist() == [number % 3 for number in found]
    return found


def test_all_images_come_back_with_their_labels(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    found = listing(tmp_path)
    assert (numbers(found.train), numbers(found.val), numbers(found.test)) == (
        list(range(90)),
        list(range(100, 109)),
        list(range(200, 212)),
    )
    assert found.class_names == ("a", "b", "c")
    assert found.train.labels.dtype == np.int64
    assert found.source == str(tmp_path / "set")
    assert found.train.source(60).endswith("train-00001-of-00002.parquet, row 10")
    assert isinstance(found.train, rows.Rows)
    assert found.train.name(60) == "60.jpg"
    assert numbers(found.train.select(np.array([61, 3, 3]))) == [61, 3, 3]
    assert numbers(pickle.loads(pickle.dumps(found.test))) == list(range(200, 212))


def test_tables_are_turned_into_arrow_files_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "set")
    first = listing(tmp_path)
    monkeypatch.setattr(rows, "_convert", None)
    assert listing(tmp_path).checksum == first.checksum
    shutil.copytree(tmp_path / "set", tmp_path / "moved")
    moved = listing(tmp_path, "hf:moved")
    assert moved.checksum == first.checksum
    assert numbers(moved.test) == list(range(200, 212))
    assert len(list((tmp_path / "cache" / "arrow").glob("*.arrow"))) == 4


def test_changed_tables_are_read_anew(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    before = listing(tmp_path)
    write(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", table(range(300, 312)))
    after = listing(tmp_path)
    assert numbers(after.test) == list(range(300, 312))
    assert after.checksum != before.checksum


@pytest.mark.parametrize(
    ("files", "sizes"),
    [
        (("train", "validation", "test"), (90, 9, 12)),
        (("train", "test"), (87, 3, 12)),  # val is 1 % of train, and at least an image a class
        (("train", "validation"), (87, 3, 9)),  # as ImageNet's, the one split beside train is the test split
        (("train",), (84, 3, 3)),
    ],
)
def test_missing_splits_are_dealt_from_train(tmp_path: Path, files: tuple[str, ...], sizes: tuple[int, ...]) -> None:
    write_set(tmp_path / "set")
    for path in (tmp_path / "set" / "data").iterdir():
        if path.name.split("-")[0] not in files:
            path.unlink()
    found = listing(tmp_path)
    assert (len(found.train), len(found.val), len(found.test)) == sizes
    every = numbers(found.train) + numbers(found.val) + numbers(found.test)
    assert len(set(every)) == len(every) == sum(sizes)


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train-00000-of-00001.parquet", "train"),
        ("data/test.parquet", "test"),
        ("x/train/0000.parquet", "train"),
        ("validation/0.parquet", "val"),
        ("my_dev.parquet", "val"),
        ("images-valid-1.parquet", "val"),
        ("contest/part.parquet", "train"),
        ("eval.parquet", "test"),
        ("test/training.parquet", "train"),
    ],
)
def test_splits_are_told_by_words(path: str, split: str) -> None:
    assert huggingface._split(Path(path)) == split


def test_a_test_split_without_labels_is_left_out(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    write(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", table(range(200, 212), [-1] * 12))
    found = listing(tmp_path)
    assert (len(found.train), len(found.val), len(found.test)) == (87, 3, 9)
    assert numbers(found.test) == list(range(100, 109))


def plain(content: Any) -> Any:
    return content.replace_schema_metadata(None)


def test_columns_without_description_are_found_by_type_and_name(tmp_path: Path) -> None:
    bare = pa.table({"jpg": pa.array([cell(n) for n in range(30)]), "cls": pa.array([n % 3 for n in range(30)])})
    write(tmp_path / "set" / "train.parquet", bare)
    found = listing(tmp_path)
    assert len(numbers(found.train)) == 24
    assert found.class_names == ("0", "1", "2")
    assert isinstance(found.train, rows.Rows)
    assert found.train.name(0) == ""


def test_columns_can_be_said(tmp_path: Path) -> None:
    other = pa.array([{"bytes": b"", "path": None}] * 60, IMAGE)
    content = table(range(60), image="photo", label="kind", mask=other, colour=pa.array([0] * 60))
    write(tmp_path / "set" / "train.parquet", plain(content))
    assert len(numbers(listing(tmp_path, "hf:set:photo:kind").train)) == 54
    with pytest.raises(UserError, match=r"hf:set has the columns id, photo, kind, mask, colour: say which"):
        listing(tmp_path)
    with pytest.raises(UserError, match=r'has no column "foto": expected one of .* Did you mean "photo"'):
        listing(tmp_path, "hf:set:foto:kind")


def test_labels_in_words(tmp_path: Path) -> None:
    words = ["cat", "ant", "bee"]
    write(tmp_path / "set" / "train.parquet", plain(table(range(30), [words[n % 3] for n in range(30)])))
    write(tmp_path / "set" / "test.parquet", plain(table(range(30, 33), ["bee", "cat", "ant"])))
    found = listing(tmp_path)
    assert found.class_names == ("ant", "bee", "cat")
    assert found.test.labels.tolist() == [1, 2, 0]


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_files_are_read_in_place(tmp_path: Path, stream: bool) -> None:
    for split, part in (("train", range(60)), ("test", range(60, 66))):
        path = tmp_path / "set" / split / "data-00000-of-00001.arrow"
        path.parent.mkdir(parents=True)
        content = table(part)
        open_writer = pa.ipc.new_stream if stream else pa.ipc.new_file
        with pa.OSFile(str(path), "wb") as sink, open_writer(sink, content.schema) as writer:
            writer.write_table(content, max_chunksize=13)
    found = listing(tmp_path)
    assert numbers(found.test) == list(range(60, 66))
    assert len(numbers(found.train)) == 57
    assert not (tmp_path / "cache").exists()


def test_real_cifar10(real_data: Path, tmp_path: Path) -> None:
    found = huggingface.listing("hf:cifar10", real_data, tmp_path)
    assert (len(found.train), len(found.val), len(found.test)) == (49_500, 500, 10_000)
    assert np.bincount(found.test.labels).tolist() == [1000] * 10
    assert found.class_names[3] == "cat"
    content = pq.read_table(next((real_data / "cifar10").glob("test*"))).slice(4321, 1).to_pylist()[0]
    assert found.test.read(4321) == content["img"]["bytes"]
    assert found.test.labels[4321] == content["label"]
    with Image.open(io.BytesIO(found.train.read(0))) as image:
        assert image.size == (32, 32)


# --- faults ---


def cut(left: float) -> Callable[[Path], str]:
    def fault(folder: Path) -> str:
        path = folder / "data" / "train-00001-of-00002.parquet"
        path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
        return r"train-00001-of-00002.parquet is no whole parquet file"

    return fault


def garbage(folder: Path) -> str:
    path = folder / "data" / "train-00001-of-00002.parquet"
    content = bytearray(path.read_bytes())
    content[4:600] = np.random.RandomState(0).bytes(596)
    path.write_bytes(content)
    return r"train-00001-of-00002.parquet cannot be read"


def bad_label(folder: Path) -> str:
    write(folder / "data" / "test-00000-of-00001.parquet", table(range(3), [0, 3, 1]))
    return r"set, test, holds the label 3 \(image 1\): expected 0 to 2"


def no_label(folder: Path) -> str:
    write(folder / "data" / "train-00000-of-00002.parquet", table(range(3), [0, None, 1]))
    return r"set, train, holds the label -1 \(image 1\)"


def labels_in_lists(folder: Path) -> str:
    for path in folder.rglob("*.parquet"):
        write(path, table(range(3), [[0], [1], [2]]))
    return r"its labels are of type list<.*: expected one whole number or word"


def other_columns(folder: Path) -> str:
    write(folder / "data" / "test-00000-of-00001.parquet", table(range(3), label="labels"))
    return r"its test tables have the columns \['id', 'image', 'labels'\]"


def empty_table(folder: Path) -> str:
    write(folder / "data" / "test-00000-of-00001.parquet", table(range(0), pa.array([], pa.int64())))
    return r"has no rows in its test tables"


def no_train(folder: Path) -> str:
    for path in folder.rglob("train*"):
        path.unlink()
    return r'has no table with "train" in its name'


def script(folder: Path) -> str:
    shutil.rmtree(folder / "data")
    (folder / "set.py").write_text("raise SystemExit")
    return r"set.py is a script: data sets that run a program to load are not read; bring them as parquet"


def nothing(folder: Path) -> str:
    shutil.rmtree(folder / "data")
    return r"holds no tables: expected parquet or Arrow files"


FAULTS = [cut(0.0), cut(0.5), cut(0.99), garbage, bad_label, no_label, labels_in_lists, other_columns, empty_table,
          no_train, script, nothing]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_data_get_one_clear_error(tmp_path: Path, fault: Callable[[Path], str]) -> None:
    write_set(tmp_path / "set")
    words = fault(tmp_path / "set")
    with pytest.raises(UserError, match=words) as caught:
        listing(tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.tmp"))


def test_images_that_are_missing_are_empty_or_not_read(tmp_path: Path) -> None:
    cells = [{"bytes": None, "path": None}, None, {"bytes": None, "path": str(tmp_path / "gone.jpg")}] * 10
    content = pa.table({"image": pa.array(cells, IMAGE), "label": pa.array([n % 3 for n in range(30)])})
    write(tmp_path / "set" / "train.parquet", content)
    found = listing(tmp_path)
    by_class = {int(label): index for index, label in enumerate(found.train.labels)}
    assert found.train.read(by_class[0]) == found.train.read(by_class[1]) == b""
    with pytest.raises(OSError, match="No such file"):
        found.train.read(by_class[2])


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "set")
    monkeypatch.setattr(rows.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match=r"does not fit once more on the disk"):
        listing(tmp_path)


@pytest.mark.parametrize("name", ["hf:", "hf::image", "cifar10", "hf:a:b:c:d"])
def test_names_that_are_none(name: str) -> None:
    assert not huggingface.PATTERN.fullmatch(name)
    with pytest.raises(UserError, match=r"is no data set in tables: expected hf:<source>"):
        huggingface.listing(name, None, Path("cache"))


def test_names_that_are() -> None:
    assert huggingface._parse("hf:a/b@c::label") == ("a/b@c", "", "label")
    assert all(huggingface.PATTERN.fullmatch(name) for name in huggingface.EXAMPLES)


# --- the hub ---


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The datasets library, without network and with a cache of its own."""
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    datasets.disable_progress_bars()
    return datasets


def test_what_the_library_built_is_read_without_it(
    tmp_path: Path, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(tmp_path / "upstream")
    original = library.load_dataset_builder
    monkeypatch.setattr(library, "load_dataset_builder", lambda path, name: original(str(tmp_path / "upstream")))
    said: list[str] = []
    huggingface.prepare("hf:owner/set", tmp_path / "nowhere", tmp_path / "cache", said.append)
    monkeypatch.setitem(sys.modules, "datasets", None)
    found = huggingface.listing("hf:owner/set", None, tmp_path / "cache")
    assert numbers(found.test) == list(range(200, 212))
    assert (numbers(found.train), numbers(found.val)) == (list(range(90)), list(range(100, 109)))
    assert found.class_names == ("a", "b", "c")
    assert "will hold it" in said[0]
    shutil.rmtree(tmp_path / "hf")
    with pytest.raises(UserError, match=r"is gone; `make data DATA=hf:owner/set` fetches owner/set"):
        huggingface.listing("hf:owner/set", None, tmp_path / "cache")


def test_without_network_the_error_says_what_to_do(tmp_path: Path, library: Any) -> None:
    with pytest.raises(UserError, match=r"hf:owner/set: it is in no folder .* was not fetched; `make data DATA=hf:"):
        huggingface.listing("hf:owner/set", tmp_path, tmp_path / "cache")
    with pytest.raises(UserError, match=r"hf:owner/set could not be fetched .* put its parquet files into owner/set/"):
        huggingface.prepare("hf:owner/set", tmp_path, tmp_path / "cache", print)


def test_scripts_are_refused(tmp_path: Path, library: Any) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "set.py").write_text("raise SystemExit")
    with pytest.raises(
        UserError, match=r"needs a script to load, and no such program is run here: bring it as parquet"
    ):
        hub.fetch("hf:set", str(tmp_path / "set"), tmp_path / "cache", print)


def test_without_the_library_local_tables_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    write_set(tmp_path / "set")
    assert len(listing(tmp_path).train) == 90
    with pytest.raises(UserError, match=r"comes by the datasets library: install it, or bring parquet files"):
        huggingface.prepare("hf:owner/set", tmp_path, tmp_path / "cache", print)


@pytest.mark.parametrize("content", ["", "[]", '{"val": ["/x"]}', '{"train": 3}'])
def test_a_broken_note_counts_as_not_fetched(tmp_path: Path, content: str) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "owner--set.json").write_text(content)
    with pytest.raises(UserError, match=r"was not fetched|/x is gone"):
        hub.fetched("hf:owner/set", "owner/set", tmp_path)
