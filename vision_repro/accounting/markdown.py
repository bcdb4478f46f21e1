"""Markdown tables that also read well as plain text."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(head: Sequence[str], align: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table whose columns are padded to the width of their longest cell.

    `align` holds the rule of each column: `---` for left, `---:` for right.
    """
    widths = [max(len(cell) for cell in column) for column in zip(head, align, *rows, strict=True)]
    right = [mark.endswith(":") for mark in align]
    rule = ["-" * (width - flag) + ":" * flag for width, flag in zip(widths, right, strict=True)]
    lines = []
    for row in (head, rule, *rows):
        padded = (
            cell.rjust(width) if flag else cell.ljust(width)
            for cell, width, flag in zip(row, widths, right, strict=True)
        )
        lines.append(f"| {' | '.join(padded)} |")
    return "\n".join(lines)
