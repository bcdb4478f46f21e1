"""The figure of a sweep: its trials in parallel coordinates, and how much of the metric each parameter explains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vision_repro.analysis.importance import Importance
from vision_repro.analysis.table import Level, order
from vision_repro.analysis.trials import Trial, best_trial, levels
from vision_repro.figures.appearance import Dashes, appearance
from vision_repro.figures.footer import footer
from vision_repro.figures.style import style, text_width
from vision_repro.figures.ticks import InView
from vision_repro.figures.venues import NARROW, page, points, stroke

# inches
_EDGE, _GAP, _RIGHT, _TOP, _PANEL, _UNDER, _ROW = 0.22, 0.18, 0.12, 0.24, 1.7, 0.36, 0.2
MOST_LEVELS = 6
"""A parameter with more distinct values than this gets a scale instead of a mark for each."""
_STOPPED, _DIVERGED, _BEST = "#9A9A9A", "#8C4C8C", "#D55E00"


@dataclass(frozen=True)
class Scale:
    """One upright axis: the height of an entry (0 is the bottom, 1 the top), and its ticks with their labels."""

    name: str
    place: Callable[[Level], float]
    ticks: tuple[tuple[float, str], ...]


def sweep_figure(
    trials: Sequence[Trial],
    importances: Sequence[Importance],
    *,
    metric: str,
    goal: str,
    width: float | None = None,
) -> Figure:
    """Returns a line for each trial through its parameters to its value, and a bar for each parameter.

    `width` is in inches, that of the page if None; in a narrow figure the panels are under each other.
    """
    width = page().width if width is None else width
    with style():
        below = footer((), _notes(trials, importances, metric, goal), width)
        names = [name for name in trials[0].parameters if len(levels(trials, name)) > 1]
        label = max([text_width(item.name, 7) for item in importances], default=0.0) + 0.12
        bars = 1.35 + label if importances else 0.0
        narrow = width < NARROW
        wide = width - _EDGE - 0.42 - (0.0 if narrow else bars + _GAP)
        tall = max(_PANEL, _ROW * len(importances))
        rows = 2 if narrow and importances else 1
        above = (_TOP + tall + _UNDER) * rows
        figure = Figure(figsize=(width, above + below.height))
        axes = _panel(figure, _EDGE, _TOP, wide, tall)
        _parallel(axes, trials, [_scale(trials, name) for name in names], _value_scale(trials, metric), goal)
        if importances:
            left = label if narrow else width - bars + label
            top = _TOP + (tall + _UNDER + _TOP if narrow else 0.0)
            _bars(_panel(figure, left, top, width - left - _RIGHT, tall), importances)
        below.write(figure, above)
    return figure


def _panel(figure: Figure, left: float, top: float, wide: float, tall: float) -> Axes:
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, (height - top - tall) / height, wide / width, tall / height))


def _scale(trials: Sequence[Trial], name: str) -> Scale:
    found = levels(trials, name)
    if len(found) <= MOST_LEVELS or any(isinstance(level, str) for level in found):
        spots = {level: index / (len(found) - 1) for index, level in enumerate(found)}
        return Scale(name, lambda entry: spots[entry], tuple((spots[level], _text(name, level)) for level in found))
    low, high = float(found[0]), float(found[-1])
    logarithmic = low > 0 and high / low >= 20
    ends = (math.log10(low), math.log10(high)) if logarithmic else (low, high)

    def place(entry: Level) -> float:
        number = order(entry)[1]
        return ((math.log10(number) if logarithmic else number) - ends[0]) / (ends[1] - ends[0])

    marks = _decades(low, high) if logarithmic else _round(low, high)
    return Scale(name, place, tuple((place(mark), f"{mark:.3g}") for mark in marks))


def _round(low: float, high: float) -> list[float]:
    """Returns at most five round numbers between two numbers."""
    return [float(mark) for mark in InView(5).tick_values(low, high) if low <= mark <= high]


def _decades(low: float, high: float) -> list[float]:
    """Returns the 1s, and in a short range the 3s too, of each power of ten between two numbers."""
    steps = (1.0, 3.0) if high / low < 1e4 else (1.0,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]


def _text(name: str, level: Level) -> str:
    if name == "model":
        return appearance(str(level)).label
    return f"{level:.3g}" if isinstance(level, float) else str(level) or "(empty)"


def _value_scale(trials: Sequence[Trial], metric: str) -> Scale:
    """Returns the last axis: the metric, fractions in percent, to the left of which the trials end."""
    percent = 100.0 if metric.endswith("accuracy") else 1.0
    known = [percent * trial.value for trial in trials if trial.value is not None]
    low, high = min(known), max(known)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    marks = _round(low, high)

    def place(entry: Level) -> float:
        return (order(entry)[1] - low) / (high - low)

    name = f"{metric.replace('_', ' ')}{' [%]' if percent == 100 else ''}"
    return Scale(
        name, lambda entry: place(percent * order(entry)[1]), tuple((place(mark), f"{mark:g}") for mark in marks)
    )


def _parallel(axes: Axes, trials: Sequence[Trial], scales: Sequence[Scale], value: Scale, goal: str) -> None:
    axes.set_title("(a) Trials", loc="left", pad=stroke(4))
    axes.set_xlim(0, len(scales) or 1)
    axes.set_ylim(-0.04, 1.04)
    axes.grid(False)
    axes.set_axis_off()
    axes.title.set_visible(True)
    best = best_trial(trials, goal)
    shades = matplotlib.colormaps["cividis"]
    for trial in trials:
        spots = [scale.place(trial.parameters[scale.name]) for scale in scales]
        end = -0.04 if trial.value is None else value.place(trial.value)
        goodness = end if goal == "maximize" else 1 - end
        line: Dashes = "-"
        color = shades(0.95 - 0.9 * min(max(goodness, 0.0), 1.0))
        if trial.state == "stopped":
            line, color = (0.0, (3, 2)), matplotlib.colors.to_rgba(_STOPPED)
        elif trial.value is None:
            line, color = (0.0, (1, 1)), matplotlib.colors.to_rgba(_DIVERGED)
        first = trial is best
        x, y = _smooth([*spots, end])
        axes.plot(
            x,
            y,
            color=_BEST if first else color,
            linestyle=line,
            linewidth=stroke(1.8 if first else 0.8),
            alpha=1.0 if first else 0.85,
            zorder=4 if first else 2,
            clip_on=False,
        )
        axes.plot(
            [len(scales)],
            [end],
            marker="X" if trial.value is None else "o",
            color=_BEST if first else color,
            markersize=stroke(3.5),
            linestyle="none",
            zorder=5,
            clip_on=False,
        )
    for index, scale in enumerate((*scales, value)):
        _upright(axes, index, scale)


def _smooth(spots: Sequence[float]) -> tuple[list[float], list[float]]:
    """Returns a line through the spots that is level where it meets an axis, so that the eye can follow it."""
    t = np.linspace(0.0, 1.0, 24)
    ease = t * t * (3 - 2 * t)
    x, y = [0.0], [spots[0]]
    for index, (here, there) in enumerate(itertools.pairwise(spots)):
        x += list(index + t[1:])
        y += list(here + (there - here) * ease[1:])
    return x, y


def _upright(axes: Axes, x: int, scale: Scale) -> None:
    axes.plot([x, x], [0, 1], color="#333333", linewidth=stroke(0.6), zorder=3, clip_on=False)
    words: dict[str, Any] = {"color": "#111111", "fontsize": points(6), "zorder": 6}
    for place, text in scale.ticks:
        axes.annotate(
            text.replace("$", r"\$"),
            (x, place),
            xytext=(stroke(3), 0),
            textcoords="offset points",
            va="center",
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": stroke(0.6)},
            **words,
        )
    side = "left" if x == 0 else "center"
    axes.annotate(
        scale.name, (x, 0), xytext=(0, -stroke(9)), textcoords="offset points", va="top", ha=side, fontsize=points(7)
    )


def _bars(axes: Axes, importances: Sequence[Importance]) -> None:
    axes.set_title("(b) Variance explained [%]", loc="right", pad=stroke(4))
    axes.set_ylim(len(importances) - 0.4, -0.6)
    axes.set_yticks(range(len(importances)), [item.name for item in importances])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 100)
    for row, item in enumerate(importances):
        axes.barh(row, 100 * item.share, height=0.5, color="#0072B2", zorder=2)
        axes.plot([100 * item.chance] * 2, [row - 0.36, row + 0.36], color="#111111", linewidth=stroke(1.0), zorder=3)
        if item.correlation is not None:
            axes.annotate(
                "+" if item.correlation > 0 else "\u2212",
                (100, row),
                xytext=(-stroke(2), 0),
                va="center",
                ha="right",
                textcoords="offset points",
                fontsize=points(7),
                zorder=4,
            )
    axes.xaxis.set_major_locator(InView(4))


def _notes(trials: Sequence[Trial], importances: Sequence[Importance], metric: str, goal: str) -> list[str]:
    """Returns what the lines and bars are, and the best trial."""
    counts = {state: sum(trial.state == state for trial in trials) for state in ("stopped", "diverged")}
    notes = [f"a line is one of {len(trials)} trials"]
    if counts["stopped"]:
        notes[0] += f"; dashed: {counts['stopped']} stopped early, at the best value up to then"
    if counts["diverged"]:
        notes[0] += f"; dotted: {counts['diverged']} diverged"
    best = best_trial(trials, goal)
    if best is not None and best.value is not None:
        shown = f"{100 * best.value:.1f} %" if metric.endswith("accuracy") else f"{best.value:.4g}"
        settings = ", ".join(f"{name} {_text(name, level)}" for name, level in best.parameters.items())
        notes.append(f"red: the best, {shown} with {settings}")
    if importances:
        notes.append(
            "bars: share of the variance that a parameter explains alone (functional ANOVA of a forest); black: what "
            "19 of 20 shuffles of the values stay below; + or \u2212: sign of the rank correlation"
        )
    return notes
