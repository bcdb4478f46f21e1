"""Summaries: means over seeds, CSV in fractions, Markdown in percent, the same bytes for any order of rows."""

import csv
import io
import math
import random

import pytest

from vision_repro.analysis.summary import summarise, to_csv, to_lines, to_markdown
from vision_repro.analysis.table import Row, Table


def row(model: str, size: int, seed: int, value: float, metric: str = "test_accuracy", unit: str = "fraction") -> Row:
    status = "ok" if math.isfinite(value) else "diverged"
    return Row("data_scaling", "cpu", "r", {"model": model, "train_size": size}, seed, status, metric, value, unit)


ROWS = [
    *(row("vit", 20, seed, value) for seed, value in enumerate((0.1, 0.2, 0.3))),
    *(row("vit", 1200, seed, value) for seed, value in enumerate((0.9, 0.92, math.nan))),
    *(row("bit", 20, seed, math.nan) for seed in range(2)),
    row("bit", 1200, 0, 0.95),
    *(row("vit", 20, seed, 20, "train_images", "count") for seed in range(3)),
]
SETTINGS = ("model", "train_size")


def test_mean_interval_seeds_and_diverged() -> None:
    found = {
        (item.setting["model"], item.setting["train_size"], item.metric): item
        for item in summarise(Table(ROWS), SETTINGS)
    }
    vit = found["vit", 20, "test_accuracy"]
    assert (vit.interval.mean, vit.n, vit.diverged) == (pytest.approx(0.2), 3, 0)
    assert vit.interval.low == pytest.approx(0.2 - 4.302653 * 0.1 / math.sqrt(3))
    assert (found["vit", 1200, "test_accuracy"].n, found["vit", 1200, "test_accuracy"].diverged) == (2, 1)
    assert (found["bit", 20, "test_accuracy"].n, found["bit", 20, "test_accuracy"].diverged) == (0, 2)
    assert found["bit", 1200, "test_accuracy"].interval.bounded is False


def test_bytes_do_not_depend_on_the_order_of_rows() -> None:
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    once, again = (summarise(Table(rows), SETTINGS) for rows in (ROWS, shuffled))
    assert to_csv(once) == to_csv(again)
    assert to_markdown(once, "test_accuracy", "train_size") == to_markdown(again, "test_accuracy", "train_size")


def test_csv_has_fractions_and_empty_cells() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(summarise(Table(ROWS), SETTINGS)))))
    assert [line["model"] + line["train_size"] for line in lines] == ["bit20", "bit1200", "vit20", "vit20", "vit1200"]
    nothing, single, vit, count, _ = lines
    assert (nothing["mean"], nothing["n"], nothing["diverged"]) == ("", "0", "2")
    assert (single["mean"], single["low"], single["high"]) == ("0.95", "", "")
    assert (vit["mean"], vit["low"], vit["level"]) == ("0.2", "-0.0484137712", "0.95")
    assert (count["metric"], count["mean"], count["low"]) == ("train_images", "20", "20")
    assert to_csv([]).count("\n") == 1


def test_markdown_shows_percent_by_size() -> None:
    text = to_markdown(summarise(Table(ROWS), SETTINGS), "test_accuracy", "train_size")
    assert text.splitlines() == [
        "| experiment | preset | model | train_size=20 | train_size=1200 |",
        "| --- | --- | --- | --- | --- |",
        "| data_scaling | cpu | bit | diverged (2 diverged) | 95.0 (one seed) |",
        "| data_scaling | cpu | vit | 20.0 [-4.8, 44.8] | 91.0 [78.3, 103.7] (1 diverged) |",
    ]


def test_settings_that_hide_a_column_are_refused() -> None:
    with pytest.raises(ValueError, match="several runs of one seed"):
        summarise(Table(ROWS), ("model",))
    with pytest.raises(ValueError, match="no column"):
        summarise(Table(ROWS), ("architecture",))
    assert summarise(Table([]), SETTINGS) == []


def test_lines_have_a_column_a_metric_and_no_interval_where_all_seeds_agree() -> None:
    found = to_lines(summarise(Table(ROWS), SETTINGS), ("test_accuracy", "train_images", "never_measured"))
    assert found.splitlines() == [
        "| model | train_size | test accuracy [%] | train images [count] |",
        "| --- | --- | --- | --- |",
        "| bit | 20 | diverged (2 diverged) |  |",
        "| bit | 1200 | 95.0 (one seed) |  |",
        "| vit | 20 | 20.0 [-4.8, 44.8] | 20 |",
        "| vit | 1200 | 91.0 [78.3, 103.7] (1 diverged) |  |",
    ]
    assert to_lines([], ("test_accuracy",)).count("\n") == 2
    single = summarise(Table([row("vit", 20, 0, 12_345.0, "parameters", "parameters")]), SETTINGS)
    assert to_lines(single, ("parameters",)).splitlines()[-1] == "| vit | 20 | 12,345 (one seed) |"
