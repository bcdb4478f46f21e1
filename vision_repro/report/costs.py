"""The accountant's tables, where they were written: ours beside the published numbers."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from vision_repro.accounting.check import COLUMNS, format_number

WORDS = ("inside", "explained", "outside")


@dataclass(frozen=True)
class CostTable:
    """One table of checks: lines are (subject, quantity, ours, published, ratio, band, verdict, note)."""

    name: str
    title: str
    lines: tuple[tuple[str, ...], ...]
    counts: Counter[str]
    sources: tuple[str, ...]
    figure: Path | None


def cost_tables(folder: Path, warnings: list[str]) -> list[CostTable]:
    """Returns the tables of a folder by name; a file that is no such table is named in `warnings`."""
    found = []
    for file in sorted(folder.glob("*.csv")):
        try:
            with file.open(newline="", encoding="utf-8") as lines:
                reader = csv.reader(lines)
                head = tuple(next(reader, ()))
                rows = list(reader)
        except (OSError, UnicodeDecodeError, csv.Error):
            head, rows = (), []
        if head != COLUMNS:
            if file.name != "plans.csv":  # prices of machines: no check of a published number
                warnings.append(f"{folder.name}/{file.name} is skipped: it is not a table of the accountant.")
            continue
        if any(len(row) != len(COLUMNS) for row in rows):
            warnings.append(f"{folder.name}/{file.name} is skipped: it has lines of another length; was it cut off?")
            continue
        found.append(_table(file, rows))
    return found


def _table(file: Path, rows: list[list[str]]) -> CostTable:
    cells = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    picture = file.with_suffix(".svg")
    return CostTable(
        name=file.stem,
        title=_title(file),
        lines=tuple(
            (
                cell["subject"],
                f"{cell['quantity']} [{cell['unit']}]" if cell["unit"] else cell["quantity"],
                _number(cell["ours"]),
                cell["published"],
                cell["ratio"],
                cell["band"],
                cell["verdict"],
                cell["note"],
            )
            for cell in cells
        ),
        counts=Counter(cell["verdict"] for cell in cells),
        sources=tuple(dict.fromkeys(cell["source"] for cell in cells if cell["source"])),
        figure=picture if picture.is_file() else None,
    )


def _title(file: Path) -> str:
    """Returns the heading of the Markdown file beside the table, or the table's name."""
    try:
        first = file.with_suffix(".md").read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        first = ""
    return first.removeprefix("# ").strip() or file.stem


def _number(text: str) -> str:
    try:
        return format_number(float(text))
    except (ValueError, OverflowError):
        return text
