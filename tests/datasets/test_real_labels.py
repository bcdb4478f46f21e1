"""ReaL labels: the published ones, small lists written here, and accuracy by hand and by timm's evaluator."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from timm.data.real_labels import RealLabelsImagenet

from vision_repro.config import UserError
from vision_repro.datasets import huggingface, real_labels
from vision_repro.files.listing import Files

LISTS: list[list[int]] = [[1, 2], [], [3], [999], *[[7]] * 49_996]


def files(*numbers: int) -> Files:
    names = np.array([f"n01440764/ILSVRC2012_val_{number:08}.JPEG".encode() for number in numbers])
    return Files(Path("val"), names, np.zeros(len(numbers), dtype=np.int64))


def written(folder: Path, content: object) -> Path:
    path = folder / "real.json"
    path.write_text(json.dumps(content))
    return path


def test_the_published_labels() -> None:
    sets = real_labels.read()
    assert len(sets) == 50_000
    assert (sum(map(len, sets)), sum(map(bool, sets))) == (57_553, real_labels.SIZE)  # as Beyer et al. 2020 count them
    assert sets[1] == {970, 795}  # the file's second line
    table = real_labels.targets(files(1, 2, 3), sets)
    assert [np.flatnonzero(row).tolist() for row in table] == [[], [795, 970], [230, 231]]


def test_images_are_matched_by_their_number_and_the_empty_ones_left_out(tmp_path: Path) -> None:
    sets = real_labels.read(written(tmp_path, LISTS))
    table = real_labels.targets(files(4, 1, 2, 3, 50_000), sets)
    assert table.shape == (5, 1000)
    predictions = [999, 2, 2, 4, 7]  # right, right, not counted, wrong, right
    assert real_labels.count(predictions, table) == (3, 4)
    assert real_labels.accuracy(predictions, table) == 0.75


def test_accuracy_is_timms(tmp_path: Path) -> None:
    names = [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, 50_001)]
    theirs = RealLabelsImagenet(names, str(written(tmp_path, LISTS)), topk=(1,))
    logits = torch.randn(64, 1000, generator=torch.Generator().manual_seed(0))
    logits[:, 7] += 3
    theirs.add_result(logits)
    table = real_labels.targets(files(*range(1, 65)), real_labels.read(tmp_path / "real.json"))
    assert real_labels.accuracy(logits.argmax(1).numpy(), table) == pytest.approx(theirs.get_accuracy(1) / 100)
    assert 0 < theirs.get_accuracy(1) < 100


def test_images_in_tables_are_matched_by_the_names_they_had(tmp_path: Path) -> None:
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells = [{"bytes": b"x", "path": f"ILSVRC2012_val_{number:08}_n01440764.JPEG"} for number in (3, 2, 1) * 4]
    table = pa.table({"image": pa.array(cells, kind), "label": [0, 1, 2] * 4})
    (tmp_path / "set").mkdir()
    for name in ("train", "validation", "test"):
        pq.write_table(table, tmp_path / "set" / f"{name}.parquet")
    found = huggingface.listing("hf:set", tmp_path, tmp_path / "cache")
    rows = real_labels.targets(found.test, real_labels.read(written(tmp_path, LISTS)))
    assert [np.flatnonzero(row).tolist() for row in rows[:3]] == [[3], [], [1, 2]]


def replace(index: int, value: object) -> Callable[[], list[object]]:
    return lambda: [*LISTS[:index], value, *LISTS[index + 1 :]]


@pytest.mark.parametrize(
    "content",
    [
        lambda: LISTS[:-1],
        lambda: {},
        replace(0, [1000]),
        replace(5, [-1]),
        replace(9, 3),
        replace(9, ["3"]),
        replace(9, [True]),
        replace(9, [1.0]),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: Callable[[], object]) -> None:
    with pytest.raises(UserError, match=r"real.json is not real.json: expected 50000 lists of class numbers 0 to 999"):
        real_labels.read(written(tmp_path, content()))


def test_broken_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"real.json cannot be read \(No such file"):
        real_labels.read(tmp_path / "real.json")
    path = written(tmp_path, LISTS)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"real.json is no JSON"):
        real_labels.read(path)


@pytest.mark.parametrize("number", [0, 50_001])
def test_images_that_are_not_of_the_validation_set(number: int) -> None:
    with pytest.raises(UserError, match=r"is no validation image of ImageNet"):
        real_labels.targets(files(number), [frozenset()] * 50_000)


def test_nothing_to_count() -> None:
    table = np.zeros((2, 1000), dtype=np.bool_)
    assert real_labels.count([3, 4], table) == (0, 0)
    with pytest.raises(UserError, match="nothing can be counted"):
        real_labels.accuracy([3, 4], table)
    with pytest.raises(ValueError, match=r"\(3,\) predictions for 2 images"):
        real_labels.count([3, 4, 5], table)
