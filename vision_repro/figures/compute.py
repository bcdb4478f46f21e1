"""Accuracy against pre-training compute, ours beside the paper's 18 points, drawn by the same code (ViT, Figure 5)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from vision_repro.analysis.claims import Verdict
from vision_repro.analysis.compute import FAMILIES, Point, clouds, front, of_family, paper_points
from vision_repro.analysis.intervals import Interval, t_interval
from vision_repro.analysis.table import Table
from vision_repro.figures.axes import prefixed
from vision_repro.figures.footer import footer
from vision_repro.figures.panels import limits, say
from vision_repro.figures.style import style, text_width
from vision_repro.figures.venues import NARROW, page, stroke
from vision_repro.models.families import family

# inches
_LEFT, _GAP, _RIGHT, _TOP, _PANEL, _UNDER, _LEGEND = 0.34, 0.36, 0.10, 0.22, 1.55, 0.40, 0.16
_LOOKS: dict[str, tuple[str, str, Any]] = {
    "vit": ("#0072B2", "o", "-"),
    "bit": ("#D55E00", "^", (0.0, (4, 1.5))),
    "hybrid": ("#009E73", "D", (0.0, (5, 1, 1, 1))),
}
_GREY = "#D8D8D8"
_FRONT = "Pareto front of all"
_OTHER: tuple[str, str, Any] = ("#777777", "s", ":")
_SIZES = (3.2, 4.2, 5.2, 6.2, 7.2)  # points
_PREFIXES = ((1e18, "exa"), (1e15, "peta"), (1e12, "tera"), (1e9, "giga"), (1e6, "mega"), (1.0, ""))
Cloud = Mapping[Point, Interval]


@dataclass(frozen=True)
class Panel:
    """A title and what stands under it: mean points with their intervals over seeds (fractions)."""

    title: str
    cloud: Cloud


def compute_figure(
    table: Table,
    verdicts: Sequence[Verdict],
    *,
    metric: str,
    datasets: Sequence[str],
    preset: str,
    notes: Sequence[str],
    width: float | None = None,
) -> Figure:
    """Returns our accuracy over the compute of pre-training, the mean over `datasets` and the first of them, then the
    paper's Average-5 and ImageNet.

    One line a family: its Pareto front. `width` is in inches, that of the page if None; in a narrow figure the panels
    stand under each other.
    """
    width = page().width if width is None else width
    ours = Table(row for row in table.rows if row.preset == preset)
    panels = [*_own(ours, metric, datasets), *_paper()]
    with style():
        below = footer(verdicts, [*notes, _marks(panels[0].cloud), _lost(ours), _THEIRS], width)
        across = 1 if width < NARROW else 2 if len(panels) == 4 else len(panels)
        lines = -(-len(panels) // across)
        legend = _LEGEND * (2 if width < NARROW else 1)
        above = (_TOP + _PANEL + _UNDER) * lines + legend
        figure = Figure(figsize=(width, above + below.height))
        for index, panel in enumerate(panels):
            axes = _axes(figure, index, across)
            _draw(axes, f"({'abcd'[index]}) {panel.title}", panel.cloud, axes.get_position().width * width)
        _legend(figure, panels, above - legend, 3 if width < NARROW else 5)
        below.write(figure, above)
    return figure


_THEIRS = (
    "the paper's points: ViT, Table 6, pre-trained on JFT-300M; Average-5 is the mean of ImageNet, CIFAR-10, "
    "CIFAR-100, Pets and Flowers; R50+ViT-L/16 at 7 epochs as printed (859 exaFLOPs; half of its 14 epochs is 834)"
)


def _own(table: Table, metric: str, datasets: Sequence[str]) -> Iterator[Panel]:
    if len(datasets) > 1:
        yield Panel(f"Mean of {len(datasets)} data sets [%]", _cloud(table, metric, datasets))
    for name in datasets[:1]:
        yield Panel(f"{name} [%]", _cloud(table, metric, [name]))


def _paper() -> Iterator[Panel]:
    for title, columns in (("Average-5", None), ("ImageNet", ["imagenet"])):
        points = paper_points() if columns is None else paper_points(columns)
        yield Panel(f"Paper: {title} [%]", {point: Interval(*3 * (point.accuracy,), 1) for point in points})


def _cloud(table: Table, metric: str, datasets: Sequence[str]) -> dict[Point, Interval]:
    """Returns the mean over seeds of every model and pre-training, with its interval."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for points in clouds(table.rows, metric, datasets).values():
        for point in points:
            groups.setdefault((point.model, point.start), []).append(point)
    found = {}
    for key, points in groups.items():
        interval = t_interval(point.accuracy for point in points)
        compute = math.fsum(point.compute for point in points) / len(points)
        found[Point(*key, compute, interval.mean)] = interval
    return found


def _axes(figure: Figure, index: int, across: int) -> Axes:
    width, height = figure.get_size_inches()
    wide = (width - _LEFT - (across - 1) * _GAP - _RIGHT) / across
    line, column = divmod(index, across)
    bottom = height - line * (_TOP + _PANEL + _UNDER) - _TOP - _PANEL
    return figure.add_axes(((_LEFT + column * (wide + _GAP)) / width, bottom / height, wide / width, _PANEL / height))


def _draw(axes: Axes, title: str, cloud: Cloud, room: float) -> None:
    """Draws a panel that is `room` inches wide."""
    axes.set_title(title, loc="left", pad=stroke(4))
    if not cloud:
        say(axes, "not measured")
        return
    unit, prefix = next(item for item in _PREFIXES if item[0] <= min(point.compute for point in cloud) or item[0] == 1)
    best = front(cloud)
    axes.plot(
        [point.compute / unit for point in best],
        [100 * point.accuracy for point in best],
        color=_GREY,
        linewidth=stroke(4.0),
        solid_capstyle="round",
        solid_joinstyle="round",
        zorder=1,
        label=_FRONT,
    )
    for name in sorted({family(point.model) for point in cloud}, key=_order):
        _family(axes, name, of_family(cloud, name), cloud, unit)
    limits(axes, list(cloud.values()))
    _scale(axes, [point.compute / unit for point in cloud])
    label = f"pre-training compute [{prefix}FLOPs]"
    axes.set_xlabel(label if text_width(label, 8) < room else f"compute [{prefix}FLOPs]", labelpad=stroke(2))


def _family(axes: Axes, name: str, points: Sequence[Point], cloud: Cloud, unit: float) -> None:
    """Draws the front of a family as a line, its points filled on the front and open below, by size of the model."""
    color, marker, line = _LOOKS.get(name, _OTHER)
    best = front(points)
    axes.plot(
        [point.compute / unit for point in best],
        [100 * point.accuracy for point in best],
        color=color,
        linestyle=line,
        zorder=2,
        label=name,
    )
    sizes = _ranks(points)
    for point in points:
        interval, place = cloud[point], point.compute / unit
        if interval.bounded:
            axes.vlines(place, 100 * interval.low, 100 * interval.high, color=color, linewidth=stroke(0.8), zorder=3)
        axes.plot(
            [place],
            [100 * point.accuracy],
            color=color,
            marker=marker,
            linestyle="",
            markersize=stroke(_SIZES[min(sizes[point.model], len(_SIZES) - 1)]),
            markerfacecolor=color if point in best else "white",
            markeredgewidth=stroke(0.8),
            zorder=4,
        )


def _ranks(points: Sequence[Point]) -> dict[str, int]:
    """Returns the place of each model among its family, by the least compute it was pre-trained with."""
    least: dict[str, float] = {}
    for point in points:
        least[point.model] = min(point.compute, least.get(point.model, math.inf))
    return {model: index for index, model in enumerate(sorted(least, key=lambda model: least[model]))}


def _order(name: str) -> tuple[int, str]:
    known = list(FAMILIES)
    return (known.index(name) if name in known else len(known), name)


def _scale(axes: Axes, places: Sequence[float]) -> None:
    """Makes the x axis logarithmic with room for the markers, and ticks at 1, 2, 5 or at powers of ten."""
    span = max(math.log10(max(places) / min(places)), 0.5)
    middle = math.log10(max(places) * min(places)) / 2
    low, high = 10 ** (middle - 0.58 * span), 10 ** (middle + 0.58 * span)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    steps: tuple[float, ...] = (1,) if span > 2.5 else (1, 3) if span > 1.2 else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10**power for power in powers for step in steps if low <= step * 10**power <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([prefixed(tick) for tick in ticks])


def _legend(figure: Figure, panels: Sequence[Panel], top: float, columns: int) -> None:
    """Writes the families of all panels, and the Pareto front, on a line of their own."""
    height = figure.get_figheight()
    names = sorted({family(point.model) for panel in panels for point in panel.cloud}, key=_order)
    entries = []
    for name in names:
        color, marker, line = _LOOKS.get(name, _OTHER)
        entries.append(Line2D([], [], color=color, marker=marker, linestyle=line, label=FAMILIES.get(name, name)))
    entries.append(Line2D([], [], color=_GREY, linewidth=stroke(4.0), label=_FRONT))
    figure.legend(
        handles=entries,
        loc="upper center",
        bbox_to_anchor=(0.5, 1 - top / height),
        ncols=columns,
        borderaxespad=0,
        borderpad=0,
        columnspacing=1.6,
        handlelength=2.6,
        handletextpad=0.5,
        labelspacing=0.25,
    )


def _marks(cloud: Cloud) -> str:
    counts = sorted({interval.n for interval in cloud.values()})
    level = next((f"{100 * interval.level:g} %" for interval in cloud.values()), "")
    seeds = f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0] if counts else 0} seeds"
    bars = "one seed, no interval" if counts == [1] else f"mean over {seeds}; bars: {level} t interval over seeds"
    marks = "lines: the Pareto front of each family; filled: on it; a larger marker is a larger model"
    return "; ".join(part for part in (bars if counts else "", marks) if part)


def _lost(table: Table) -> str:
    lost = table.diverged()
    return f"{lost} diverged run{'' if lost == 1 else 's'} left out of the means" if lost else ""
