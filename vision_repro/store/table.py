"""The tidy table of an experiment: one measured number a row, written from the run folders."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vision_repro.config import plain
from vision_repro.store.atomic import write_atomic
from vision_repro.store.runs import RunFolder

TABLE_NAME = "table.csv"


@dataclass(frozen=True)
class TableSpec:
    """What heads a table: the experiment, its preset and the config fields that make a setting."""

    experiment: str
    preset: str
    settings: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return ("experiment", "preset", "run", *self.settings, "seed", "status", "metric", "value", "unit")


def table_csv(spec: TableSpec, folders: Iterable[RunFolder]) -> str:
    """Returns the tidy table of what is trained and measured, one number a row; a missing value is `nan`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(spec.columns)
    for folder in folders:
        result = folder.outcome()
        if result is None:
            continue
        config = plain(folder.config)
        head = [spec.experiment, spec.preset, folder.id, *(config[name] for name in spec.settings), config["seed"]]
        for name, cell in result["metrics"].items():
            value = "nan" if cell["value"] is None else repr(float(cell["value"]))
            writer.writerow([*head, result["status"], name, value, cell["unit"]])
    return text.getvalue()


def write_table(path: Path, spec: TableSpec, folders: Iterable[RunFolder]) -> None:
    """Writes the table, again until it is that of the folders.

    Two processes that finish runs at once may each write a table without the other's row where there are no locks; the
    one that writes last reads once more, so that the row is lost in neither.
    """
    chosen = list(folders)
    text = ""
    while (found := table_csv(spec, chosen)) != text:
        text = found
        write_atomic(path, text)
