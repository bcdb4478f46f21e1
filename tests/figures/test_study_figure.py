"""The figure of a study: that it shows the table's numbers, that names keep their looks, and that nothing overlaps."""

from __future__ import annotations

import itertools
import random

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.figures.apart import assert_apart
from vision_repro.analysis.claims import HOLDS, UNTESTED, Verdict
from vision_repro.analysis.intervals import t_interval
from vision_repro.analysis.summary import SummaryRow
from vision_repro.figures.axes import number_axis, prefixed
from vision_repro.figures.series import Entry, against, by_layer, entry, one, over, paper
from vision_repro.figures.study import Curves, Dots, study_figure

KINDS, DEPTHS = ("plain", "residual"), (8, 20, 32, 56)
PRINTED = {20: 0.0875, 32: 0.0751, 56: 0.0697}
VERDICTS = (
    Verdict("a", "Deeper is better", "ResNet, 4.2", HOLDS, t_interval([0.2, 0.21, 0.22]), "fraction", "r", "m", "s"),
    Verdict("b", "Costs a tenth", "CNN slides", UNTESTED, None, "fraction", "too few seeds", "m"),
)


def accuracy(kind: str, depth: int, seed: int) -> float:
    return 0.5 + 0.002 * depth * (1 if kind == "residual" else -1) + 0.01 * seed


def rows(seeds: int = 3) -> list[SummaryRow]:
    found, luck = [], random.Random(0)
    for kind, depth in itertools.product(KINDS, DEPTHS):
        setting = {"kind": kind, "depth": depth}

        def add(metric: str, unit: str, values: list[float], setting: dict[str, str | int] = setting) -> None:
            found.append(SummaryRow("x", "cpu", setting, metric, unit, t_interval(values), 0))

        add("test_accuracy", "fraction", [accuracy(kind, depth, seed) for seed in range(seeds)])
        add("parameters", "parameters", [13_000.0 * depth] * seeds)
        for layer in range(1, depth):
            add(f"gradient_norm_{layer:02}", "norm", [10 ** (-layer / 20 + luck.uniform(0, 0.2)) for _ in range(seeds)])
    return found


def study(seeds: int, width: float = 5.5, across: int = 3) -> Figure:
    known = rows(seeds) if seeds else []
    by_depth = [over(known, "test_accuracy", {"kind": kind}, "depth", kind, complement=True) for kind in KINDS]
    by_size = [
        against(known, "test_accuracy", "parameters", [{"kind": kind, "depth": depth} for depth in DEPTHS], kind)
        for kind in KINDS
    ]
    norms = [by_layer(known, "gradient_norm", {"kind": kind, "depth": 56}, f"{kind}, 56") for kind in KINDS]
    entries = [
        entry(known, "test_accuracy", {"kind": "plain", "depth": 56}, "without shortcuts", 0.3, "without"),
        entry(known, "test_accuracy", {"kind": "residual", "depth": 56}, "residual", 0.6, "reference"),
        Entry("never measured", None),
    ]
    panels = (
        Curves("Test error [%]", [*by_depth, paper("ResNet, Table 6", PRINTED)], "layers"),
        Curves("Accuracy [%]", by_size, "parameters", xlog=True, mark=0.6),
        Curves("Gradient norm", norms, "layer", ylog=True),
        Dots("56 layers [%]", entries),
    )
    return study_figure(
        known, VERDICTS, panels=panels, preset="cpu", notes=["a note " * 20], across=across, width=width
    )


@pytest.mark.parametrize("seeds", [0, 1, 3])
@pytest.mark.parametrize(("width", "across"), [(5.5, 3), (5.5, 2), (3.25, 3), (7.0, 4)])
def test_no_text_overlaps_another_or_leaves_the_page(seeds: int, width: float, across: int) -> None:
    found = study(seeds, width, across)
    assert_apart(found)


def drawn(axes: Axes, color: str) -> list[float]:
    line = next(line for line in axes.lines if line.get_color() == color and len(line.get_xdata()) > 1)
    return list(line.get_ydata())


def test_panels_show_the_numbers_of_the_table_and_of_the_paper() -> None:
    errors, accuracies, norms, dots = study(3).axes
    blue, orange, grey = "#0072B2", "#D55E00", "#777777"
    expected = [100 * accuracy("plain", depth, 1) for depth in DEPTHS]  # the middle seed is the mean
    assert drawn(errors, blue) == pytest.approx([100 - value for value in expected])
    assert drawn(accuracies, blue) == pytest.approx(expected)
    assert drawn(accuracies, orange) == pytest.approx([100 * accuracy("residual", depth, 1) for depth in DEPTHS])
    assert drawn(errors, grey) == pytest.approx([8.75, 7.51, 6.97])
    assert norms.get_yscale() == "log"
    assert [len(line.get_ydata()) for line in norms.lines] == [55, 55]
    ours = [line for line in dots.lines if line.get_marker() in "sX"]
    assert [line.get_xdata()[0] for line in ours] == pytest.approx([40.8 - 1.0, 61.2 + 1.0])
    theirs = next(line for line in dots.lines if line.get_marker() == "o")
    assert list(theirs.get_xdata()) == pytest.approx([30.0, 60.0])
    assert [tick.get_text() for tick in dots.get_yticklabels()] == ["without shortcuts", "residual", "never measured"]


def test_bars_are_the_intervals_of_the_table() -> None:
    axes = study(3).axes[1]
    interval = next(
        row.interval for row in rows() if row.metric == "test_accuracy" and row.setting == {"kind": "plain", "depth": 8}
    )
    bars = [tuple(path[:, 1]) for collection in axes.collections for path in collection.get_segments()]
    assert min(bars, key=lambda bar: abs(bar[0] - 100 * interval.low)) == pytest.approx(
        (100 * interval.low, 100 * interval.high)
    )


def test_a_setting_that_leaves_something_open_is_refused() -> None:
    with pytest.raises(ValueError, match="names 4 rows"):
        one(rows(), "test_accuracy", {"kind": "plain"})
    with pytest.raises(ValueError, match="leaves more open than depth"):
        over(rows(), "test_accuracy", {}, "depth", "all")
    with pytest.raises(KeyError):
        one(rows(), "test_accuracy", {"mode": "plain"})
    with pytest.raises(ValueError, match="no role"):
        Entry("x", None, role="best")


@pytest.mark.parametrize(
    ("number", "text"),
    [(8, "8"), (1200, "1200"), (49_000, "49k"), (1_300_000, "1.3M"), (2.5e9, "2.5G"), (0.003, "0.003"), (4e13, "40T")],
)
def test_numbers_are_short(number: float, text: str) -> None:
    assert prefixed(number) == text


def test_a_logarithmic_axis_refuses_zero() -> None:
    with pytest.raises(ValueError, match="no place for 0"):
        number_axis(Figure().add_subplot(), "x", [0.0, 1.0], log=True, wide=1.0)


def test_intervals_that_reach_below_zero_are_cut_on_a_logarithmic_axis() -> None:
    known = [
        SummaryRow("x", "cpu", {"kind": "a"}, f"norm_{layer:02}", "norm", t_interval([0.1, 9.0, 30.0 * layer]), 0)
        for layer in range(1, 4)
    ]
    assert all(row.interval.low < 0 for row in known)
    series = by_layer(known, "norm", {"kind": "a"}, "a")
    panel = Curves("Norm", [series], "layer", ylog=True)
    found = study_figure(known, (), panels=[panel], preset="cpu", notes=[])
    low, high = found.axes[0].get_ylim()
    assert 0 < low < series.points[0].interval.mean / 9
    assert high > max(point.interval.high for point in series.points)
