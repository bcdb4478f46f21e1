"""The figures of ablations, rates and attention distance: what they say and show, and that nothing overlaps."""

import itertools
import math

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.figures.apart import assert_apart
from vision_repro.analysis.claims import HOLDS, UNTESTED, Verdict
from vision_repro.analysis.intervals import t_interval
from vision_repro.analysis.judges.attention import Heads
from vision_repro.analysis.summary import SummaryRow
from vision_repro.figures.ablation import Variant, ablation_figure
from vision_repro.figures.attention import Panel, attention_figure
from vision_repro.figures.rates import rates_figure

VARIANTS = (
    Variant("vit-64x4/2-pos0", "none", 0.61382, "without"),
    Variant("vit-64x4/2", "1-D", 0.64206, "reference"),
    Variant("vit-64x4/2-pos2d-shared", "2-D, every layer, shared", 0.64022),
)
HEADS = {"vit-64x4/2": "class token", "vit-64x4/2-gap": "global average pooling"}
READINGS = (("few_shot_5", "(a) 5-shot accuracy [%]"), ("test_accuracy", "(b) Test accuracy [%]"))
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
NOTE = "the digits of the preset, equal steps of 64 images; " * 4
VERDICTS = (
    Verdict("a", "Positions matter", "ViT, Table 8", HOLDS, t_interval([0.2, 0.21, 0.22]), "fraction", "r", "m", "s"),
    Verdict("b", "All are equal", "ViT, Table 8", UNTESTED, None, "fraction", "too few seeds", "m"),
)


def row(setting: dict[str, str | int | float], metric: str, values: list[float], lost: int = 0) -> SummaryRow:
    return SummaryRow("x", "cpu", setting, metric, "fraction", t_interval(values), lost)


def ablation(seeds: int, metrics: tuple[str, ...] = ("few_shot_5", "test_accuracy"), width: float = 5.5) -> Figure:
    rows = [
        row({"model": item.model}, metric, [0.5 + 0.1 * index + 0.02 * seed for seed in range(seeds)])
        for (index, item), metric in itertools.product(enumerate(VARIANTS), metrics)
        if seeds
    ]
    return ablation_figure(
        rows,
        VERDICTS,
        variants=VARIANTS,
        readings=READINGS,
        paper_title="(c) Paper: 5-shot [%]",
        margin=0.015,
        preset="cpu",
        notes=[NOTE],
        width=width,
    )


def rates(seeds: int, lost: frozenset[tuple[str, float]] = frozenset(), width: float = 5.5) -> Figure:
    rows = []
    for model, rate, (metric, _) in itertools.product(HEADS, RATES, READINGS):
        values = [0.9 - 0.1 * abs(math.log10(rate / 1e-3)) + 0.01 * seed for seed in range(seeds)]
        gone = (model, rate) in lost
        rows.append(row({"model": model, "lr": rate}, metric, [] if gone else values, seeds if gone else 0))
    return rates_figure(rows, VERDICTS, labels=HEADS, readings=READINGS, preset="cpu", notes=[NOTE], width=width)


def heads(seeds: int, layers: int = 6, many: int = 4) -> Heads:
    return {
        seed: {
            layer: {head: 1.0 + (head + seed) % many + 0.1 * layer for head in range(many)} for layer in range(layers)
        }
        for seed in range(seeds)
    }


def attention(panels: int, seeds: int, width: float = 5.5) -> Figure:
    names = ("vit-64x6/2", "r8x0.25+vit-64x6/2", "timm:vit_large_patch16_224.augreg_in21k", "swin-32x2.2/1")
    shown = [Panel(name, heads(seeds), None if "swin" in name else 4.016) for name in names[:panels]]
    return attention_figure(shown, VERDICTS, notes=[NOTE], width=width)


CASES = {
    "ablation": lambda width: ablation(5, width=width),
    "ablation, one seed": lambda width: ablation(1, width=width),
    "ablation, one reading": lambda width: ablation(3, ("test_accuracy",), width=width),
    "ablation, nothing": lambda width: ablation(0, width=width),
    "rates": lambda width: rates(5, width=width),
    "rates, diverged": lambda width: rates(3, frozenset({("vit-64x4/2-gap", 1e-2)}), width=width),
    "rates, all diverged": lambda width: rates(1, frozenset(itertools.product(HEADS, RATES)), width=width),
    "attention": lambda width: attention(2, 5, width=width),
    "attention, one seed": lambda width: attention(4, 1, width=width),
    "attention, nothing": lambda width: attention(1, 0, width=width),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("width", [5.5, 7.0])
def test_no_text_overlaps_another_or_leaves_the_page(name: str, width: float) -> None:
    found = CASES[name](width)
    assert_apart(found)


def written(found: Figure) -> str:
    return " ".join(text.get_text() for text in found.findobj(Text))


def test_an_ablation_shows_ours_and_the_paper_s_printed_values() -> None:
    found = ablation(3)
    ours, _, theirs = found.axes
    assert [line.get_xdata()[0] for line in theirs.lines] == pytest.approx([61.382, 64.206, 64.022])
    assert [line.get_xdata()[0] for line in ours.lines] == pytest.approx([52.0, 62.0, 72.0])
    assert [tick.get_text() for tick in ours.get_yticklabels()] == [item.label for item in VARIANTS]
    band = ours.patches[0].get_bbox()
    assert (band.x0, band.x1) == pytest.approx((60.5, 63.5))
    text = written(found)
    words = ("3 seeds", "95 % t interval", "+21.0 [+18.5, +23.5] points", "within 1.5 points", "too few seeds")
    assert [word for word in words if word not in text] == []


def test_a_rate_at_which_all_runs_diverged_is_a_gap_and_a_cross() -> None:
    found = rates(3, frozenset({("vit-64x4/2-gap", 1e-2)}))
    axes = found.axes[0]
    pooled = next(line for line in axes.lines if line.get_label() == "global average pooling")
    assert [math.isnan(value) for value in pooled.get_ydata()] == [False, False, False, True]
    crosses = [line for line in axes.lines if line.get_marker() == "X" and len(line.get_xdata())]
    assert [line.get_xdata()[0] for line in crosses] == pytest.approx([1e-2], rel=0.05)
    assert "3 diverged runs left out" in written(found)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.0003", "0.001", "0.003", "0.01"]


def test_dark_dots_are_means_by_rank_not_by_the_number_of_the_head() -> None:
    """Over four seeds every head number has the same mean; the ranks keep their spread."""
    axes = attention(1, 4).axes[0]
    dark = [line for line in axes.lines if line.get_marker() == "o" and line.get_alpha() is None]
    assert list(dark[0].get_ydata()) == pytest.approx([1.0, 2.0, 3.0, 4.0])
    assert len(dark) == 6
    light = [line for line in axes.lines if line.get_alpha() is not None]
    assert [len(line.get_ydata()) for line in light] == [16] * 6
    dashed = next(line for line in axes.lines if line.get_color() == "#555555")
    assert list(dashed.get_ydata()) == [4.016, 4.016]
