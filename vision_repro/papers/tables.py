"""Reads the tables printed in the papers, which ship with the package; every row names its source."""

from __future__ import annotations

import csv
from pathlib import Path

from vision_repro.config import UserError, nearest

FOLDER = Path(__file__).parent / "printed"


def paper_tables() -> list[str]:
    """Returns the names of the shipped tables."""
    return sorted(path.stem for path in FOLDER.glob("*.csv"))


def paper_table(name: str) -> list[dict[str, str]]:
    """Returns the rows of a paper's table as text, with the printed digits; accuracies are in percent, as printed.

    Raises:
        UserError: if there is no table of that name.
    """
    if name not in paper_tables():
        known = ", ".join(paper_tables())
        raise UserError(f'There is no paper table "{name}": expected one of {known}.{nearest(name, paper_tables())}')
    with (FOLDER / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
