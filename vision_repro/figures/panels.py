"""Panels of a scaling figure: accuracy [%] against a number of images, on given axes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from vision_repro.analysis.intervals import Interval
from vision_repro.figures.axes import prefixed
from vision_repro.figures.style import appearance
from vision_repro.figures.venues import points as point_size
from vision_repro.figures.venues import stroke

WITHIN = 0.13
"""Smallest distance between two tick labels, as a part of the width of a panel."""


@dataclass(frozen=True)
class Curve:
    """One model: size -> interval (fractions), and the sizes with diverged runs -> how many."""

    model: str
    points: Mapping[float, Interval]
    diverged: Mapping[float, int]


def draw(axes: Axes, curves: Sequence[Curve], sizes: Sequence[float]) -> None:
    """Draws mean and interval of every curve over all `sizes`; a size without a value is a gap in the line.

    With a single size the models are drawn side by side around it.
    """
    shifts = _shifts(len(curves)) if len(sizes) == 1 else [1.0] * len(curves)
    places = [[size * shift for size in sizes] for shift in shifts]
    for curve, place in zip(curves, places, strict=True):
        _line(axes, curve, sizes, place)
    points = [point for curve in curves for point in curve.points.values()]
    _crosses(axes, curves, limits(axes, points, _rows(curves)))
    size_axis(axes, sizes)


def _shifts(count: int) -> list[float]:
    """Returns factors around 1 that put `count` models side by side on a logarithmic axis."""
    return [10 ** (0.1 * ((index + 0.5) / count - 0.5)) for index in range(count)]


def _line(axes: Axes, curve: Curve, sizes: Sequence[float], place: Sequence[float]) -> None:
    look = appearance(curve.model)
    nothing = Interval(math.nan, math.nan, math.nan, 0)
    points = [curve.points.get(size, nothing) for size in sizes]
    mean, low, high = (100 * np.array([getattr(point, name) for point in points]) for name in ("mean", "low", "high"))
    bounded = [point.bounded for point in points]
    axes.plot(
        place,
        mean,
        color=look.color,
        marker=look.marker,
        linestyle=look.linestyle,
        label=look.label,
        markerfacecolor=look.face,
        markeredgewidth=stroke(0.8),
        zorder=3,
    )
    axes.fill_between(place, low, high, where=bounded, color=look.color, alpha=0.14, linewidth=0, zorder=1)
    alone = _alone(bounded)
    axes.vlines(np.array(place)[alone], low[alone], high[alone], color=look.color, linewidth=stroke(0.8), zorder=2)


def _alone(there: Sequence[bool]) -> list[int]:
    """Returns the places of values without a neighbour, where a band would have no width."""
    padded = [False, *there, False]
    return [index for index, here in enumerate(there) if here and not padded[index] and not padded[index + 2]]


def _rows(curves: Sequence[Curve]) -> int:
    """Returns how many crosses coincide at most."""
    return max(Counter(size for curve in curves for size in curve.diverged).values(), default=0)


def _crosses(axes: Axes, curves: Sequence[Curve], step: float) -> None:
    """Marks the settings with diverged runs by open crosses under the curves, stacked by `step` where they coincide."""
    stacked: Counter[float] = Counter()
    for curve in curves:
        for size in curve.diverged:
            height = axes.get_ylim()[0] + step * (stacked[size] + 0.6)
            stacked[size] += 1
            axes.plot(
                [size],
                [height],
                color=appearance(curve.model).color,
                marker="X",
                markerfacecolor="white",
                markersize=stroke(5),
                markeredgewidth=stroke(0.8),
                linestyle="none",
                zorder=4,
            )


def limits(axes: Axes, points: Sequence[Interval], rows: int = 0) -> float:
    """Sets the percent axis to means and intervals, never beyond 0 and 100 but for the size of a marker.

    Leaves room for `rows` of crosses under the points and returns the height of such a row [percent].
    """
    ends = [100 * end for point in points for end in (point.mean, point.low, point.high) if math.isfinite(end)]
    low, high = max(0.0, min(ends)), min(100.0, max(ends))
    span = max(high - low, 5.0)
    axes.set_ylim(low - (0.06 + 0.08 * rows) * span, high + 0.06 * span)
    axes.yaxis.set_major_locator(_Percent(nbins=6, steps=[1, 2, 5, 10]))
    return 0.08 * span


class _Percent(MaxNLocator):
    """Ticks in view and between 0 and 100 only: the room for markers beyond has none."""

    def __call__(self) -> list[float]:
        assert self.axis is not None
        low, high = self.axis.get_view_interval()
        return [tick for tick in super().__call__() if max(0, low) <= tick <= min(100, high)]


def size_axis(axes: Axes, sizes: Sequence[float], names: Sequence[str] = ()) -> None:
    """Makes the x axis logarithmic with a tick at every size and as many labels (or `names`) as have room."""
    axes.set_xscale("log")
    span = math.log10(sizes[-1] / sizes[0]) if len(sizes) > 1 else 1.0
    axes.set_xlim(sizes[0] / 10 ** (0.07 * span), sizes[-1] * 10 ** (0.07 * span))
    labels = list(names) or [prefixed(size) for size in sizes]
    shown = _with_room([math.log10(size) / (1.14 * span) for size in sizes])
    axes.xaxis.set_major_locator(FixedLocator(list(sizes)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([label if keep else "" for label, keep in zip(labels, shown, strict=True)])


def _with_room(places: Sequence[float]) -> list[bool]:
    """Returns which labels to show: the first, the last, and those in between that keep their distance."""
    shown = [0]
    for index in range(1, len(places) - 1):
        if places[index] - places[shown[-1]] >= WITHIN and places[-1] - places[index] >= WITHIN:
            shown.append(index)
    return [index in (*shown, len(places) - 1) for index in range(len(places))]


def say(axes: Axes, text: str) -> None:
    """Writes why a panel is empty, and takes its axes away."""
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#555555", fontsize=point_size(7)
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
