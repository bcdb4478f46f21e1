"""What pre-training gives: accuracy by where a run starts from, and against the steps of pre-training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vision_repro.analysis.claims import Verdict
from vision_repro.analysis.intervals import Interval
from vision_repro.analysis.summary import SummaryRow
from vision_repro.analysis.table import Level
from vision_repro.figures.footer import footer, lost_note, seeds_note
from vision_repro.figures.panels import limits, say, size_axis
from vision_repro.figures.style import style, text_width
from vision_repro.figures.ticks import InView
from vision_repro.figures.venues import NARROW, page, stroke

# inches
_LEFT, _GAP, _RIGHT, _TOP, _HEAD, _UNDER, _ROW, _CURVES, _AXIS = 0.36, 0.15, 0.13, 0.36, 0.22, 0.25, 0.165, 1.35, 0.34
_LOOKS = {
    "scratch": ("#777777", "X"), "supervised": ("#004776", "s"), "": ("#D55E00", "o"), "beyond": ("#009E73", "D"),
}  # fmt: skip
_LINES = (("#D55E00", "o", "-"), ("#0072B2", "s", (0.0, (4, 1.5))), ("#00664A", "^", (0.0, (1, 1))))
PAPER = (("no pre-training", 0.779, "scratch"), ("masked patches", 0.799, ""), ("supervised", 0.839, "supervised"))
"""Accuracy of ViT-B/16 on ImageNet: 79.9 %, 2 points above scratch and 4 below supervised pre-training (ViT, 4.6)."""


@dataclass(frozen=True)
class Origin:
    """One line: an entry of the column `start`, its label and its role: scratch, supervised, beyond, or ""."""

    start: str
    label: str
    role: str = ""


@dataclass(frozen=True)
class Group:
    """One reading: a metric of the rows with this budget and number of training images, and its title."""

    metric: str
    budget: str
    size: Level
    title: str

    def of(self, rows: Sequence[SummaryRow], start: str) -> Interval | None:
        """Returns the interval over seeds of a start; None if it was not measured."""
        where = {"pretraining": start, "budget": self.budget, "train_size": self.size}
        found = (row.interval for row in rows if row.metric == self.metric and row.setting == where and row.n)
        return next(found, None)


def pretraining_figure(
    rows: Sequence[SummaryRow],
    verdicts: Sequence[Verdict],
    *,
    origins: Sequence[Origin],
    groups: Sequence[Group],
    lengths: Mapping[int, str],
    curves: Sequence[Group],
    preset: str,
    notes: Sequence[str],
    width: float | None = None,
) -> Figure:
    """Returns a panel for each of `groups`, one of `curves` over the steps of `lengths`, and one of the paper's.

    `lengths` maps steps of pre-training to starts; `width` is in inches, that of the page if None. In a narrow figure
    the readings stand two in a row, and the last two panels under each other.
    """
    width = page().width if width is None else width
    ours = [row for row in rows if row.preset == preset]
    shown = [row for row in ours if any((row.metric, row.setting["budget"]) == (g.metric, g.budget) for g in groups)]
    with style():
        marks = f"{seeds_note(shown)}; dashed: without pre-training"
        below = footer(verdicts, [*notes, marks, lost_note(shown)], width)
        narrow, row = width < NARROW, _TOP + _tall(origins) + _UNDER
        across = 2 if narrow else max(1, len(groups))
        upper, lower = -(-len(groups) // across) * row, _HEAD + _CURVES + _AXIS
        above = upper + lower + (_HEAD + _tall(PAPER) + _UNDER if narrow else 0)
        figure = Figure(figsize=(width, above + below.height))
        left = max(text_width(item.label, 7) for item in origins) + 0.14
        wide = (width - left - (across - 1) * _GAP - _RIGHT) / across
        for index, group in enumerate(groups):
            line, column = divmod(index, across)
            axes = _axes(figure, left + column * (wide + _GAP), line * row + _TOP, wide, _tall(origins))
            _title(axes, index, f"{group.title} [%]", wide)
            _dots(axes, origins, [group.of(ours, item.start) for item in origins])
            if column:
                axes.set_yticklabels([])
        theirs = _paper(figure, len(groups) + 1, upper + (lower if narrow else 0) + _HEAD, narrow)
        space = width - _LEFT - _RIGHT if narrow else theirs - 0.16 - _LEFT
        axes = _axes(figure, _LEFT, upper + _HEAD, space, _CURVES)
        _title(axes, len(groups), "Accuracy against steps of pre-training [%]", space)
        _curves(axes, ours, lengths, curves)
        _legend(figure, axes, 0 if narrow else width - _RIGHT)
        below.write(figure, above)
    return figure


def _tall(lines: Sequence[object]) -> float:
    """Returns the height of a panel with so many lines [inches]."""
    return _ROW * len(lines) + 0.06


def _paper(figure: Figure, index: int, top: float, narrow: bool) -> float:
    """Draws the paper's numbers and returns where their labels begin [inches from the left]."""
    width = figure.get_figwidth()
    labels = max(text_width(label, 7) for label, _, _ in PAPER) + 0.14
    left = labels if narrow else width - _RIGHT - 1.24
    axes = _axes(figure, left, top, width - _RIGHT - left, _tall(PAPER))
    _title(axes, index, "Paper: ImageNet [%]", width)
    origins = [Origin(label, label, role) for label, _, role in PAPER]
    _dots(axes, origins, [Interval(value, value, value, 1) for _, value, _ in PAPER])
    return left - labels


def _axes(figure: Figure, left: float, top: float, wide: float, tall: float) -> Axes:
    """Returns axes at a place in inches, `top` from the upper edge."""
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, 1 - (top + tall) / height, wide / width, tall / height))


def _title(axes: Axes, index: int, text: str, wide: float) -> None:
    """Writes `(a) Text`, broken at its comma where the panel is too narrow for one line."""
    text = f"({chr(97 + index)}) {text[:1].upper()}{text[1:]}"
    if text_width(text, 8) > wide:
        text = text.replace(", ", ",\n", 1)
    axes.set_title(text, loc="left", pad=stroke(4), linespacing=1.05)


def _dots(axes: Axes, origins: Sequence[Origin], points: Sequence[Interval | None]) -> None:
    """Draws mean [%] and interval of each origin that has one, on a line of its own, the first on top."""
    axes.set_ylim(len(origins) - 0.4, -0.6)
    axes.set_yticks(range(len(origins)), [item.label for item in origins])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if not any(points):
        labels = [item.label for item in origins]
        say(axes, "not measured")
        axes.set_yticks(range(len(origins)), labels)
        return
    for line, (item, point) in enumerate(zip(origins, points, strict=True)):
        if point is None:
            continue
        color, marker = _LOOKS[item.role]
        if item.role == "scratch":
            axes.axvline(100 * point.mean, color=color, linestyle=(0, (3, 2)), linewidth=stroke(0.7), zorder=1)
        if point.bounded:
            axes.hlines(line, 100 * point.low, 100 * point.high, color=color, linewidth=stroke(1.0), zorder=2)
        axes.plot([100 * point.mean], [line], color=color, marker=marker, markersize=stroke(4.2), ls="", zorder=3)
    _room(axes)


def _room(axes: Axes) -> None:
    low, high = axes.get_xlim()
    spare = max(0.0, 4 - (high - low)) / 2  # percent: ticks of less than a point say nothing
    axes.set_xlim(max(low - spare, -2.0), min(high + spare, 102.0))
    axes.xaxis.set_major_locator(InView(3))


def _curves(axes: Axes, rows: Sequence[SummaryRow], lengths: Mapping[int, str], curves: Sequence[Group]) -> None:
    """Draws each reading over the steps of pre-training, and as a dashed line what it is without."""
    steps = sorted(lengths)
    found = {index: {n: group.of(rows, lengths[n]) for n in steps} for index, group in enumerate(curves)}
    measured = [point for points in found.values() for point in points.values() if point]
    if not measured:
        say(axes, "not measured")
        return
    for index, group in enumerate(curves):
        color, marker, dashes = _LINES[index % len(_LINES)]
        points = {n: point for n, point in found[index].items() if point}
        places = [n * 1.03 ** (index - (len(curves) - 1) / 2) for n in points]
        means = [100 * point.mean for point in points.values()]
        axes.plot(places, means, color=color, marker=marker, linestyle=dashes, label=group.title, zorder=3)
        for place, point in zip(places, points.values(), strict=True):
            if point.bounded:
                axes.vlines(place, 100 * point.low, 100 * point.high, color=color, linewidth=stroke(1.0), zorder=2)
        without = group.of(rows, "")
        if without and points:
            measured.append(without)
            axes.axhline(100 * without.mean, color=color, linestyle=(0, (3, 2)), linewidth=stroke(0.7), zorder=1)
    limits(axes, [point for point in measured if math.isfinite(point.mean)])
    size_axis(axes, steps)
    axes.set_xlabel("steps (mean colour, 50 %)", labelpad=stroke(2))


def _legend(figure: Figure, axes: Axes, right: float) -> None:
    """Names the lines left of `right` inches from the left of the figure, or if that is 0 in a strip of the panel."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    looks = {"handlelength": 2.6, "borderaxespad": 0.2, "labelspacing": 0.25}
    if not right:
        low, high = axes.get_ylim()
        axes.set_ylim(low - (0.15 * len(handles) + 0.05) * (high - low), high)
        axes.legend(loc="lower right", **looks)
        return
    corner = right / figure.get_size_inches()[0], axes.get_position().y0
    figure.legend(handles, labels, loc="lower right", bbox_to_anchor=corner, **looks)
