"""Tables of text in a figure: columns in groups, rules as in a printed paper, broken where the page is too narrow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vision_repro.figures.style import text_width
from vision_repro.figures.venues import points, stroke

EDGE = 0.05
"""Room between a table and the edge of the figure [inches]."""
_SIZE, _HEAD = 7.0, 8.0  # points
_LINE, _RULE, _TITLE, _BETWEEN, _GAP, _HEAD_WIDTH = 0.155, 0.05, 0.2, 0.12, 0.1, 0.62  # inches


@dataclass(frozen=True)
class Column:
    """One column: its group (a pre-training), its head (a model), and a cell a row; `best` are the rows in bold."""

    group: str
    head: str
    cells: tuple[str, ...]
    best: frozenset[int] = frozenset()

    @property
    def heads(self) -> tuple[str, ...]:
        """The lines of its head, broken where it is wider than the cells."""
        wide = max(_HEAD_WIDTH, *(text_width(text, _SIZE, bold=True) for text in self.cells))
        lines = [""]
        for part in re.findall(r"[^-+_: ]+[-+_: ]?", self.head):
            if lines[-1] and text_width(lines[-1] + part, _SIZE) > wide:
                lines.append("")
            lines[-1] += part
        return tuple(lines)

    @property
    def width(self) -> float:
        """The room that it takes [inches], in bold at most."""
        texts = (
            *(text_width(text, _SIZE) for text in self.heads),
            *(text_width(t, _SIZE, bold=True) for t in self.cells),
        )
        return max(texts) + _GAP


@dataclass(frozen=True)
class Block:
    """Columns that stand side by side under a title; the last row, the cost, is set apart."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def height(self) -> float:
        """The room that it takes [inches]."""
        return _TITLE + _LINE * (1 + self.heads + len(self.rows)) + 3 * _RULE + _BETWEEN

    @property
    def heads(self) -> int:
        """How many lines the heads take."""
        return max(len(column.heads) for column in self.columns)

    @property
    def labels(self) -> float:
        """The width of the names of the rows [inches]."""
        return max(text_width(text, _SIZE) for text in self.rows) + _GAP


def broken(block: Block, width: float) -> Iterator[Block]:
    """Yields blocks that are at most `width` inches wide, of whole groups where that is possible."""
    room, taken, used = width - 2 * EDGE - block.labels, list[Column](), 0.0
    groups = list(dict.fromkeys(column.group for column in block.columns))
    parts: list[list[Column]] = []
    for group in groups:
        own = [column for column in block.columns if column.group == group]
        parts += [own] if _wide(own) <= room else [[column] for column in own]
    title = block.title
    for part in parts:
        if taken and used + _wide(part) > room:
            yield Block(title, block.rows, tuple(taken))
            title, taken, used = f"{block.title[:3]} continued", [], 0.0
        taken += part
        used += _wide(part)
    yield Block(title, block.rows, tuple(taken))


def _wide(columns: Sequence[Column]) -> float:
    """Returns the room that the columns of one group take, with its name above them [inches]."""
    return max(sum(column.width for column in columns), text_width(columns[0].group, _SIZE) + _GAP) if columns else 0.0


def draw(figure: Figure, block: Block, top: float) -> None:
    """Draws a block whose upper edge is `top` inches from the figure's."""
    groups = _groups(block.columns)
    right = EDGE + block.labels + sum(_wide(group) for group in groups)
    _write(figure, EDGE, top, block.title, _HEAD, "left")
    top += _TITLE
    _rule(figure, EDGE, right, top, 0.8)
    top += _RULE
    heads = top + _LINE + _RULE / 2
    rows = [heads + _LINE * (block.heads + index) + _RULE / 2 for index in range(len(block.rows))]
    rows[-1] += _RULE / 2
    left = EDGE + block.labels
    for group in groups:
        wide = _wide(group)
        _write(figure, left + wide / 2, top, group[0].group, _SIZE, "center")
        _rule(figure, left + _GAP / 2, left + wide - _GAP / 2, top + _LINE, 0.4)
        spare = (wide - sum(column.width for column in group)) / len(group)
        for column in group:
            _column(figure, column, left + (column.width + spare) / 2, heads, rows)
            left += column.width + spare
    for place, name in zip(rows, block.rows, strict=True):
        _write(figure, EDGE, place, name, _SIZE, "left")
    _rule(figure, EDGE, right, rows[0] - _RULE / 2, 0.4)
    _rule(figure, EDGE, right, rows[-1], 0.4)
    _rule(figure, EDGE, right, rows[-1] + _LINE + _RULE / 2, 0.8)


def _groups(columns: Sequence[Column]) -> list[list[Column]]:
    found: dict[str, list[Column]] = {}
    for column in columns:
        found.setdefault(column.group, []).append(column)
    return list(found.values())


def _column(figure: Figure, column: Column, centre: float, heads: float, rows: Sequence[float]) -> None:
    for index, text in enumerate(column.heads):
        _write(figure, centre, heads + _LINE * index, text, _SIZE, "center")
    for index, (place, text) in enumerate(zip(rows, column.cells, strict=True)):
        _write(figure, centre, place, text, _SIZE, "center", "bold" if index in column.best else "normal")


def _write(figure: Figure, left: float, top: float, text: str, size: float, align: str, weight: str = "normal") -> None:
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - (top + 0.02) / height, text, fontsize=points(size), va="top", ha=align, weight=weight)


def _rule(figure: Figure, left: float, right: float, top: float, thickness: float) -> None:
    width, height = figure.get_size_inches()
    place = 1 - top / height
    figure.add_artist(Line2D([left / width, right / width], [place, place], color="black", linewidth=stroke(thickness)))
