"""The figure of a study: panels side by side, lines over a number or a list of entries, and one legend a row of panels.

A name has the same colour and marker in all panels of a figure. Fractions are drawn as percent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vision_repro.analysis.claims import Verdict
from vision_repro.analysis.summary import SummaryRow
from vision_repro.figures.footer import footer, lost_note, seeds_note
from vision_repro.figures.series import PAPER
from vision_repro.figures.study_panels import CROWDED, Curves, Dots, Looks, Panel, draw_curves, draw_dots
from vision_repro.figures.style import style, text_width
from vision_repro.figures.venues import NARROW, page, stroke

__all__ = ["Curves", "Dots", "Panel", "study_figure"]

# inches
_LEFT, _GAP, _RIGHT, _TOP = 0.36, 0.16, 0.08, 0.22
_UNDER, _UNDER_DOTS, _LEGEND, _SPACE = 0.40, 0.24, 0.145, 0.06


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
        looks = Looks()
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


def _row(figure: Figure, line: Sequence[Panel], top: float, across: int, looks: Looks, letters: Sequence[str]) -> None:
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
            draw_curves(axes, panel, looks, wide)
        else:
            draw_dots(axes, panel, wide)


def _seeds(panels: Sequence[Panel], rows: Sequence[SummaryRow]) -> str:
    drawn = [series for panel in panels if isinstance(panel, Curves) for series in panel.series]
    bands = any(series.joined and len(series.points) > CROWDED for series in drawn)
    note = seeds_note(rows)
    note = note.replace("bars:", "bars and bands:") if bands else note
    logs = [panel for panel in panels if isinstance(panel, Curves) and panel.ylog]
    cut = any(point.interval.low <= 0 for panel in logs for series in panel.series for point in series.points)
    return f"{note}; on logarithmic axes they are cut a decade under the least mean" if cut else note


def _papers(panels: Sequence[Panel]) -> str:
    printed = any(entry.paper is not None for panel in panels if isinstance(panel, Dots) for entry in panel.entries)
    return "open grey circles: what the paper prints" if printed else ""


_Legend = tuple[list[Line2D], int, int]


def _legend_of(line: Sequence[Panel], looks: Looks, width: float) -> _Legend:
    """Returns the handles of a row's names, the lines that they take and the names in a line."""
    handles: dict[str, Line2D] = {}
    for panel in line:
        for series in panel.series if isinstance(panel, Curves) else ():
            if not series.points or series.label in handles:
                continue
            color, marker, dashes = looks.of(series)
            crowded = len(series.points) > CROWDED and series.joined
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
