"""Mean attention distance of every head by layer, a panel a model (ViT, Figure 7 right and Figure 11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vision_repro.analysis.claims import Verdict
from vision_repro.analysis.judges.attention import Heads
from vision_repro.figures.appearance import appearance
from vision_repro.figures.footer import footer
from vision_repro.figures.panels import say
from vision_repro.figures.style import style
from vision_repro.figures.ticks import InView
from vision_repro.figures.venues import NARROW, page, points, stroke

# inches
_LEFT, _GAP, _RIGHT, _TOP, _PANEL, _UNDER = 0.36, 0.32, 0.08, 0.22, 1.7, 0.36
_PER_ROW = 3


@dataclass(frozen=True)
class Panel:
    """One model: distances `[seed][layer][head]` [pixels], and that of uniform attention, or None if it has none."""

    model: str
    heads: Heads
    uniform: float | None


def attention_figure(
    panels: Sequence[Panel], verdicts: Sequence[Verdict], *, notes: Sequence[str], width: float | None = None
) -> Figure:
    """Returns the panels, the verdicts and what the figure shows; `width` is in inches, that of the page if None.

    Heads have no order that seeds share, so a dark dot is the mean over seeds of a layer's widest head, or second
    widest, and so on; light dots are all heads of all seeds.
    """
    width = page().width if width is None else width
    seeds = max((len(panel.heads) for panel in panels), default=0)
    with style():
        below = footer(verdicts, [*notes, _marks(seeds)], width)
        across = min(len(panels), 1 if width < NARROW else _PER_ROW)
        down = -(-len(panels) // across) if panels else 0
        row = _TOP + _PANEL + _UNDER
        height = down * row + below.height
        figure = Figure(figsize=(width, height))
        wide = (width - _LEFT - (across - 1) * _GAP - _RIGHT) / max(across, 1)
        for index, panel in enumerate(panels):
            line, column = divmod(index, across)
            left, bottom = _LEFT + column * (wide + _GAP), height - line * row - _TOP - _PANEL
            axes = figure.add_axes((left / width, bottom / height, wide / width, _PANEL / height))
            axes.set_title(f"({chr(97 + index)}) {_label(panel.model)}", loc="left", pad=stroke(4))
            _draw(axes, panel)
            if panel.heads:
                axes.set_ylim(0, 1.12 * max(_top(other) for other in panels if other.uniform == panel.uniform))
            if column == 0:
                axes.set_ylabel("mean attention distance [pixels]", labelpad=stroke(3))
        below.write(figure, down * row)
    return figure


def _marks(seeds: int) -> str:
    line = "line: mean over heads; dashed: uniform attention"
    if seeds <= 1:
        return f"a dot a head of one seed; {line}"
    return (
        f"light dots: the heads of {seeds} seeds; dark dots: the widest head of a layer, the second widest and so on, "
        f"mean over seeds; {line}"
    )


def _label(model: str) -> str:
    label = appearance(model).label
    return label.removeprefix("timm:").partition(".")[0] if label.startswith("timm:") else label


def _top(panel: Panel) -> float:
    values = [value for seed in panel.heads.values() for heads in seed.values() for value in heads.values()]
    return max([*values, panel.uniform or 0.0])


def _draw(axes: Axes, panel: Panel) -> None:
    """Draws the heads of all seeds, their means by rank, the mean over heads, and uniform attention."""
    if not panel.heads:
        say(axes, "not measured")
        return
    color = appearance(panel.model).color
    layers = sorted(set.intersection(*(set(seed) for seed in panel.heads.values())))
    for layer in layers:
        ranked = [sorted(seed[layer].values()) for seed in panel.heads.values()]
        if len(ranked) > 1:
            light = [value for values in ranked for value in values]
            axes.plot([layer] * len(light), light, "o", color=color, alpha=0.18, markersize=stroke(3), mew=0, zorder=2)
        means = [fmean(values) for values in zip(*ranked, strict=True)]
        axes.plot([layer] * len(means), means, "o", color=color, markersize=stroke(3.4), mew=0, zorder=4)
    middle = [fmean(value for seed in panel.heads.values() for value in seed[layer].values()) for layer in layers]
    axes.plot(layers, middle, color=color, linewidth=stroke(0.8), zorder=3)
    if panel.uniform is not None:
        axes.axhline(panel.uniform, color="#555555", linestyle=(0, (4, 2)), linewidth=stroke(0.8), zorder=1)
        axes.text(layers[-1] + 0.45, panel.uniform, "uniform attention", ha="right", va="bottom", fontsize=points(6.5))
    axes.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
    axes.xaxis.set_major_locator(InView(8, whole=True))
    axes.yaxis.set_major_locator(InView(6))
    axes.set_xlabel("layer, counted from 0", labelpad=stroke(2))
