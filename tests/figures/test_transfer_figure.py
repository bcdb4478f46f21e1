"""The table of transfer as a figure: its cells, what is bold, the paper's digits, and that it fits every page."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from vision_repro.analysis.claims import HOLDS, Verdict
from vision_repro.analysis.intervals import t_interval
from vision_repro.analysis.table import Row, Table
from vision_repro.figures.transfer import transfer_figure
from vision_repro.figures.venues import VENUES, on_page
from vision_repro.papers.tables import paper_table

MODELS = ("vit-64x4/8", "bit-r11x0.3125/2", "timm:vit_base_patch16_224.augreg_in21k")
STARTS = (
    ("", "no pre-training"),
    ("imagenette@300", "Imagenette, 300 steps"),
    ("cifar10@1000", "CIFAR-10, 1,000 steps"),
)
VERDICTS = (
    Verdict("a", "ViT is at least as good as BiT", "ViT, section 4.2, Table 2", HOLDS, t_interval([0.1, 0.2, 0.3]),
            "fraction", "r", "m", "s"),
)  # fmt: skip


def rows() -> list[Row]:
    found = []
    for (index, model), (start, _), (place, dataset), seed in itertools.product(
        enumerate(MODELS), STARTS, enumerate(("cifar10", "pets")), range(3)
    ):
        if start.startswith(dataset) or model.startswith("timm:") == bool(start):
            continue
        settings = {"model": model, "pretraining": start, "dataset": dataset}
        value = 0.5 + 0.1 * index + 0.05 * place + 0.01 * (seed - 1)
        row = Row("transfer", "cifar", "r", settings, seed, "ok", "test_accuracy", value, "fraction")
        found += [row, replace(row, metric="pretraining_flops", value=1.25e13 * (seed + 1) / 2, unit="FLOPs")]
    return found


def figure(found: list[Row], width: float | None = None) -> Figure:
    return transfer_figure(
        Table(found),
        VERDICTS,
        starts=STARTS,
        models=MODELS,
        datasets=("cifar10", "pets", "flowers"),
        preset="cifar",
        notes=("what was done; " * 5,),
        width=width,
    )


def texts(found: Figure) -> list[Text]:
    return [text for text in found.findobj(Text) if text.get_text()]


def test_cells_are_mean_and_deviation_and_the_best_of_a_row_is_bold() -> None:
    written = {text.get_text(): text for text in texts(figure(rows()))}
    assert {"CIFAR-10", "Pets", "50.0 ± 1.0", "55.0 ± 1.0", "12.5 T", "timm", "BiT-"} <= set(written)
    assert "no pre-training" not in written  # nothing was run without
    best, other = written["70.0 ± 1.0"], written["60.0 ± 1.0"]
    assert (best.get_fontweight(), other.get_fontweight()) == ("bold", "normal")
    assert "the best of a row in bold" in " ".join(written)


def test_the_paper_s_table_has_its_digits_and_its_bold() -> None:
    found = texts(figure(rows()))
    written = [text.get_text() for text in found]
    for row in paper_table("vit_table2"):
        if row["std"]:
            assert f"{row['mean']} ± {row['std']}" in written
    bold = {text.get_text() for text in found if text.get_fontweight() == "bold"}
    assert {"88.55 ± 0.04", "99.74 ± 0.00", "77.63 ± 0.23"} <= bold
    assert "76.29 ± 1.70" not in bold


def test_one_run_has_no_deviation_and_lost_runs_are_told() -> None:
    alone = [row for row in rows() if row.seed == 0]
    assert "49.0" in {text.get_text() for text in texts(figure(alone))}
    lost = [replace(row, status="diverged", value=float("nan")) if row.seed == 2 else row for row in rows()]
    words = " ".join(text.get_text() for text in texts(figure(lost)))
    assert "diverged runs left out" in words
    assert "over 2 runs" in words


@pytest.mark.parametrize("width", [2.4, 3.25, 5.5, 6.875])
def test_nothing_leaves_the_page_or_covers_something_else(width: float) -> None:
    made = figure(rows(), width)
    made.set_dpi(100)
    made.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(made)]
    for word, box in boxes:
        assert box.x0 >= 0, word
        assert box.x1 <= 100 * width, word
        assert box.y0 >= 0, word
    for (one, a), (two, b) in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or down <= 2.5, (one, two)  # pixels: descenders may touch


@pytest.mark.parametrize("name", VENUES)
def test_it_has_the_width_of_the_page(name: str) -> None:
    venue = VENUES[name]
    for width in venue.widths.values():
        with on_page(venue, width):
            assert figure(rows()).get_figwidth() * venue.enlarged == pytest.approx(width)
