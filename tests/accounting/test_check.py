"""Bands, verdicts and tables."""

import csv
import io

import pytest

from vision_repro.accounting.check import EXACT, ROUNDING, Band, Check, Table, format_number, to_csv, to_markdown
from vision_repro.papers.tables import paper_table


def check(ours: float, printed: str, band: Band, explanation: str = "") -> Check:
    return Check("conv4", "operations", "M", ours, printed, band, "a slide", "a note", explanation)


@pytest.mark.parametrize(
    ("ours", "printed", "band", "holds"),
    [
        (150, "150", EXACT, True),
        (149.9999, "150", EXACT, False),
        (61_100_840, "61100840", EXACT, True),
        (182.25, "182", ROUNDING, True),
        (182.5, "182", ROUNDING, True),
        (182.6, "182", ROUNDING, False),
        (0.42, "0", ROUNDING, True),
        (3.9, "0", ROUNDING, False),
        (45.81, "45.810", ROUNDING, True),
        (45.8106, "45.810", ROUNDING, False),
        (149.5, "145", ROUNDING, False),
        (101, "100", Band(0.01), True),
        (101.1, "100", Band(0.01), False),
        (98.9, "100", Band(0.01), False),
        (4.549, "4.5", Band(0.001, rounding=True), True),
        (4.56, "4.5", Band(0.001, rounding=True), False),
        (0, "0", Band(0.01), True),
    ],
)
def test_bands(ours: float, printed: str, band: Band, holds: bool) -> None:
    assert band.holds(ours, printed) is holds


def test_bands_say_what_they_are() -> None:
    assert [str(band) for band in (EXACT, ROUNDING, Band(0.015), Band(0.01, rounding=True))] == [
        "exact",
        "rounding",
        "1.5 %",
        "1 % or rounding",
    ]


def test_a_deviation_needs_an_explanation() -> None:
    outside, explained = check(149.5, "145", ROUNDING), check(149.5, "145", ROUNDING, "slide error")
    assert (outside.verdict, explained.verdict) == ("outside", "explained")
    assert (outside.full_note, explained.full_note) == ("a note", "slide error; a note")
    inside = check(150, "150", ROUNDING, "slide error")
    assert (inside.verdict, inside.full_note, inside.ratio) == ("inside", "a note", 1.0)
    assert check(3.9, "0", ROUNDING).ratio is None


@pytest.mark.parametrize("wide", [True, False])
def test_tables_show_ours_published_ratio_band_and_reason(wide: bool) -> None:
    checks = (
        check(149.520384, "145", ROUNDING, "slide error"),
        Check("conv4", "parameters", "", 884_992, "884992", EXACT, "a count"),
        Check("conv5", "operations", "M", 3, "2", EXACT, "a slide", "a note"),
    )
    table = Table("alexnet", "AlexNet", "Of the slides.", checks, wide)
    text = to_markdown(table)
    assert text.startswith("# AlexNet\n\nOf the slides.\n\n| ")
    words = ("149.52", "145", "884,992", "slide error", "a note", "rounding", "exact", "Sources: a slide; a count.")
    for word in words:
        assert word in text, word
    assert "1 of 3 inside their band, 1 explained, 1 outside without an explanation." in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == len({len(line) for line in lines}) == 1
    assert ("145 !" in text) is wide


def test_a_number_stands_once_in_a_table() -> None:
    with pytest.raises(ValueError, match=r"conv4.*twice"):
        Table("alexnet", "AlexNet", "", (check(1, "1", EXACT), check(2, "2", EXACT)))


def test_csv_has_all_digits_and_a_line_a_check() -> None:
    table = Table("alexnet", "AlexNet", "", (check(149.520384, "145", ROUNDING, "slide error"),))
    (row,) = csv.DictReader(io.StringIO(to_csv([table])))
    assert (row["table"], row["subject"]) == ("alexnet", "conv4")
    assert (row["ours"], row["published"], row["ratio"]) == ("149.520384", "145", "1.031175")
    assert (row["band"], row["verdict"], row["note"]) == ("rounding", "explained", "slide error; a note")


def test_numbers() -> None:
    assert [format_number(value) for value in (5.0, 61_100_840, 1567.12, 17.5638, 0.0828)] == [
        "5",
        "61,100,840",
        "1,567.1",
        "17.564",
        "0.0828",
    ]


def test_published_tables_keep_their_sources() -> None:
    for name in ("alexnet_slide", "vgg_slide", "vit_table6", "swin_variants", "bit_architectures", "vit_core_days"):
        rows = paper_table(name)
        assert rows
        assert all(row["source"] for row in rows)
