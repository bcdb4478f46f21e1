"""The figure of an ablation: a line a variant, ours in two readings of accuracy, beside the paper's column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vision_repro.analysis.claims import Verdict
from vision_repro.analysis.intervals import Interval
from vision_repro.analysis.summary import SummaryRow
from vision_repro.figures.footer import footer, lost_note, seeds_note
from vision_repro.figures.panels import say
from vision_repro.figures.style import style, text_width
from vision_repro.figures.ticks import InView
from vision_repro.figures.venues import NARROW, page, stroke

# inches
_GAP, _RIGHT, _TOP, _UNDER, _ROW = 0.16, 0.12, 0.24, 0.26, 0.165
_LOOKS = {"reference": ("#004776", "s"), "without": ("#D55E00", "X"), "": ("#0072B2", "o")}


@dataclass(frozen=True)
class Variant:
    """One line: its model, its name in the paper's words, the paper's value (a fraction, or None) and its role.

    The role is `reference` (what the others are compared with), `without` (what is taken away) or empty.
    """

    model: str
    label: str
    paper: float | None = None
    role: str = ""


def ablation_figure(
    rows: Sequence[SummaryRow],
    verdicts: Sequence[Verdict],
    *,
    variants: Sequence[Variant],
    readings: Sequence[tuple[str, str]],
    paper_title: str,
    margin: float,
    preset: str,
    notes: Sequence[str],
    width: float | None = None,
) -> Figure:
    """Returns a panel for each reading (metric, title) of our runs and one of the paper's values, a line a variant.

    The grey band is the reference's mean with the equivalence margin (a fraction) on both sides; `width` is in inches,
    that of the page if None. In a narrow figure the panels stand under each other.
    """
    width = page().width if width is None else width
    ours = [row for row in rows if row.preset == preset]
    measured = [row for row in ours if row.metric in dict(readings)]
    band = f"grey band: within {100 * margin:g} points of the reference (square), the margin of the claims of equality"
    with style():
        below = footer(verdicts, [*notes, seeds_note(measured), band, lost_note(measured)], width)
        tall, count = _ROW * len(variants) + 0.06, len(readings) + 1
        across = 1 if width < NARROW else count
        above = (_TOP + tall + _UNDER) * -(-count // across)
        figure = Figure(figsize=(width, above + below.height))
        left = max(text_width(item.label, 7) for item in variants) + 0.14
        axes = [_panel(figure, index, across, left, tall) for index in range(count)]
        for panel, (metric, title) in zip(axes, readings, strict=False):
            found = {str(row.setting["model"]): row for row in ours if row.metric == metric}
            points = [found[item.model].interval if item.model in found else None for item in variants]
            _dots(panel, variants, points, margin, title)
        theirs = [None if item.paper is None else Interval(*3 * (item.paper,), 1) for item in variants]
        _dots(axes[-1], variants, theirs, margin, paper_title)
        for panel in axes[::across]:
            panel.set_yticks(range(len(variants)), [item.label for item in variants])
        below.write(figure, above)
    return figure


def _panel(figure: Figure, index: int, across: int, left: float, tall: float) -> Axes:
    width, height = figure.get_size_inches()
    wide = (width - left - (across - 1) * _GAP - _RIGHT) / across
    line, column = divmod(index, across)
    bottom = (height - line * (_TOP + tall + _UNDER) - _TOP - tall) / height
    return figure.add_axes(((left + column * (wide + _GAP)) / width, bottom, wide / width, tall / height))


def _dots(
    axes: Axes, variants: Sequence[Variant], points: Sequence[Interval | None], margin: float, title: str
) -> None:
    """Draws mean [%] and interval of each variant that has one, on a line of its own, the first on top."""
    axes.set_title(title, loc="left", pad=stroke(4))
    axes.set_ylim(len(variants) - 0.4, -0.6)
    axes.set_yticks(range(len(variants)), [""] * len(variants))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if not any(point and point.n for point in points):
        say(axes, "not measured")
        return
    for line, (item, point) in enumerate(zip(variants, points, strict=True)):
        if point is None or not point.n:
            continue
        color, marker = _LOOKS[item.role]
        if item.role == "reference":
            axes.axvspan(100 * (point.mean - margin), 100 * (point.mean + margin), color="#ECECEC", lw=0, zorder=0)
        if point.bounded:
            axes.hlines(line, 100 * point.low, 100 * point.high, color=color, linewidth=stroke(1.0), zorder=2)
        axes.plot(
            [100 * point.mean], [line], color=color, marker=marker, markersize=stroke(4.5), linestyle="", zorder=3
        )
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -2.0), min(high, 102.0))
    axes.xaxis.set_major_locator(InView(4))
