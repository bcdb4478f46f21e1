"""The figure of the data-scaling experiment, beside the paper's own points (ViT, Figure 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vision_repro.analysis.claims import Verdict
from vision_repro.analysis.intervals import Interval
from vision_repro.analysis.summary import SummaryRow
from vision_repro.analysis.verdicts import numbers_text
from vision_repro.figures.panels import Curve, draw, limits, say, size_axis
from vision_repro.figures.style import appearance, size_order, style, text_width, wrap
from vision_repro.figures.venues import NARROW, page, stroke
from vision_repro.figures.venues import points as point_size
from vision_repro.papers.tables import paper_table

PRETRAINING = {"ImageNet": 1.3e6, "ImageNet-21k": 14e6, "JFT-300M": 303e6}
"""Images of the pre-training sets, as rounded in the paper (ViT, section 4.1)."""

# inches
_LEFT, _GAP, _RIGHT, _TOP, _FOOT = 0.30, 0.32, 0.10, 0.22, 0.05
_PANEL, _UNDER, _LEGEND_LINE, _LINE, _SPACE = 1.5, 0.36, 0.145, 0.125, 0.08
_SMALL = 7.0  # points


def data_scaling_figure(
    rows: Sequence[SummaryRow],
    verdicts: Sequence[Verdict],
    *,
    dataset: str,
    preset: str,
    caption: str,
    width: float | None = None,
    shots: int = 5,
) -> Figure:
    """Returns three panels over the number of training images, the verdicts and what the figure shows.

    (a) test accuracy and (b) few-shot accuracy on frozen features of the rows of `preset`, mean and interval over seeds
    by model, and (c) the paper's accuracies after pre-training on three data sets. `width` is in inches, that of the
    page if None; in a narrow figure the panels are under each other.
    """
    width, words = page().width if width is None else width, page().words
    ours = [row for row in rows if row.preset == preset]
    direct, few = _curves(ours, "test_accuracy"), _curves(ours, f"few_shot_{shots}")
    with style():
        text = _notes(ours, verdicts, direct, few, dataset, preset, shots, caption)
        notes = wrap(text, _SMALL, width - 0.1) if words else []
        judged = [(item.verdict, wrap(_claim(item), _SMALL, width - 0.8)) for item in verdicts if words]
        lines = len(notes) + sum(len(text) for _, text in judged)
        legends = _LEGEND_LINE * max(3, math.ceil(len({c.model for c in direct + few}) / 2))
        tops = _tops(width, legends)
        above = tops[-1] + _PANEL + _UNDER + legends
        figure = Figure(figsize=(width, above + _SPACE * (2 if judged else 1) + _LINE * lines + _FOOT))
        axes = _panels(figure, tops)
        _own(axes[0], direct, "(a) Test accuracy [%]")
        _own(axes[1], few, f"(b) {shots}-shot accuracy [%]")
        _paper(axes[2], "(c) Paper: ImageNet top-1 [%]")
        _legends(figure, axes, tops)
        _text(figure, judged, notes, top=above + _SPACE)
    return figure


def _curves(rows: Sequence[SummaryRow], metric: str) -> list[Curve]:
    chosen = [row for row in rows if row.metric == metric]
    curves = []
    for model in sorted({str(row.setting["model"]) for row in chosen}, key=size_order):
        own = {float(row.setting["train_size"]): row for row in chosen if row.setting["model"] == model}
        points = {size: own[size].interval for size in sorted(own) if own[size].n}
        curves.append(Curve(model, points, {size: own[size].diverged for size in sorted(own) if own[size].diverged}))
    return curves


def _tops(width: float, legends: float) -> tuple[float, ...]:
    """Returns the distances of the three panels from the top [inches]."""
    row = _TOP + _PANEL + _UNDER
    return (_TOP, _TOP + row, _TOP + 2 * row + legends) if width < NARROW else (_TOP, _TOP, _TOP)


def _panels(figure: Figure, tops: Sequence[float]) -> list[Axes]:
    width, height = figure.get_size_inches()
    across = 3 if len(set(tops)) == 1 else 1
    wide = (width - _LEFT - (across - 1) * _GAP - _RIGHT) / across
    return [
        figure.add_axes(
            (
                (_LEFT + index % across * (wide + _GAP)) / width,
                (height - top - _PANEL) / height,
                wide / width,
                _PANEL / height,
            )
        )
        for index, top in enumerate(tops)
    ]


def _own(axes: Axes, curves: Sequence[Curve], title: str) -> None:
    axes.set_title(title, loc="left", pad=stroke(4))
    if not any(curve.points for curve in curves):
        say(axes, "all runs diverged" if any(curve.diverged for curve in curves) else "not measured")
        return
    draw(axes, curves, sorted({size for curve in curves for size in (*curve.points, *curve.diverged)}))
    axes.set_xlabel("training images", labelpad=stroke(2))


def _paper(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", pad=stroke(4))
    table = paper_table("vit_table5")
    points = []
    for model in sorted({row["model"] for row in table}, key=size_order):
        own = sorted(
            (PRETRAINING[row["pretrain_data"]], float(row["imagenet"])) for row in table if row["model"] == model
        )
        look = appearance(model)
        axes.plot(
            [size for size, _ in own],
            [value for _, value in own],
            color=look.color,
            marker=look.marker,
            linestyle=look.linestyle,
            label=look.label,
            markerfacecolor=look.face,
            markeredgewidth=stroke(0.8),
        )
        points += [Interval(value / 100, value / 100, value / 100, 1) for _, value in own]
    limits(axes, points)
    size_axis(axes, list(PRETRAINING.values()))
    axes.set_xlabel("pre-training images", labelpad=stroke(2))


def _legends(figure: Figure, axes: Sequence[Axes], tops: Sequence[float]) -> None:
    """Puts the models of the first two panels under them, and those of the paper under the third."""
    width, height = figure.get_size_inches()
    found = {label: line for panel in axes[:2] for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    theirs = dict(zip(*reversed(axes[2].get_legend_handles_labels()), strict=True))
    for entries, panel, top in ((found, axes[0], tops[1]), (theirs, axes[2], tops[2])):
        left = panel.get_position().x0 - (0.15 / width if panel is axes[2] else 0)
        figure.legend(
            list(entries.values()),
            list(entries),
            loc="upper left",
            bbox_to_anchor=(left, 1 - (top + _PANEL + _UNDER) / height),
            ncols=2,
            borderaxespad=0,
            borderpad=0,
            columnspacing=1.0,
            handlelength=2.6,
            handletextpad=0.4,
            labelspacing=0.25,
        )


def _claim(item: Verdict) -> str:
    return f"{item.statement.rstrip('.')}: {numbers_text(item).replace('percentage points', 'points')}."


def _notes(
    rows: Sequence[SummaryRow],
    verdicts: Sequence[Verdict],
    direct: Sequence[Curve],
    few: Sequence[Curve],
    dataset: str,
    preset: str,
    shots: int,
    caption: str,
) -> str:
    counts = sorted({point.n for curve in (*direct, *few) for point in curve.points.values()})
    seeds = f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0] if counts else 0} seeds"
    sources = "; ".join(dict.fromkeys(item.source for item in verdicts))
    level = f"{100 * rows[0].interval.level:g} %" if rows else "95 %"
    band = f"mean over {seeds}; bands and bars: {level} t interval over seeds"
    ours = "one seed, no interval" if counts == [1] else band
    parts = (
        caption[:1].upper() + caption[1:] + ("." if caption and caption[-1] not in ".!?" else ""),
        f"(a), (b): data set {dataset}, preset {preset}; {ours}.",
        f"(b): least-squares probe of the frozen features on {shots} images a class.",
        _lost(direct),
        "(c): the paper's numbers (ViT, Table 5), fine-tuned at 384 pixels after pre-training on ImageNet"
        " (1.3M images), ImageNet-21k (14M) or JFT-300M (303M).",
        f"Claims: {sources}; points are percentage points." if sources else "",
    )
    return " ".join(part for part in parts if part)


def _lost(curves: Sequence[Curve]) -> str:
    """Names the settings with diverged runs, at most three of them."""
    named = [
        f"{appearance(curve.model).label} at {size:g} ({runs} run{'' if runs == 1 else 's'})"
        for curve in curves
        for size, runs in curve.diverged.items()
    ]
    if not named:
        return ""
    more = f" and {len(named) - 3} more settings" if len(named) > 3 else ""
    return f"Open crosses: diverged runs, left out of the mean: {', '.join(named[:3])}{more}."


def _text(figure: Figure, judged: Sequence[tuple[str, list[str]]], notes: Sequence[str], top: float) -> None:
    """Writes the verdicts, then the notes, line by line from `top` inches downwards."""
    width, height = figure.get_size_inches()

    def write(left: float, text: str, weight: str = "normal") -> None:
        place = (left / width, 1 - (top + 0.02) / height)
        figure.text(*place, text.replace("$", r"\$"), fontsize=point_size(_SMALL), va="top", weight=weight)

    column = max((text_width(word, _SMALL, bold=True) for word, _ in judged), default=0.0) + 0.1
    for verdict, lines in judged:
        write(0.05, verdict, "bold")
        for line in lines:
            write(0.05 + column, line)
            top += _LINE
    top += _SPACE if judged else 0
    for line in notes:
        write(0.05, line)
        top += _LINE
