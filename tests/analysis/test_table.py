"""The table of results: reading, asking, and what a broken file says."""

import math
from pathlib import Path

import pytest

from vision_repro.analysis.table import Row, Table, parse_level
from vision_repro.config import UserError

HEADER = "experiment,preset,run,model,train_size,seed,status,metric,value,unit"
LINES = (
    "data_scaling,cpu,a1,vit-32x4/2,20,0,ok,test_accuracy,0.5,fraction",
    "data_scaling,cpu,a1,vit-32x4/2,20,0,ok,train_images,20,count",
    "data_scaling,cpu,a2,vit-32x4/2,20,1,diverged,test_accuracy,nan,fraction",
    "data_scaling,cpu,a2,vit-32x4/2,20,1,diverged,val_accuracy,nan,fraction",
    "data_scaling,cpu,a3,vit-32x4/2,1200,0,ok,test_accuracy,0.9,fraction",
    "data_scaling,cpu,a4,vit-32x4/2,1200,2,ok,test_accuracy,nan,fraction",
    "data_scaling,smoke,a5,vit-32x4/2,1200,0,ok,test_accuracy,0.1,fraction",
)


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table.read(written(tmp_path / "table.csv", HEADER, *LINES))


def test_values_by_seed_leave_out_diverged_runs_and_nan(table: Table) -> None:
    assert table.columns == ("model", "train_size")
    assert table.values("test_accuracy", train_size=20) == {0: 0.5}
    assert table.values("test_accuracy", preset="cpu", train_size=1200) == {0: 0.9}
    assert table.values("test_accuracy", model="bit") == {}


def test_diverged_counts_runs_not_rows(table: Table) -> None:
    assert table.diverged() == 1
    assert table.diverged(train_size=20) == 1
    assert table.diverged(train_size=1200) == 0  # NaN in a good run was not measured


def test_an_infinite_number_is_a_diverged_run_whatever_its_status(tmp_path: Path) -> None:
    line = LINES[0].replace("0.5", "inf")
    table = Table.read(written(tmp_path / "table.csv", HEADER, line))
    assert (table.values("test_accuracy"), table.diverged()) == ({}, 1)


def test_an_incomplete_setting_is_an_error_that_names_what_varies(table: Table) -> None:
    with pytest.raises(ValueError, match="give also preset, train_size"):
        table.values("test_accuracy")
    with pytest.raises(ValueError, match='Did you mean "train_size"'):
        table.values("test_accuracy", trainsize=20)


def test_levels_are_sorted_as_numbers(table: Table) -> None:
    assert table.levels("train_size") == [20, 1200]
    assert table.levels("preset") == ["cpu", "smoke"]
    assert Table([]).levels("model") == []


def test_parsing_of_entries() -> None:
    cases = {"20": 20, "-3": -3, "1e-3": 1e-3, "0.5": 0.5, "nan": "nan", "1_0": "1_0", "": "", "vit-b/16": "vit-b/16"}
    for text, entry in cases.items():
        assert parse_level(text) == entry
        assert type(parse_level(text)) is type(entry)


def test_no_value_is_lost_between_csv_and_row(table: Table) -> None:
    assert len(table.rows) == len(LINES)
    assert table.rows[0] == Row(
        "data_scaling",
        "cpu",
        "a1",
        {"model": "vit-32x4/2", "train_size": 20},
        0,
        "ok",
        "test_accuracy",
        0.5,
        "fraction",
    )
    assert math.isnan(table.rows[2].value)


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ((), "header"),
        (("model,seed,value",), "header"),
        ((HEADER.replace("train_size", "model"),), "header"),
        ((HEADER, LINES[0], LINES[1][:40]), "Line 3 .* cut off"),
        ((HEADER, LINES[0].replace(",ok,", ",okay,")), 'Line 2 .* Did you mean "ok"'),
        ((HEADER, LINES[0].replace("0.5", "half")), "Line 2 .*'half'"),
        ((HEADER, LINES[0].replace(",0,ok", ",0.0,ok")), "Line 2 .*whole number"),
        ((HEADER, LINES[0], LINES[0].replace("a1", "b1")), "twice"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, lines: tuple[str, ...], word: str) -> None:
    path = written(tmp_path / "broken.csv", *lines)
    with pytest.raises(UserError, match=word):
        Table.read(path)


def test_a_missing_or_binary_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the experiment first"):
        Table.read(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        Table.read(tmp_path / "binary.csv")


def test_a_table_without_rows_is_a_table(tmp_path: Path) -> None:
    empty = Table.read(written(tmp_path / "empty.csv", HEADER))
    assert (empty.rows, empty.values("test_accuracy", model="x"), empty.diverged()) == ((), {}, 0)
