"""Figures of the published tables: Swin's windows, the fit of ViT's Table 6, and the cost of each layer of AlexNet."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from vision_repro.accounting.architectures import counted
from vision_repro.accounting.check import Table
from vision_repro.figures.style import TEXT_WIDTH, style
from vision_repro.published.slides import slide_layers
from vision_repro.published.windows import SIZES, Point, points

WHOLE, WINDOWED, GREY = "#D55E00", "#0072B2", "#777777"


def swin_windows() -> Figure:
    """Returns multiply-adds of one attention module: over image size in the first stage, and by stage at 224 pixels."""
    with style():
        figure = Figure(figsize=(TEXT_WIDTH, 2.4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _over_size(left)
        _over_stages(right)
        left.set_ylim(top=2e4)  # room for the legend
        left.set_ylabel("multiply-adds of one module [G]")
        left.legend(loc="upper left")
    return figure


def _draw(axes: Axes, places: Sequence[float], found: Sequence[Point]) -> None:
    """Draws the equations as lines and the counted modules as points."""
    looks = (("whole", WHOLE, "o", "-"), ("windowed", WINDOWED, "s", "--"))
    words = {"whole": "whole map (MSA)", "windowed": "7×7 windows (W-MSA)"}  # noqa: RUF001
    equations = {"whole": "Eq. 1", "windowed": "Eq. 2"}
    for name, color, _, line in looks:
        equation = [getattr(point, f"{name}_equation") / 1e9 for point in found]
        axes.plot(places, equation, color=color, linestyle=line, label=equations[name])
    for name, color, marker, _ in looks:
        values = [getattr(point, name) / 1e9 for point in found]
        axes.plot(places, values, color=color, marker=marker, linestyle="none", label=f"{words[name]}, counted")


def _over_size(axes: Axes) -> None:
    found = [point for point in points() if point.stage == 0]
    sizes = [point.image_size for point in found]
    _draw(axes, sizes, found)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(list(map(str, sizes)))
    axes.set_xlabel("image size [pixels]")
    axes.set_title("Swin-T, first stage")


def _over_stages(axes: Axes) -> None:
    found = sorted((point for point in points() if point.image_size == SIZES[0]), key=lambda point: point.stage)
    places = [point.stage + 1 for point in found]
    _draw(axes, places, found)
    axes.set_yscale("log")
    for point in found:
        place, ratio = (point.stage + 1, point.whole / 1e9), f"×{point.whole / point.windowed:.3g}"  # noqa: RUF001
        axes.annotate(ratio, place, (4, 3), textcoords="offset points", fontsize=7)
    axes.set_xticks(places, [f"{point.side}×{point.side}\n{point.channels}" for point in found])  # noqa: RUF001
    axes.set_xlim(0.7, len(places) + 0.6)
    axes.set_ylim(0.05, 4)
    axes.yaxis.set_major_locator(FixedLocator([0.05, 0.1, 0.2, 0.5, 1, 2]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("map [tokens] and channels of each stage")
    axes.set_title(f"Swin-T at {SIZES[0]} pixels")


def table_6(table: Table) -> Figure:
    """Returns the relative errors of our exaFLOPs for ViT's Table 6 [percent], over all and over inside taps."""
    subjects = list(dict.fromkeys(check.subject for check in table.checks))
    with style():
        figure = Figure(figsize=(TEXT_WIDTH, 3.1), layout="constrained")
        axes = figure.subplots()
        looks = (("inside taps", "o", WINDOWED, WINDOWED), ("all taps", "s", WHOLE, "white"))
        for shift, (quantity, marker, color, face) in zip((-0.12, 0.12), looks, strict=True):
            by_subject = {check.subject: check for check in table.checks if check.quantity == quantity}
            values = [100 * ((by_subject[subject].ratio or 0) - 1) for subject in subjects]
            places = [index + shift for index in range(len(subjects))]
            axes.plot(
                values,
                places,
                marker=marker,
                color=color,
                markerfacecolor=face,
                linestyle="none",
                label="taps inside the map" if quantity == "inside taps" else "all taps",
            )
        _bands(axes, table, subjects)
        _odd_rows(axes, table, subjects)
        axes.set_yticks(range(len(subjects)), subjects)
        axes.invert_yaxis()
        axes.set_xlabel("counted over printed exaFLOPs, minus 1 [%]; grey: band of the taps inside the map")
        axes.legend(loc="lower right")
    return figure


def _bands(axes: Axes, table: Table, subjects: Sequence[str]) -> None:
    axes.axvline(0, color="#444444", linewidth=0.8, zorder=1)
    for index, subject in enumerate(subjects):
        check = next(item for item in table.checks if item.subject == subject and item.quantity == "inside taps")
        wide = 100 * check.band.relative
        axes.barh(index, 2 * wide, left=-wide, height=0.8, color="#DDDDDD", linewidth=0, zorder=0)


def _odd_rows(axes: Axes, table: Table, subjects: Sequence[str]) -> None:
    """Labels each row outside its band with the reason: a misprint, or unexplained."""
    for check in table.checks:
        if check.quantity == "inside taps" and check.verdict == "explained":
            word = "unexplained" if "unexplained" in check.explanation else "misprint"
            both = [item.ratio or 0 for item in table.checks if item.subject == check.subject]
            value = 100 * (max(both) - 1)
            axes.annotate(
                f"{check.published} printed: {word}",
                (value, subjects.index(check.subject)),
                (9, -3.5),
                textcoords="offset points",
                fontsize=7,
            )


def layer_shares(model: str = "alexnet-64", image_size: int = 227) -> Figure:
    """Returns memory, parameters and multiply-adds of each layer, as percentages of the whole network."""
    layers = slide_layers(counted(model, image_size))
    names = [layer.name.split(".")[-1].replace("head", "fc8") for layer in layers]
    panels = (
        ("memory", [layer.memory for layer in layers]),
        ("parameters", [layer.parameters for layer in layers]),
        ("multiply-adds", [layer.macs for layer in layers]),
    )
    colors = {"conv": WINDOWED, "linear": WHOLE}
    with style():
        figure = Figure(figsize=(TEXT_WIDTH, 2.1), layout="constrained")
        for axes, (title, values) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
            shares = [100 * value / sum(values) for value in values]
            axes.barh(range(len(names)), shares, color=[colors.get(layer.kind, GREY) for layer in layers], height=0.7)
            axes.set_yticks(range(len(names)), names)
            axes.grid(visible=False, axis="y")
            axes.set_title(title)
            axes.set_xlim(0, 1.08 * max(shares))
        figure.axes[0].invert_yaxis()
        figure.supxlabel(f"share of {model} at {image_size} pixels [%]", fontsize=8)
    return figure
