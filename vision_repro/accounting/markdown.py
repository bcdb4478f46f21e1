"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(head: Sequence[str], align: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table whose columns are as wide as their cells, so that it reads well as text too."""
    widths = [max(len(cell) for cell in column) for column in zip(head, align, *rows, strict=True)]
    right = [mark.endswith(":") for mark in align]
    rule = ["-" * (width - turn) + ":" * turn for width, turn in zip(widths, right, strict=True)]
    lines = []
    for row in (head, rule, *rows):
        padded = (
            cell.rjust(width) if turn else cell.ljust(width)
            for cell, width, turn in zip(row, widths, right, strict=True)
        )
        lines.append(f"| {' | '.join(padded)} |")
    return "\n".join(lines)
