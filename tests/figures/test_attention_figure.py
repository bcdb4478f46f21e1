"""The figure of attention distance: what it shows, and that nothing overlaps."""

import pytest
from matplotlib.figure import Figure

from tests.figures.apart import assert_apart
from vision_repro.analysis.claims import HOLDS, UNTESTED, Verdict
from vision_repro.analysis.intervals import t_interval
from vision_repro.analysis.judges.attention import Heads
from vision_repro.figures.attention import Panel, attention_figure

NOTE = "the digits of the preset, equal steps of 64 images; " * 4
VERDICTS = (
    Verdict("a", "Positions matter", "ViT, Table 8", HOLDS, t_interval([0.2, 0.21, 0.22]), "fraction", "r", "m", "s"),
    Verdict("b", "All are equal", "ViT, Table 8", UNTESTED, None, "fraction", "too few seeds", "m"),
)


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


@pytest.mark.parametrize(("panels", "seeds"), [(2, 5), (4, 1), (1, 0)])
@pytest.mark.parametrize("width", [5.5, 7.0])
def test_no_text_overlaps_another_or_leaves_the_page(panels: int, seeds: int, width: float) -> None:
    assert_apart(attention(panels, seeds, width=width))


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
