"""The figure of a study: panels side by side, lines over a number or a list of entries, and one legend a row of panels.

A name has the same colour and marker in all panels of a figure. Fractions are drawn as percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vision_repro.analysis.claims import Verdict
from vision_repro.analysis.intervals import Interval
from vision_repro.analysis.summary import SummaryRow
from vision_repro.figures.axes import number_axis, percent_axis
from vision_repro.figures.footer import footer, lost_note, seeds_note
from vision_repro.figures.panels import say
from vision_repro.figures.series import PAPER, Entry, Series
from vision_repro.figures.style import style, text_width
from vision_repro.figures.venues import NARROW, page, stroke

# inches
_LEFT, _GAP, _RIGHT, _TOP, _CURVES = 0.36, 0.16, 0.08, 0.22, 1.45
_UNDER, _UNDER_DOTS, _LEGEND, _SPACE, _ROW = 0.40, 0.24, 0.145, 0.06, 0.165
_CROWDED = 12
"""Points of a line from which on it has a band and no markers."""
_DASHED, _DOTTED = (0.0, (4, 1.5)), (0.0, (1, 1))
_LOOKS: tuple[tuple[str, str, Any], ...] = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "^", _DASHED),
    ("#009E73", "s", (0.0, (5, 1, 1, 1))),
    ("#CC79A7", "D", _DOTTED),
    ("#E69F00", "v", "-"),
    ("#56B4E9", "P", _DASHED),
    ("#4D4D4D", "X", (0.0, (3, 1, 1, 1))),
    ("#8C4C8C", "<", _DOTTED),
    ("#7A5C00", ">", "-"),
    ("#001F3D", "h", _DASHED),
)
_PAPER: tuple[str, str, Any] = ("#777777", "o", _DOTTED)
_ROLES = {"reference": ("#004776", "s"), "without": ("#D55E00", "X"), "": ("#0072B2", "o")}


@dataclass(frozen=True)
class Curves:
    """A panel of lines over a number; `mark` is a height (a fraction where the lines are) with a line of its own."""

    title: str
    series: Sequence[Series]
    xlabel: str
    xlog: bool = False
    ylog: bool = False
    ylabel: str = ""
    mark: float | None = None

    @property
    def height(self) -> float:
        """The room for the axes [inches]."""
        return _CURVES


@dataclass(frozen=True)
class Dots:
    """A panel of entries, one a line: mean and interval, and what a paper prints as an open mark."""

    title: str
    entries: Sequence[Entry]

    @property
    def height(self) -> float:
        """The room for the axes [inches]."""
        return max(_ROW * len(self.entries) + 0.06, 0.6)


Panel = Curves | Dots


@dataclass
class _Looks:
    """The look of each name, in the order in which the names come."""

    found: dict[str, tuple[str, str, Any]] = field(default_factory=dict)

    def of(self, series: Series) -> tuple[str, str, Any]:
        if series.look == PAPER:
            return _PAPER
        place = len(self.found) if series.look is None else series.look
        return self.found.setdefault(series.label, _LOOKS[place % len(_LOOKS)])


def study_figure(
    rows: Sequence[SummaryRow],
    verdicts: Sequence[Verdict],
    *,
    panels: Sequence[Panel],
    preset: str,
    notes: Sequence[str],
    across: int = 3,
    width: float | None = None,
) -> Figure:
    """Returns the panels, `across` of them side by side, then the verdicts, and what the figure shows.

    `width` is in inches, that of the page if None; in a narrow figure the panels stand under each other.
    """
    width = page().width if width is None else width
    ours = [row for row in rows if row.preset == preset and row.unit == "fraction"]
    across = 1 if width < NARROW else min(across, len(panels))
    lines = [panels[start : start + across] for start in range(0, len(panels), across)]
    with style():
        looks = _Looks()
        for panel in panels:
            for series in panel.series if isinstance(panel, Curves) else ():
                looks.of(series)
        legends = [_legend_of(line, looks, width) for line in lines]
        below = footer(verdicts, [*notes, _seeds(panels, ours), lost_note(ours), _papers(panels)], width)
        heights = [max(panel.height for panel in line) for line in lines]
        under = [_UNDER if any(isinstance(panel, Curves) for panel in line) else _UNDER_DOTS for line in lines]
        tops = [_TOP]
        for tall, room, legend in zip(heights, under, legends, strict=True):
            tops.append(tops[-1] + tall + room + _LEGEND * legend[1] + (_SPACE if legend[1] else 0) + _TOP)
        figure = Figure(figsize=(width, tops[-1] - _TOP + below.height))
        letters = iter("abcdefghijklmnop")
        for top, tall, room, line, legend in zip(tops, heights, under, lines, legends, strict=False):
            _row(figure, line, top, across, looks, [next(letters) if len(panels) > 1 else "" for _ in line])
            _write_legend(figure, legend, top + tall + room)
        below.write(figure, tops[-1] - _TOP)
    return figure


def _row(figure: Figure, line: Sequence[Panel], top: float, across: int, looks: _Looks, letters: Sequence[str]) -> None:
    """Draws the panels of a row, whose axes begin `top` inches under the edge of the figure."""
    width, height = figure.get_size_inches()
    cell = (width - _RIGHT) / (across if len(line) == across else max(len(line), min(2, across)))
    for index, (panel, letter) in enumerate(zip(line, letters, strict=True)):
        names = [entry.label for entry in panel.entries] if isinstance(panel, Dots) else []
        left = max((text_width(name, 7) for name in names), default=_LEFT - 0.12) + 0.12
        wide = max(cell - left - _GAP / 2, 0.4)
        place = ((index * cell + left) / width, (height - top - panel.height) / height)
        axes = figure.add_axes((*place, wide / width, panel.height / height))
        title = f"({letter}) {panel.title}" if letter else panel.title
        axes.set_title(
            title, loc="left", pad=stroke(4), x=-(left - 0.04) / wide if text_width(title, 8) > wide else 0.0
        )
        if isinstance(panel, Curves):
            _curves(axes, panel, looks, wide)
        else:
            _dots(axes, panel, wide)


def _curves(axes: Axes, panel: Curves, looks: _Looks, wide: float) -> None:
    shown = [series for series in panel.series if series.points]
    if not shown:
        say(axes, "not measured")
        return
    percent = all(series.unit == "fraction" for series in shown)
    scale = 100.0 if percent else 1.0
    shifts = _shifts(shown, panel.xlog)
    for series in shown:
        least = _cut(shown) if panel.ylog else -math.inf
        _line(axes, series, looks.of(series), (shifts.get(series.label, 0.0), panel.xlog), scale, least)
    places = [point.x for series in shown for point in series.points]
    if panel.mark is not None:
        axes.axhline(scale * panel.mark, color="#333333", linewidth=stroke(0.8), linestyle=_DASHED, zorder=1)
    number_axis(axes, "x", places, log=panel.xlog, wide=wide)
    heights = [scale * end for series in shown for point in series.points for end in _ends(point.interval)]
    if panel.ylog:  # an interval of positive numbers may reach below 0, where a logarithmic axis has no place
        heights = [max(end, _cut(shown)) for end in heights]
    if panel.mark is not None:
        heights.append(scale * panel.mark)
    if percent and not panel.ylog:
        percent_axis(axes, heights)
    else:
        number_axis(axes, "y", heights, log=panel.ylog, wide=panel.height, free=True)
    axes.set_xlabel(panel.xlabel, labelpad=stroke(2))
    if panel.ylabel:
        axes.set_ylabel(panel.ylabel, labelpad=stroke(1))


def _ends(interval: Interval) -> Iterable[float]:
    return (end for end in (interval.mean, interval.low, interval.high) if math.isfinite(end))


def _shifts(shown: Sequence[Series], log: bool) -> dict[str, float]:
    """Returns how far each line moves aside, so that no bar hides another; nothing where few points coincide."""
    ours = [series for series in shown if series.look != PAPER]
    places = [point.x for series in ours for point in series.points]
    distinct = sorted(set(places))
    if len(distinct) == len(places) or len(distinct) > _CROWDED or len(ours) < 2:
        return {}
    span = math.log10(distinct[-1] / distinct[0]) if log and distinct[0] > 0 else distinct[-1] - distinct[0]
    step = 0.012 * (span or 1.0)
    return {series.label: step * (index - (len(ours) - 1) / 2) for index, series in enumerate(ours)}


def _cut(shown: Sequence[Series]) -> float:
    """Returns the height at which bars on a logarithmic axis are cut: a tenth of the least mean above 0."""
    means = [point.interval.mean for series in shown for point in series.points if point.interval.mean > 0]
    return min(means, default=1.0) / 10


def _line(
    axes: Axes, series: Series, look: tuple[str, str, Any], aside: tuple[float, bool], scale: float, least: float
) -> None:
    (shift, log), (color, marker, dashes) = aside, look
    places = [point.x * 10**shift if log else point.x + shift for point in series.points]
    crowded = len(places) > _CROWDED
    theirs = series.look == PAPER
    axes.plot(
        places,
        [scale * point.interval.mean for point in series.points],
        color=color,
        marker="" if crowded and series.joined else marker,
        linestyle=dashes if series.joined else "",
        markerfacecolor="white" if theirs else color,
        markeredgewidth=stroke(0.8),
        zorder=3,
    )
    bounded = [(x, point.interval) for x, point in zip(places, series.points, strict=True) if point.interval.bounded]
    low, high = ([max(scale * getattr(item, end), least) for _, item in bounded] for end in ("low", "high"))
    if crowded and series.joined:
        axes.fill_between([x for x, _ in bounded], low, high, color=color, alpha=0.16, linewidth=0, zorder=1)
    else:
        axes.vlines([x for x, _ in bounded], low, high, color=color, linewidth=stroke(0.9), zorder=2)


def _dots(axes: Axes, panel: Dots, wide: float) -> None:
    """Draws each entry that has a number on a line of its own, the first on top."""
    axes.set_ylim(len(panel.entries) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    shown = [(line, item) for line, item in enumerate(panel.entries) if item.interval is not None]
    if not shown:
        say(axes, "not measured")
    axes.set_yticks(range(len(panel.entries)), [item.label for item in panel.entries])
    if not shown:
        return
    scale = 100.0 if all(item.unit == "fraction" for _, item in shown) else 1.0
    ends: list[float] = []
    for line, item in shown:
        color, marker = _ROLES[item.role]
        interval = item.interval
        assert interval is not None
        if interval.bounded:
            axes.hlines(line, scale * interval.low, scale * interval.high, color=color, linewidth=stroke(1.0), zorder=2)
        axes.plot(
            [scale * interval.mean], [line], color=color, marker=marker, markersize=stroke(4.5), linestyle="", zorder=3
        )
        ends += [min(scale * end, 100.0) if scale == 100 else end for end in _ends(interval)]  # none is above 100 %
    printed = [(line, scale * item.paper) for line, item in enumerate(panel.entries) if item.paper is not None]
    color, marker, _ = _PAPER
    axes.plot(
        [value for _, value in printed],
        [line for line, _ in printed],
        color=color,
        marker=marker,
        markerfacecolor="white",
        linestyle="",
        markeredgewidth=stroke(0.8),
        zorder=2,
    )
    number_axis(axes, "x", [*ends, *(value for _, value in printed)], log=False, wide=wide, free=True)


def _seeds(panels: Sequence[Panel], rows: Sequence[SummaryRow]) -> str:
    drawn = [series for panel in panels if isinstance(panel, Curves) for series in panel.series]
    bands = any(series.joined and len(series.points) > _CROWDED for series in drawn)
    note = seeds_note(rows)
    note = note.replace("bars:", "bars and bands:") if bands else note
    logs = [panel for panel in panels if isinstance(panel, Curves) and panel.ylog]
    cut = any(point.interval.low <= 0 for panel in logs for series in panel.series for point in series.points)
    return f"{note}; on logarithmic axes they are cut a decade under the least mean" if cut else note


def _papers(panels: Sequence[Panel]) -> str:
    printed = any(entry.paper is not None for panel in panels if isinstance(panel, Dots) for entry in panel.entries)
    return "open grey circles: what the paper prints" if printed else ""


_Legend = tuple[list[Line2D], int, int]


def _legend_of(line: Sequence[Panel], looks: _Looks, width: float) -> _Legend:
    """Returns the handles of a row's names, the lines that they take and the names in a line."""
    handles: dict[str, Line2D] = {}
    for panel in line:
        for series in panel.series if isinstance(panel, Curves) else ():
            if not series.points or series.label in handles:
                continue
            color, marker, dashes = looks.of(series)
            crowded = len(series.points) > _CROWDED and series.joined
            handles[series.label] = Line2D(
                [],
                [],
                color=color,
                marker="" if crowded else marker,
                linestyle=dashes if series.joined else "",
                markerfacecolor="white" if series.look == PAPER else color,
                label=series.label,
            )
    if not handles:
        return [], 0, 1
    widest = max(text_width(label, 7) for label in handles) + 0.5
    columns = max(1, min(len(handles), int((width - 0.2) / widest)))
    lines = math.ceil(len(handles) / columns)
    return list(handles.values()), lines, math.ceil(len(handles) / lines)


def _write_legend(figure: Figure, legend: _Legend, top: float) -> None:
    handles, lines, columns = legend
    if not lines:
        return
    figure.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 1 - top / figure.get_figheight()),
        ncols=columns,
        borderaxespad=0,
        borderpad=0,
        columnspacing=1.4,
        handlelength=2.4,
        handletextpad=0.5,
        labelspacing=0.25,
    )
