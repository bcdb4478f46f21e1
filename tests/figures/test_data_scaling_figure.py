"""The data-scaling figure: what it says and shows, with missing, single and diverged results."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.figures.apart import assert_apart
from vision_repro.analysis.claims import HOLDS, UNTESTED, Verdict
from vision_repro.analysis.intervals import t_interval
from vision_repro.analysis.summary import SummaryRow
from vision_repro.figures.axes import prefixed
from vision_repro.figures.scaling import data_scaling_figure
from vision_repro.figures.style import appearance, save

MODELS = ("vit-32x4/2", "vit-64x4/2", "bit-r11x0.15", "bit-r11x0.3125", "r8x0.25+vit-64x3/2")
SIZES = (20, 50, 150, 450, 1200)
DIVERGED = {("bit-r11x0.15", 20): 5, ("vit-64x4/2", 20): 1, ("vit-32x4/2", 150): 5, ("vit-32x4/2", 450): 1}


def rows(
    seeds: int = 5,
    sizes: tuple[int, ...] = SIZES,
    metrics: tuple[str, ...] = ("test_accuracy", "few_shot_5"),
    diverged: dict[tuple[str, int], int] | None = None,
    preset: str = "cpu",
) -> list[SummaryRow]:
    found = []
    for (index, model), size, metric in itertools.product(enumerate(MODELS), sizes, metrics):
        lost = (diverged or {}).get((model, size), 0)
        centre = 0.5 + 0.04 * index + (0.24 - 0.05 * index) * math.log10(size / 20)
        values = [centre + 0.02 * (seed - seeds / 2) for seed in range(seeds - lost)]
        setting = {"model": model, "train_size": size}
        found.append(SummaryRow("data_scaling", preset, setting, metric, "fraction", t_interval(values), lost))
    return found


VERDICTS = (
    Verdict(
        claim="a",
        statement="CNNs win with little data",
        source="ViT, section 4.3",
        verdict=HOLDS,
        estimate=t_interval([0.2, 0.21, 0.22]),
        unit="fraction",
        reason="BiT minus ViT at 20 images: +0.210 [+0.185, +0.235], 3 seeds",
        metric="test_accuracy",
        subject="BiT minus ViT at 20 images",
    ),
    Verdict("b", "ViTs win", "ViT, Figure 4", UNTESTED, None, "fraction", "no data set of that size", "test_accuracy"),
)


CAPTION = (
    "accuracy and data; " + "equal 300 steps of 32 images; best weights on val; untuned lr; " * 6 + "illiquid fill"
)


def figure(found: list[SummaryRow], verdicts: tuple[Verdict, ...] = VERDICTS, width: float = 5.5) -> Figure:
    return data_scaling_figure(found, verdicts, dataset="digits", preset="cpu", caption=CAPTION, width=width)


def written(found: Figure) -> str:
    return " ".join(text.get_text() for text in found.findobj(Text))


def crosses(axes: Axes) -> list[tuple[float, object]]:
    return [(float(line.get_xdata()[0]), line.get_color()) for line in axes.lines if line.get_marker() == "X"]


CASES = {
    "full": rows(),
    "diverged": rows(diverged=DIVERGED),
    "direct only": rows(metrics=("test_accuracy",)),
    "one size": rows(sizes=(100,), seeds=3),
    "one seed": rows(seeds=1),
    "one run": rows(sizes=(100,), seeds=1),
    "two seeds": rows(seeds=2),
    "nothing": [],
    "all diverged": rows(seeds=1, diverged={(model, size): 1 for model in MODELS for size in SIZES}),
    "many sizes": rows(sizes=(50, 100, 200, 490, 1000, 2000, 4900, 10_000, 20_000, 49_000)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("width", [5.5, 7.0])
def test_no_text_overlaps_another_or_leaves_the_page(name: str, width: float) -> None:
    found = figure(CASES[name], width=width)
    assert_apart(found)


def test_it_says_units_seeds_interval_data_and_preset() -> None:
    text = written(figure(rows()))
    words = (
        *("[%]", "training images", "5 seeds", "95 % t interval", "data set digits", "preset cpu", "Table 5"),
        *("CNNs win with little data", "+21.0 [+18.5, +23.5] points, 3 seeds", "no data set of that size"),
        *("Accuracy and data;", "illiquid fill. (a)", "Claims: ViT, section 4.3; ViT, Figure 4"),
    )
    assert [word for word in words if word not in text] == []
    assert "diverged" not in text


def test_points_are_percent_of_the_rows() -> None:
    axes = figure(rows()).axes[0]
    line = axes.lines[0]
    assert list(line.get_xdata()) == list(SIZES)
    expected = [100 * row.interval.mean for row in rows() if row.setting["model"] == MODELS[0]][::2]
    assert list(line.get_ydata()) == pytest.approx(expected)
    assert axes.get_ylim()[0] >= -6
    assert axes.get_ylim()[1] <= 110


def test_the_same_model_looks_the_same_in_all_panels() -> None:
    first, second, paper = figure(rows()).axes[:3]
    looks = [{line.get_label(): line.get_color() for line in axes.lines} for axes in (first, second)]
    assert looks[0] == looks[1] == {appearance(model).label: appearance(model).color for model in MODELS}
    assert {line.get_label() for line in paper.lines} == {"ViT-B/16", "ViT-B/32", "ViT-L/16", "ViT-L/32", "ViT-H/14"}


def test_paper_panel_has_the_points_of_table_5() -> None:
    lines = {line.get_label(): line for line in figure([]).axes[2].lines}
    assert list(lines["ViT-L/32"].get_ydata()) == [71.16, 80.99, 84.37]
    assert list(lines["ViT-L/32"].get_xdata()) == [1.3e6, 14e6, 303e6]
    assert list(lines["ViT-H/14"].get_ydata()) == [85.13, 88.04]


def test_missing_few_shot_numbers_are_said() -> None:
    found = figure(rows(metrics=("test_accuracy",)))
    assert "not measured" in written(found)
    assert not found.axes[1].lines
    assert "all runs diverged" in written(figure(CASES["all diverged"]))


def test_diverged_settings_are_open_crosses_with_a_note() -> None:
    found = figure(rows(diverged=DIVERGED))
    expected = {(float(size), appearance(model).color) for model, size in DIVERGED}
    assert set(crosses(found.axes[0])) == expected
    assert all(line.get_markerfacecolor() == "white" for line in found.axes[0].lines if line.get_marker() == "X")
    text = written(found)
    assert "ViT-32×4/2 at 150 (5 runs)" in text  # noqa: RUF001
    assert "and 1 more setting" in text
    assert "0 to 5" not in text
    gap = [line for line in found.axes[0].lines if line.get_label() == "ViT-32×4/2"][0].get_ydata()  # noqa: RUF001, RUF015
    assert [math.isnan(float(value)) for value in gap] == [False, False, True, False, False]


def test_one_seed_has_no_interval() -> None:
    assert "one seed, no interval" in written(figure(rows(seeds=1)))
    assert "4 to 5 seeds" in written(figure(rows(diverged=DIVERGED)))


def test_other_presets_are_not_shown() -> None:
    found = figure(rows(sizes=(20,)) + rows(preset="smoke", sizes=(1200,)))
    assert {float(text.get_text()) for text in found.axes[0].get_xticklabels() if text.get_text()} == {20}


def test_labels_of_sizes() -> None:
    shown = {20: "20", 1200: "1200", 9999: "9999", 49_000: "49k", 1.3e6: "1.3M", 14e6: "14M", 303e6: "303M"}
    assert {size: prefixed(size) for size in shown} == shown


def test_two_renders_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (save(figure(rows(diverged=DIVERGED)), tmp_path / name) for name in "ab")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_figures_need_no_torch() -> None:
    code = "import sys, vision_repro.figures.scaling; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
