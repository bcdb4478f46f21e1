"""The panels of a study: margins, baselines, printed numbers, diverged rates, levels; and that nothing overlaps."""

import itertools
import math

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.figures.apart import assert_apart
from vision_repro.analysis.claims import HOLDS, UNTESTED, Verdict
from vision_repro.analysis.intervals import t_interval
from vision_repro.analysis.summary import SummaryRow
from vision_repro.figures.series import along, entry, over, printed
from vision_repro.figures.study import Curves, Dots, study_figure
from vision_repro.figures.venues import VENUES, on_page

VARIANTS = {
    "vit-64x4/2-pos0": ("none", 0.61382, "without"),
    "vit-64x4/2": ("1-D", 0.64206, "reference"),
    "vit-64x4/2-pos2d-shared": ("2-D, every layer, shared", 0.64022, ""),
}
HEADS = {"vit-64x4/2": "class token", "vit-64x4/2-gap": "global average pooling"}
READINGS = {"few_shot_5": "5-shot accuracy [%]", "test_accuracy": "Test accuracy [%]"}
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
ORIGINS = {"": ("scratch", "baseline"), "supervised": ("supervised", "reference"), "mae": ("MAE, 75 %", "beyond")}
LENGTHS = {75: "mae@75", 300: "mae@300", 1200: "mae"}
STARTS = {"": 0.4, "supervised": 0.6, "mae": 0.52, "mae@75": 0.42, "mae@300": 0.47}
NOTE = "the digits of the preset, equal steps of 64 images; " * 4
VERDICTS = (
    Verdict("a", "Positions matter", "ViT, Table 8", HOLDS, t_interval([0.2, 0.21, 0.22]), "fraction", "r", "m", "s"),
    Verdict("b", "All are equal", "ViT, Table 8", UNTESTED, None, "fraction", "too few seeds", "m"),
)


def row(setting: dict[str, str | int | float], metric: str, values: list[float], lost: int = 0) -> SummaryRow:
    return SummaryRow("x", "cpu", setting, metric, "fraction", t_interval(values), lost)


def ablation(seeds: int, metrics: tuple[str, ...] = tuple(READINGS), width: float | None = 5.5) -> Figure:
    rows = [
        row({"model": model}, metric, [0.5 + 0.1 * index + 0.02 * seed for seed in range(seeds)])
        for (index, model), metric in itertools.product(enumerate(VARIANTS), metrics)
        if seeds
    ]
    panels = [
        Dots(
            title,
            [entry(rows, metric, {"model": model}, label, role=role) for model, (label, _, role) in VARIANTS.items()],
            margin=0.015,
        )
        for metric, title in READINGS.items()
    ]
    panels.append(Dots("Paper: 5-shot [%]", [printed(label, value) for label, value, _ in VARIANTS.values()]))
    return study_figure(rows, VERDICTS, panels=panels, preset="cpu", notes=[NOTE], width=width)


def rates(seeds: int, lost: frozenset[tuple[str, float]] = frozenset(), width: float | None = 5.5) -> Figure:
    rows = []
    for model, rate, metric in itertools.product(HEADS, RATES, READINGS):
        values = [0.9 - 0.1 * abs(math.log10(rate / 1e-3)) + 0.01 * seed for seed in range(seeds)]
        gone = (model, rate) in lost
        rows.append(row({"model": model, "lr": rate}, metric, [] if gone else values, seeds if gone else 0))
    panels = [
        Curves(
            title,
            [over(rows, metric, {"model": model}, "lr", label) for model, label in HEADS.items()],
            xlabel="peak learning rate",
            xlog=True,
        )
        for metric, title in READINGS.items()
    ]
    return study_figure(rows, VERDICTS, panels=panels, preset="cpu", notes=[NOTE], width=width)


def pretraining(seeds: int, width: float | None = 5.5) -> Figure:
    rows = [
        row({"pretraining": start}, "few_shot_5", [value + 0.01 * seed for seed in range(seeds)])
        for start, value in STARTS.items()
        if seeds
    ]
    lines = [
        entry(rows, "few_shot_5", {"pretraining": start}, label, role=role) for start, (label, role) in ORIGINS.items()
    ]
    settings = {n: {"pretraining": start} for n, start in LENGTHS.items()}
    curve = along(rows, "few_shot_5", settings, "5-shot, frozen", baseline={"pretraining": ""})
    panels = [Dots("5-shot, frozen [%]", lines), Curves("By steps [%]", [curve], xlabel="steps", xlog=True)]
    return study_figure(rows, VERDICTS, panels=panels, preset="cpu", notes=[NOTE], width=width)


CASES = {
    "ablation": lambda width: ablation(5, width=width),
    "ablation, one seed": lambda width: ablation(1, width=width),
    "ablation, one reading": lambda width: ablation(3, ("test_accuracy",), width=width),
    "ablation, nothing": lambda width: ablation(0, width=width),
    "rates": lambda width: rates(5, width=width),
    "rates, diverged": lambda width: rates(3, frozenset({("vit-64x4/2-gap", 1e-2)}), width=width),
    "rates, all diverged": lambda width: rates(1, frozenset(itertools.product(HEADS, RATES)), width=width),
    "pretraining": lambda width: pretraining(5, width=width),
    "pretraining, one seed": lambda width: pretraining(1, width=width),
    "pretraining, nothing": lambda width: pretraining(0, width=width),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("width", [5.5, 7.0, 3.25])
def test_no_text_overlaps_another_or_leaves_the_page(name: str, width: float) -> None:
    if width > 4.5:
        assert_apart(CASES[name](width))
    else:
        with on_page(VENUES["cvpr"], width):  # a single column has no words below
            assert_apart(CASES[name](None))


def written(found: Figure) -> str:
    return " ".join(text.get_text() for text in found.findobj(Text))


def marks(axes: object) -> list[float]:
    """The places of all marks of a list, in percent."""
    lines = [line for line in axes.lines if line.get_marker() != "None"]  # type: ignore[attr-defined]
    return [float(x) for line in lines for x in line.get_xdata()]


def test_an_ablation_shows_ours_and_the_paper_s_printed_values() -> None:
    found = ablation(3)
    ours, _, theirs = found.axes
    assert marks(theirs) == pytest.approx([61.382, 64.206, 64.022])
    assert marks(ours) == pytest.approx([52.0, 62.0, 72.0])
    assert [tick.get_text() for tick in ours.get_yticklabels()] == [label for label, _, _ in VARIANTS.values()]
    band = ours.patches[0].get_bbox()
    assert (band.x0, band.x1) == pytest.approx((60.5, 63.5))
    text = written(found)
    words = ("3 seeds", "95 % t interval", "+21.0 [+18.5, +23.5] points", "what the paper prints", "too few seeds")
    assert [word for word in words if word not in text] == []


def test_a_rate_at_which_all_runs_diverged_is_a_gap_and_a_cross() -> None:
    found = rates(3, frozenset({("vit-64x4/2-gap", 1e-2)}))
    axes = found.axes[0]
    lines = [line for line in axes.lines if line.get_linestyle() != "None" and len(line.get_xdata()) > 2]
    assert [len(line.get_xdata()) for line in lines] == [4, 3]
    crosses = [line for line in axes.lines if line.get_marker() == "X" and len(line.get_xdata())]
    assert [line.get_xdata()[0] for line in crosses] == pytest.approx([1e-2], rel=0.05)
    assert "3 diverged runs left out" in written(found)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.0003", "0.001", "0.003", "0.01"]
    assert "all runs diverged" in written(rates(1, frozenset(itertools.product(HEADS, RATES))))


def test_the_baseline_is_a_dashed_line_in_lists_and_in_curves() -> None:
    dots, curves = pretraining(3).axes
    assert marks(dots) == pytest.approx([41, 61, 53])
    through = [line for line in dots.lines if line.get_marker() == "None" and len(set(line.get_xdata())) == 1]
    assert [line.get_xdata()[0] for line in through] == pytest.approx([41])
    (line,) = [line for line in curves.lines if line.get_marker() != "None"]
    assert list(line.get_ydata()) == pytest.approx([43, 48, 53])
    (level,) = [line for line in curves.lines if line.get_marker() == "None"]
    assert level.get_ydata()[0] == pytest.approx(41)


def test_what_was_not_measured_is_said() -> None:
    assert written(ablation(0)).count("not measured") == 2  # the paper's numbers are shown
    assert written(pretraining(0)).count("not measured") == 2
