"""Axes of numbers: percent, sizes and costs, linear or logarithmic, with as many labelled ticks as have room."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from vision_repro.figures.style import text_width
from vision_repro.figures.ticks import InView

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_FEW = 7
"""Up to this many different places each has a tick of its own."""


def prefixed(number: float) -> str:
    """Returns `20`, `0.003`, `1200`, `49k`, `1.3M` or `2.5G`: at most three digits and a prefix from 10,000 on."""
    for factor, letter in _PREFIXES:
        if abs(number) >= factor * (10 if letter == "k" else 1):
            return f"{number / factor:.3g}{letter}"
    return f"{number:.4g}"


def percent_axis(axes: Axes, ends: Sequence[float]) -> None:
    """Sets the y axis to what is drawn [percent], never beyond 0 and 100 but for the size of a marker."""
    low, high = max(0.0, min(ends)), min(100.0, max(ends))
    span = max(high - low, 2.0)
    axes.set_ylim(low - 0.07 * span, high + 0.07 * span)
    axes.yaxis.set_major_locator(InView(6))


def number_axis(axes: Axes, which: str, places: Sequence[float], *, log: bool, wide: float, free: bool = False) -> None:
    """Sets limits and ticks of the axis `which`, "x" or "y", `wide` inches long; ticks are round if `free` or many.

    Raises:
        ValueError: if a place on a logarithmic axis is not above 0.
    """
    low, high = min(places), max(places)
    if log and low <= 0:
        raise ValueError(f"a logarithmic axis has no place for {low}")
    span = (math.log10(high / low) if log else high - low) or (0.3 if log else abs(high) or 1.0)
    room = 0.08 * span
    limits = (low / 10**room, high * 10**room) if log else (low - room, high + room)
    axis: Axis = axes.xaxis if which == "x" else axes.yaxis
    if which == "x":
        axes.set_xlim(*limits)
        axes.set_xscale("log" if log else "linear")
    else:
        axes.set_ylim(*limits)
        axes.set_yscale("log" if log else "linear")
    axis.set_minor_locator(NullLocator())
    distinct = sorted(set(places))
    if not free and len(distinct) <= _FEW:
        ticks = _apart(distinct, limits, log, wide)
    elif log:
        ticks = _round(limits, wide)
    else:
        axis.set_major_locator(InView(max(2, min(6, int(wide / 0.36)))))
        axis.set_major_formatter(FuncFormatter(lambda value, _: prefixed(round(value, 10))))
        return
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: prefixed(value)))


def _apart(places: Sequence[float], limits: tuple[float, float], log: bool, wide: float) -> list[float]:
    """Returns the places whose labels do not touch, the last one always, then from the first on."""

    def inch(value: float) -> float:
        share = (
            math.log(value / limits[0], limits[1] / limits[0]) if log else (value - limits[0]) / (limits[1] - limits[0])
        )
        return wide * share

    def touch(one: float, other: float) -> bool:
        return abs(inch(one) - inch(other)) < (text_width(prefixed(one), 7) + text_width(prefixed(other), 7)) / 2 + 0.06

    labelled = [places[-1]]
    for value in places[:-1]:
        if not any(touch(value, other) for other in labelled):
            labelled.append(value)
    return sorted(labelled)


def _round(limits: tuple[float, float], wide: float) -> list[float]:
    """Returns ticks at 1, 2, 5 or at powers of ten, as many as have room."""
    low, high = limits
    decades = math.log10(high / low)
    most = max(2, int(wide / 0.34))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) <= most:
            return ticks
    skip = math.ceil(decades / most)
    return [10.0**power for power in powers if power % skip == 0 and low <= 10.0**power <= high]
