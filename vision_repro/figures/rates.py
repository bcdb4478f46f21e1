"""Accuracy against the learning rate, a line a variant, a panel a reading of accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from vision_repro.analysis.claims import Verdict
from vision_repro.analysis.summary import SummaryRow
from vision_repro.figures.footer import footer, lost_note, seeds_note
from vision_repro.figures.panels import say
from vision_repro.figures.style import style
from vision_repro.figures.ticks import InView
from vision_repro.figures.venues import NARROW, SERIF, page, stroke

# inches
_LEFT, _GAP, _RIGHT, _TOP, _PANEL, _UNDER = 0.34, 0.36, 0.10, 0.22, 1.6, 0.36
_LOOKS = (("#004776", "s", "-"), ("#D55E00", "o", (0.0, (4, 1.5))), ("#00664A", "^", (0.0, (1, 1))))


def rates_figure(
    rows: Sequence[SummaryRow],
    verdicts: Sequence[Verdict],
    *,
    labels: Mapping[str, str],
    readings: Sequence[tuple[str, str]],
    preset: str,
    notes: Sequence[str],
    width: float | None = None,
) -> Figure:
    """Returns a panel for each reading (metric, title) over the peak learning rates, a line for each model of `labels`.

    Where all runs of a setting diverged, the line has a gap and a cross stands at the bottom. `width` is in inches,
    that of the page if None; in a narrow figure the panels stand under each other.
    """
    width = page().width if width is None else width
    ours = [row for row in rows if row.preset == preset]
    measured = [row for row in ours if row.metric in dict(readings)]
    with style():
        below = footer(verdicts, [*notes, seeds_note(measured), lost_note(measured)], width)
        across, row = 1 if width < NARROW else len(readings), _TOP + _PANEL + _UNDER
        above = row * -(-len(readings) // across)
        height = above + below.height
        figure = Figure(figsize=(width, height))
        wide = (width - _LEFT - (across - 1) * _GAP - _RIGHT) / across
        for index, (metric, title) in enumerate(readings):
            line, column = divmod(index, across)
            left, bottom = _LEFT + column * (wide + _GAP), height - line * row - _TOP - _PANEL
            axes = figure.add_axes((left / width, bottom / height, wide / width, _PANEL / height))
            axes.set_title(title, loc="left", pad=stroke(4))
            _lines(axes, [row for row in measured if row.metric == metric], labels)
        below.write(figure, above)
    return figure


def _lines(axes: Axes, rows: Sequence[SummaryRow], labels: Mapping[str, str]) -> None:
    if not any(row.n for row in rows):
        say(axes, "all runs diverged" if rows else "not measured")
        return
    rates = sorted({float(row.setting["lr"]) for row in rows})
    for index, (model, label) in enumerate(labels.items()):
        own = {float(row.setting["lr"]): row for row in rows if row.setting["model"] == model}
        color, marker, line = _LOOKS[index % len(_LOOKS)]
        shift = 1.02 ** (index - (len(labels) - 1) / 2)  # side by side, so that no bar hides another
        numbers = {name: np.array([_number(own.get(rate), name) for rate in rates]) for name in ("mean", "low", "high")}
        places = np.array(rates) * shift
        axes.plot(places, numbers["mean"], color=color, marker=marker, linestyle=line, label=label, zorder=3)
        bounded = np.isfinite(numbers["low"])
        axes.vlines(
            places[bounded], numbers["low"][bounded], numbers["high"][bounded], color=color, lw=stroke(1.0), zorder=2
        )
        lost = [rate * shift for rate in rates if rate in own and not own[rate].n]
        axes.plot(
            lost,
            [0.03] * len(lost),
            color=color,
            marker="X",
            linestyle="",
            markerfacecolor="white",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
    _scale(axes, rates)
    _legend(axes, len(labels))


def _legend(axes: Axes, lines: int) -> None:
    low, high = axes.get_ylim()  # no corner is sure to be free of bars: the legend gets a strip of its own
    strip = 0.11 * lines + 0.05 if page().venue.font == SERIF else 0.14 * lines + 0.06
    axes.set_ylim(low - strip * (high - low), high)
    axes.legend(loc="lower right", handlelength=2.6)


def _number(row: SummaryRow | None, name: str) -> float:
    value = getattr(row.interval, name) if row is not None and row.n else np.nan
    return 100 * value if np.isfinite(value) else np.nan


def _scale(axes: Axes, rates: Sequence[float]) -> None:
    axes.set_xscale("log")
    if len(rates) == 1:
        axes.set_xlim(rates[0] / 2, rates[0] * 2)
    else:
        room = (rates[-1] / rates[0]) ** 0.08
        axes.set_xlim(rates[0] / room, rates[-1] * room)
    axes.xaxis.set_major_locator(FixedLocator(list(rates)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{rate:g}" for rate in rates])
    axes.yaxis.set_major_locator(InView(6))
    axes.set_xlabel("peak learning rate", labelpad=stroke(2))
