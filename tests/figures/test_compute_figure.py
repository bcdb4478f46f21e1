"""The figure of accuracy over compute: its panels, the paper's points, missing results, and that nothing overlaps."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.figures.apart import assert_apart
from vision_repro.analysis.claims import HOLDS, UNTESTED, Verdict
from vision_repro.analysis.compute import COMPUTE, front, of_family, paper_points
from vision_repro.analysis.intervals import t_interval
from vision_repro.analysis.table import Row, Table
from vision_repro.figures.compute import compute_figure
from vision_repro.figures.venues import VENUES, on_page

FORWARD = {  # FLOPs of an image; the last is of no family of the paper
    "vit-64x2/8": 4e6, "vit-64x4/4": 30e6, "bit-r8x0.25/2": 7e6, "bit-r14x0.3125/2": 24e6,
    "r8x0.25/2+vit-64x3/4": 30e6, "swin-t": 50e6,
}  # fmt: skip
DATASETS = ("cifar10", "pets", "flowers17")
METRIC = "linear_accuracy"
VERDICTS = (
    Verdict("a", "ViTs are ahead", "ViT, section 4.4", HOLDS, t_interval([0.2, 0.21, 0.22]), "fraction", "r", "m", "s"),
    Verdict("b", "Nothing saturates", "ViT, section 4.4", UNTESTED, None, "fraction", "too few seeds", "m"),
)


def rows(
    seeds: int = 3, datasets: tuple[str, ...] = DATASETS, steps: tuple[int, ...] = (75, 225, 675), preset: str = "cifar"
) -> list[Row]:
    found = []
    for model, count, dataset, seed in itertools.product(FORWARD, steps, datasets, range(seeds)):
        settings = {"model": model, "pretraining": f"cifar10@{count}", "dataset": dataset}
        compute = 3 * 64 * count * FORWARD[model]
        value = 0.3 + 0.15 * math.log10(compute / 1e11) + 0.05 * DATASETS.index(dataset) + 0.01 * seed
        row = Row("compute_accuracy", preset, "r", settings, seed, "ok", METRIC, value, "fraction")
        found += [row, replace(row, metric=COMPUTE, value=compute, unit="FLOPs")]
    return found


def figure(found: list[Row], datasets: tuple[str, ...] = DATASETS, width: float | None = None) -> Figure:
    notes = ("the networks of the preset and their lengths of pre-training; " * 3,)
    return compute_figure(
        Table(found), VERDICTS, metric=METRIC, datasets=datasets, preset="cifar", notes=notes, width=width
    )


def lost(found: list[Row], share: int) -> list[Row]:
    return [replace(row, status="diverged", value=math.nan) if i % share == 0 else row for i, row in enumerate(found)]


def written(found: Figure) -> str:
    return " ".join(text.get_text() for text in found.findobj(Text))


def markers(axes: Axes) -> list[tuple[float, float]]:
    """Returns the places of all single markers of a panel."""
    return sorted(
        (float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.lines if len(line.get_xdata()) == 1
    )


CASES = {
    "full": rows(),
    "one data set": rows(datasets=("cifar10",)),
    "one seed": rows(seeds=1),
    "one length": rows(steps=(75,)),
    "one run": rows(seeds=1, steps=(75,))[:2],
    "nothing": [],
    "some diverged": lost(rows(), 7),
    "all diverged": lost(rows(), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_no_text_overlaps_another_or_leaves_the_page(name: str) -> None:
    assert_apart(figure(CASES[name], ("cifar10",) if name == "one data set" else DATASETS))


@pytest.mark.parametrize(
    ("venue", "width"),
    [(name, width) for name in ("icml", "nature", "slides") for width in VENUES[name].widths.values()],
)
def test_it_fits_other_pages_and_columns(venue: str, width: float) -> None:
    chosen = VENUES[venue]
    for datasets in (DATASETS, DATASETS[:1]):
        with on_page(chosen, width):
            found = figure(rows(), datasets)
            found.set_size_inches(*(chosen.enlarged * side for side in found.get_size_inches()))
            assert found.get_figwidth() == pytest.approx(width, abs=0.001)
            assert_apart(found)


def test_the_panels_are_average_one_data_set_and_the_paper_s_two() -> None:
    several, single = figure(rows()), figure(rows(datasets=("cifar10",)), ("cifar10",))
    titles = [[axes.get_title(loc="left") for axes in item.axes] for item in (several, single)]
    assert titles == [
        ["(a) Mean of 3 data sets [%]", "(b) cifar10 [%]", "(c) Paper: Average-5 [%]", "(d) Paper: ImageNet [%]"],
        ["(a) cifar10 [%]", "(b) Paper: Average-5 [%]", "(c) Paper: ImageNet [%]"],
    ]
    labels = ["pre-training compute [gigaFLOPs]"] * 2 + ["pre-training compute [exaFLOPs]"] * 2
    assert [axes.get_xlabel() for axes in several.axes] == labels
    assert [axes.get_xlabel() for axes in single.axes] == ["compute [gigaFLOPs]"] + ["compute [exaFLOPs]"] * 2


def test_points_are_percent_of_the_rows_and_averages_over_data_sets() -> None:
    average, first = figure(rows()).axes[:2]
    assert len(markers(average)) == len(FORWARD) * 3
    compute = 3 * 64 * 75 * FORWARD["vit-64x2/8"]
    one = 30 + 15 * math.log10(compute / 1e11) + 1  # seeds 0, 1, 2 have 0, 1, 2 points more
    assert markers(first)[0] == pytest.approx((compute / 1e9, one))
    assert markers(average)[0] == pytest.approx((compute / 1e9, one + 5))


def test_the_paper_s_18_points_are_drawn_by_the_same_code() -> None:
    found = figure([])
    assert "not measured" in written(found)
    for axes, points in zip(found.axes[2:], (paper_points(), paper_points(["imagenet"])), strict=True):
        expected = sorted((point.compute / 1e18, 100 * point.accuracy) for point in points)
        assert markers(axes) == [pytest.approx(place) for place in expected]
        lines = {line.get_label(): line for line in axes.lines if len(line.get_xdata()) > 1}
        for name in ("vit", "bit", "hybrid"):
            best = [point.compute / 1e18 for point in front(of_family(points, name))]
            assert list(lines[name].get_xdata()) == pytest.approx(best)
        whole = [100 * point.accuracy for point in front(points)]
        assert list(lines["Pareto front of all"].get_ydata()) == pytest.approx(whole)


def test_points_on_the_front_of_their_family_are_filled() -> None:
    paper = figure([]).axes[2]
    filled = {
        round(float(line.get_xdata()[0])): line.get_markerfacecolor() != "white"
        for line in paper.lines
        if len(line.get_xdata()) == 1
    }
    assert [filled[flops] for flops in (55, 196, 224)] == [True, True, False]  # ViT-B/16 is below ViT-L/32


def test_it_says_seeds_intervals_and_lost_runs() -> None:
    text = written(figure(rows()))
    for words in (
        "mean over 3 seeds; bars: 95 % t interval",
        "ViT, Table 6",
        "ViTs are ahead: +21.0",
        "Hybrid",
        "swin",
    ):
        assert words.lower() in text.lower(), words
    assert "diverged" not in text
    assert "one seed, no interval" in written(figure(CASES["one seed"])).lower()
    assert "left out of the means" in written(figure(CASES["some diverged"]))


def test_other_presets_are_not_shown() -> None:
    both = figure(rows() + rows(preset="smoke", steps=(2,)))
    assert markers(both.axes[0]) == markers(figure(rows()).axes[0])
