"""Charts whose points say their values: lines over a column of numbers, or a line of dots for each setting."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from vision_repro.analysis.summary import SummaryRow
from vision_repro.analysis.table import order
from vision_repro.figures.appearance import Appearance, appearance, size_order
from vision_repro.figures.axes import prefixed
from vision_repro.figures.style import style
from vision_repro.report.layout import axes as find_axes
from vision_repro.report.layout import finite, point_text, scale, setting_text, unit_text
from vision_repro.report.svg import inline

WIDTH, HEIGHT, LEGEND_LINE, DOT_LINE = 5.0, 2.7, 0.19, 0.22  # inches
MOST_LABELS = 14
"""Lines beyond which a legend would be longer than its chart: hovering names them."""
_SETTINGS: Any = {
    "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 8.5, "axes.labelsize": 8.5,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "axes.linewidth": 0.6, "lines.linewidth": 1.3,
}  # fmt: skip
# colour-blind safe (Okabe and Ito), for lines that are not models; markers and dashes tell them apart too
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#9A5B8A", "#8A6D00", "#333333")
_MARKERS, _DASHES = "os^Dv*", ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Point:
    """A point of a chart: place, value with the ends of its interval (NaN where there is none), and what it says."""

    x: float
    y: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Series:
    """Points of one look, joined by a line."""

    look: Appearance
    points: tuple[Point, ...]


@contextmanager
def drawing() -> Iterator[None]:
    """Sets the style of the charts: that of the figures, but with text that stays text."""
    with style(), matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name in letters that the font lacks: the browser has them
        yield


def clean(text: str) -> str:
    """Returns a name as matplotlib can write it: no mathematics, no invisible characters, 44 characters at most."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text).strip().lstrip("_") or "?"
    return (shown if len(shown) <= 44 else f"{shown[:43]}…").replace("$", r"\$")


def looks(labels: Sequence[str], *, models: bool) -> dict[str, Appearance]:
    """Returns the look of each line: a model's own, as in every figure, or one of a cycle."""
    if models:
        return {label: appearance(label) for label in labels}
    found = {}
    for index, label in enumerate(labels):
        color = _COLORS[index % len(_COLORS)]
        marker, dashes = _MARKERS[index // 2 % len(_MARKERS)], _DASHES[index // len(_COLORS) % len(_DASHES)]
        found[label] = Appearance(color, marker, dashes, label, color)
    return found


def metric_chart(rows: Sequence[SummaryRow], metric: str, prefix: str) -> str:
    """Returns the chart of one metric as `<svg>`, or the empty string where there is nothing to draw."""
    across, names = find_axes(rows)
    drawn = [row for row in rows if row.metric == metric and finite(row)]
    if not drawn:
        return ""
    unit = unit_text(drawn[0].unit)
    title = metric.replace("_", " ") + (f" [{unit}]" if unit else "")
    if across is None:
        return _dots(drawn, names, title, prefix)
    groups: dict[str, list[SummaryRow]] = {}
    for row in drawn:
        groups.setdefault(setting_text(row.setting, names), []).append(row)
    models = names == ["model"]
    labels = (
        sorted(groups, key=size_order) if models else sorted(groups, key=lambda label: _place(groups[label], names))
    )
    found = looks(labels, models=models)
    shown = list(dict.fromkeys([*names, across]))
    series = [
        Series(found[label], tuple(_point(row, float(row.setting[across]), shown) for row in groups[label]))
        for label in labels
    ]
    return lines_chart(series, title, across.replace("_", " "), prefix)


def _place(rows: Sequence[SummaryRow], names: Sequence[str]) -> list[tuple[bool, float, str]]:
    return [order(rows[0].setting[name]) for name in names]


def _point(row: SummaryRow, x: float, shown: Sequence[str]) -> Point:
    factor, interval = scale(row.unit), row.interval
    low, high = (interval.low, interval.high) if interval.bounded else (math.nan, math.nan)
    return Point(x, factor * interval.mean, factor * low, factor * high, point_text(row, shown))


def lines_chart(series: Sequence[Series], title: str, x_label: str, prefix: str, names: Sequence[str] = ()) -> str:
    """Returns lines with bands of their intervals; the axis is logarithmic where its numbers span more than tenfold.

    A point without a text has no marker; `names` are the labels of the axis, in place of its numbers.
    """
    xs = sorted({point.x for line in series for point in line.points})
    with drawing():
        entries = {line.look.label: line.look for line in series}
        rows = math.ceil(len(entries) / 2) if len(entries) <= MOST_LABELS else 0
        figure = Figure(figsize=(WIDTH, HEIGHT + LEGEND_LINE * rows))
        panel = _panel(figure, title, x_label, rows)
        titles: dict[str, str] = {}
        for line in series:
            _draw(panel, line, titles, width=1.3 if len(series) <= MOST_LABELS else 0.7)
        _axis(panel, xs, names)
        if rows:
            _legend(figure, list(entries.values()))
        label = f"Chart of {title} over {x_label}; {len(titles)} points, whose values are in the tables of this page"
        return inline(figure, prefix=prefix, label=label, titles=titles)


def _panel(figure: Figure, title: str, x_label: str, rows: int) -> Axes:
    width, height = figure.get_size_inches()
    under = 0.48 + LEGEND_LINE * rows + (0.06 if rows else 0)
    panel = figure.add_axes((0.45 / width, under / height, 1 - 0.55 / width, (height - under - 0.32) / height))
    panel.set_title(clean(title), loc="left", pad=6, y=1.0, fontsize=9.5, weight="bold")
    panel.set_xlabel(clean(x_label))
    return panel


def _draw(panel: Axes, line: Series, titles: dict[str, str], width: float) -> None:
    look = line.look
    points = sorted(line.points, key=lambda point: point.x)
    xs, ys = [point.x for point in points], [point.y for point in points]
    panel.plot(xs, ys, color=look.color, linestyle=look.linestyle, linewidth=width, zorder=2)
    lows, highs = [point.low for point in points], [point.high for point in points]
    if any(map(math.isfinite, lows)):
        panel.fill_between(xs, lows, highs, color=look.color, alpha=0.12, linewidth=0, zorder=1)
    for point in points:
        if not point.text:
            continue
        gid = f"point-{len(titles)}"
        titles[gid] = point.text
        panel.plot(
            [point.x],
            [point.y],
            color=look.color,
            marker=look.marker,
            markerfacecolor=look.face,
            markersize=5,
            linestyle="none",
            gid=gid,
            zorder=3,
        )


def _axis(panel: Axes, xs: Sequence[float], names: Sequence[str]) -> None:
    if xs[0] > 0 and xs[-1] / xs[0] > 10:
        panel.set_xscale("log")
    if len(xs) <= 8:
        panel.xaxis.set_major_locator(FixedLocator(list(xs)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xticklabels(list(names) or [prefixed(x) for x in xs])


def _legend(figure: Figure, entries: Sequence[Appearance]) -> None:
    handles = [
        Line2D([], [], color=look.color, marker=look.marker, linestyle=look.linestyle, markerfacecolor=look.face)  # type: ignore[arg-type]
        for look in entries
    ]
    height = figure.get_size_inches()[1]
    figure.legend(
        handles,
        [clean(look.label) for look in entries],
        loc="lower left",
        ncols=2,
        handlelength=2.8,
        bbox_to_anchor=(0.06, 0.02 / height),
        borderaxespad=0,
        labelspacing=0.3,
        columnspacing=2,
    )


def _dots(rows: Sequence[SummaryRow], names: Sequence[str], title: str, prefix: str) -> str:
    """Returns a dot with its interval for each setting, one under the other."""
    with drawing():
        height = 0.9 + DOT_LINE * len(rows)
        figure = Figure(figsize=(WIDTH, height))
        panel = figure.add_axes((0.42, 0.5 / height, 0.55, 1 - 0.85 / height))
        titles: dict[str, str] = {}
        for place, row in enumerate(rows):
            point = _point(row, 0.0, names)
            titles[f"point-{place}"] = point.text
            panel.plot([point.low, point.high], [place, place], color=_COLORS[0], linewidth=1.6, alpha=0.55)
            panel.plot([point.y], [place], "o", color=_COLORS[0], markersize=5, gid=f"point-{place}", zorder=3)
        labels = [clean(setting_text(row.setting, names)) for row in rows]
        panel.set_yticks(range(len(rows)), labels)
        panel.set_ylim(len(rows) - 0.4, -0.6)
        figure.text(0.02, 1 - 0.22 / height, clean(title), fontsize=9.5, weight="bold")
        label = f"Chart of {title} by setting; {len(titles)} points, whose values are in the tables of this page"
        return inline(figure, prefix=prefix, label=label, titles=titles)
