"""The panels of a study: lines over a number, and lists of entries; each name looks the same in all panels.

Fractions are drawn as percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes

from vision_repro.analysis.intervals import Interval
from vision_repro.figures.axes import number_axis, percent_axis
from vision_repro.figures.panels import say
from vision_repro.figures.series import PAPER, Entry, Series
from vision_repro.figures.venues import stroke

CURVES, ROW = 1.45, 0.165
"""Height of a panel of lines, and of one entry of a list [inches]."""
CROWDED = 12
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
PAPER_LOOK: tuple[str, str, Any] = ("#777777", "o", _DOTTED)
_ROLES = {
    "": ("#0072B2", "o"),
    "reference": ("#004776", "s"),
    "without": ("#D55E00", "X"),
    "baseline": ("#777777", "X"),
    "beyond": ("#009E73", "D"),
}
_REFERENCE_LINE = (0.0, (3, 2))


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
        return CURVES


@dataclass(frozen=True)
class Dots:
    """A panel of entries, one a line: mean and interval, and what a paper prints as an open mark.

    `margin` draws a grey band of this width (a fraction) on both sides of the entry that is the reference.
    """

    title: str
    entries: Sequence[Entry]
    margin: float | None = None

    @property
    def height(self) -> float:
        """The room for the axes [inches]."""
        return max(ROW * len(self.entries) + 0.06, 0.6)


Panel = Curves | Dots


@dataclass
class Looks:
    """The look of each name, in the order in which the names come."""

    found: dict[str, tuple[str, str, Any]] = field(default_factory=dict)

    def of(self, series: Series) -> tuple[str, str, Any]:
        """Returns colour, marker and dashes of a line."""
        if series.look == PAPER:
            return PAPER_LOOK
        place = len(self.found) if series.look is None else series.look
        return self.found.setdefault(series.label, _LOOKS[place % len(_LOOKS)])


def draw_curves(axes: Axes, panel: Curves, looks: Looks, wide: float) -> None:
    """Draws the lines of a panel that is `wide` inches wide, with both axes."""
    shown = [series for series in panel.series if series.points]
    if not shown:
        say(axes, "all runs diverged" if any(series.diverged for series in panel.series) else "not measured")
        return
    percent = all(series.unit == "fraction" for series in shown)
    scale = 100.0 if percent else 1.0
    shifts = _shifts(shown, panel.xlog)
    for series in shown:
        least = _cut(shown) if panel.ylog else -math.inf
        _line(axes, series, looks.of(series), (shifts.get(series.label, 0.0), panel.xlog), scale, least)
    places = [x for series in shown for x in (*(point.x for point in series.points), *series.diverged)]
    if panel.mark is not None:
        axes.axhline(scale * panel.mark, color="#333333", linewidth=stroke(0.8), linestyle=_DASHED, zorder=1)
    number_axis(axes, "x", places, log=panel.xlog, wide=wide)
    heights = [scale * end for series in shown for point in series.points for end in _ends(point.interval)]
    heights += [scale * series.level for series in shown if series.level is not None]
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
    if len(distinct) == len(places) or len(distinct) > CROWDED or len(ours) < 2:
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
    crowded = len(places) > CROWDED
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
    if series.level is not None:
        axes.axhline(scale * series.level, color=color, linestyle=_REFERENCE_LINE, linewidth=stroke(0.7), zorder=1)
    if series.diverged:  # at the foot of the panel, as there is no number
        axes.plot(
            [x * 10**shift if log else x + shift for x in series.diverged],
            [0.03] * len(series.diverged),
            color=color,
            marker="X",
            linestyle="",
            markerfacecolor="white",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
    bounded = [(x, point.interval) for x, point in zip(places, series.points, strict=True) if point.interval.bounded]
    low, high = ([max(scale * getattr(item, end), least) for _, item in bounded] for end in ("low", "high"))
    if crowded and series.joined:
        axes.fill_between([x for x, _ in bounded], low, high, color=color, alpha=0.16, linewidth=0, zorder=1)
    else:
        axes.vlines([x for x, _ in bounded], low, high, color=color, linewidth=stroke(0.9), zorder=2)


def draw_dots(axes: Axes, panel: Dots, wide: float) -> None:
    """Draws each entry that has a number on a line of its own, the first on top."""
    axes.set_ylim(len(panel.entries) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    shown = [(line, item) for line, item in enumerate(panel.entries) if item.interval is not None]
    printed = [(line, item) for line, item in enumerate(panel.entries) if item.paper is not None]
    if not shown and not (printed and all(item.only_paper for item in panel.entries)):
        say(axes, "not measured")
        axes.set_yticks(range(len(panel.entries)), [item.label for item in panel.entries])
        return
    axes.set_yticks(range(len(panel.entries)), [item.label for item in panel.entries])
    scale = 100.0 if all(item.unit == "fraction" for _, item in shown or printed) else 1.0
    ends: list[float] = []
    for line, item in shown:
        color, marker = _ROLES[item.role]
        interval = item.interval
        assert interval is not None
        _references(axes, panel, item, scale)
        if interval.bounded:
            axes.hlines(line, scale * interval.low, scale * interval.high, color=color, linewidth=stroke(1.0), zorder=2)
        axes.plot(
            [scale * interval.mean], [line], color=color, marker=marker, markersize=stroke(4.5), linestyle="", zorder=3
        )
        ends += [min(scale * end, 100.0) if scale == 100 else end for end in _ends(interval)]  # none is above 100 %
    values = [scale * item.paper for _, item in printed if item.paper is not None]
    color, marker, _ = PAPER_LOOK
    axes.plot(
        values,
        [line for line, _ in printed],
        color=color,
        marker=marker,
        markerfacecolor="white",
        linestyle="",
        markeredgewidth=stroke(0.8),
        zorder=2,
    )
    number_axis(axes, "x", [*ends, *values], log=False, wide=wide, free=True)


def _references(axes: Axes, panel: Dots, item: Entry, scale: float) -> None:
    """Draws what the other entries are compared with: a band around the reference, a line through the baseline."""
    mean = scale * item.interval.mean if item.interval else math.nan
    if item.role == "reference" and panel.margin is not None:
        room = scale * panel.margin
        axes.axvspan(mean - room, mean + room, color="#ECECEC", lw=0, zorder=0)
    if item.role == "baseline":
        axes.axvline(mean, color=_ROLES["baseline"][0], linestyle=_REFERENCE_LINE, linewidth=stroke(0.7), zorder=1)
