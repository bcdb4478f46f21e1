"""What was measured: every folder with a table under the results and outputs; what is no such folder is named."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vision_repro.accounting import ledger_lines
from vision_repro.analysis.claims import VERDICTS, Verdict
from vision_repro.analysis.intervals import Interval, describe
from vision_repro.analysis.summary import SummaryRow, summarise
from vision_repro.analysis.table import Table
from vision_repro.config import UserError
from vision_repro.store.table import TABLE_NAME

MARK = ".vision-repro-report"
"""Stands in a folder that a report was written to, and may be replaced by the next."""
KNOWN = ("runs", "subsets", "tables", "report", "wandb", "explorer", "figures", "data")
"""Folders below the outputs that others own: runs, tables of the accountant, reports, W&B's copies, pages, pictures."""
DOWNLOADS = (
    *("figure.pdf", "figure.svg", "figure.png", "table.csv", "summary.csv", "verdicts.json", "config.yaml"),
    *("provenance.json", "outcome.yaml", "ledger.csv", "pictures.pdf", "pictures.svg", "pictures.png"),
)


@dataclass(frozen=True)
class Result:
    """One folder of evidence; `name` is the folder's, `preset` the preset it started from, `notes` what is wrong."""

    origin: str
    folder: Path
    experiment: str
    name: str
    preset: str
    table: Table
    rows: tuple[SummaryRow, ...]
    verdicts: tuple[Verdict, ...]
    printed: Mapping[str, str]
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    notes: tuple[str, ...]
    ledger: tuple[ledger_lines.Line, ...] = ()

    @property
    def slug(self) -> str:
        """Name of the page: readable, safe in any file system and address, and different for different folders."""
        name = f"{self.experiment}-{self.name}" + ("" if self.origin == "results" else "-outputs")
        safe = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:80]
        return safe if safe == name else f"{safe}-{zlib.crc32(name.encode('utf-8', 'surrogateescape')):08x}"

    @property
    def searched(self) -> bool:
        """True for a search of hyper-parameters, which has an outcome and judges no claim."""
        return (self.folder / "outcome.yaml").exists()

    @property
    def datasets(self) -> str:
        """Data sets of the runs, or the empty string where nothing says."""
        axes, base = (_mapping(self.config.get(key)) for key in ("axes", "base"))
        named = axes.get("dataset") or base.get("dataset") or ""
        return ", ".join(map(str, named)) if isinstance(named, list) else str(named)

    @property
    def runs(self) -> int:
        """Number of runs behind the table."""
        return len({row.run for row in self.table.rows})

    @property
    def device_hours(self) -> float | None:
        """Cost of all runs, or None where it was not recorded."""
        hours = self.provenance.get("device_hours")
        return float(hours) if isinstance(hours, int | float) and not isinstance(hours, bool) else None


def scan(results: Path, outputs: Path) -> tuple[list[Result], list[str]]:
    """Returns all evidence, the committed first, and a line for everything that was skipped.

    A folder of the outputs whose table is the committed one, byte for byte, appears once.
    """
    found: list[Result] = []
    warnings: list[str] = []
    for origin, root in (("results", results), ("outputs", outputs)):
        for folder in _folders(root, origin, warnings):
            try:
                result = read(folder, origin)
            except UserError as error:
                text = str(error).replace(str(folder / TABLE_NAME), TABLE_NAME)  # the same on every machine
                warnings.append(f"{_short(folder, root, origin)} is skipped: {text}")
                continue
            if not any(_same(result, other) for other in found):
                found.append(result)
    return found, warnings


def _folders(root: Path, origin: str, warnings: list[str]) -> Iterator[Path]:
    """Yields the folders with a table, two levels below `root`, and warns of the others."""
    for top in _below(root):
        if top.name in KNOWN or (top / MARK).exists():
            continue
        inner = [folder for folder in _below(top) if folder.name not in KNOWN]
        if not inner:
            warnings.append(f"{_short(top, root, origin)} is skipped: it holds no folder with a {TABLE_NAME}.")
        for folder in inner:
            if (folder / TABLE_NAME).is_file():
                yield folder
            else:
                warnings.append(f"{_short(folder, root, origin)} is skipped: it has no {TABLE_NAME}.")


def _below(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def _short(folder: Path, root: Path, origin: str) -> str:
    """Returns `results/data_scaling/cpu`, the same on every machine."""
    return str(Path(origin) / folder.relative_to(root))


def _same(one: Result, other: Result) -> bool:
    if (one.experiment, one.name) != (other.experiment, other.name):
        return False
    return (one.folder / TABLE_NAME).read_bytes() == (other.folder / TABLE_NAME).read_bytes()


def read(folder: Path, origin: str) -> Result:
    """Returns the evidence of a folder; what is missing beside the table, or cannot be read, becomes a note.

    Raises:
        UserError: if the table itself cannot be used.
    """
    table = Table.read(folder / TABLE_NAME)
    if not table.rows:
        raise UserError(f"{TABLE_NAME} has no rows.")
    try:
        rows = tuple(summarise(table, table.columns))
    except ValueError as error:
        raise UserError(f"{TABLE_NAME} cannot be summarised: {error}.") from None
    notes: list[str] = []
    config = _mapping(_load(folder / "config.yaml", yaml.safe_load, notes))
    provenance = _mapping(_load(folder / "provenance.json", json.loads, notes))
    ledger = _ledger(folder / ledger_lines.LEDGER_NAME, notes)
    verdicts, printed = _verdicts(_load(folder / "verdicts.json", json.loads, notes), notes)
    if not verdicts and not (folder / "outcome.yaml").exists():
        notes.append("No claim was judged here: verdicts.json is missing or empty.")
    preset = config.get("preset") or table.rows[0].preset
    return Result(
        origin,
        folder,
        folder.parent.name,
        folder.name,
        str(preset),
        table,
        rows,
        verdicts,
        printed,
        config,
        provenance,
        tuple(notes),
        ledger,
    )


def _load(file: Path, parse: Callable[[str], Any], notes: list[str]) -> Any:
    try:
        return parse(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        notes.append(f"{file.name} cannot be read: was it cut off?")
        return None


def _ledger(file: Path, notes: list[str]) -> tuple[ledger_lines.Line, ...]:
    """Returns what the runs took, by stage and model; nothing where it was not recorded."""
    try:
        return tuple(ledger_lines.read(file)) if file.exists() else ()
    except UserError:
        notes.append(f"{file.name} cannot be read: was it cut off?")
        return ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _verdicts(items: Any, notes: list[str]) -> tuple[tuple[Verdict, ...], dict[str, str]]:
    """Returns the verdicts, and by claim the number that the paper prints, where the file has one (`paper`)."""
    found: list[Verdict] = []
    printed: dict[str, str] = {}
    for item in items if isinstance(items, list) else []:
        try:
            found.append(_verdict(item))
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
            notes.append("An entry of verdicts.json is not a verdict and was left out.")
            continue
        if isinstance(item.get("paper"), str | int | float):
            printed[found[-1].claim] = str(item["paper"])
    return tuple(found), printed


def _verdict(item: Mapping[str, Any]) -> Verdict:
    if item["verdict"] not in VERDICTS:
        raise ValueError(item["verdict"])
    words = {name: str(item[name]) for name in ("claim", "statement", "source", "verdict", "unit", "reason", "metric")}
    estimate = _interval(item.get("estimate"))
    subject, note = _parts(words["reason"], estimate)
    return Verdict(**words, estimate=estimate, subject=subject, note=note)


def _interval(cell: Mapping[str, Any] | None) -> Interval | None:
    if cell is None:
        return None
    mean, low, high = (
        float(end if cell[name] is None else cell[name])
        for name, end in (("mean", "nan"), ("low", "-inf"), ("high", "inf"))
    )
    return Interval(mean, low, high, int(cell["n"]), float(cell["level"]))


def _parts(reason: str, estimate: Interval | None) -> tuple[str, str]:
    """Returns the quantity and the note of a reason `quantity: numbers; note`."""
    if estimate is None:
        return "", reason
    subject, numbers, after = reason.partition(f": {describe(estimate)}")
    if not numbers:  # another rounding: cut at the count of seeds
        match = re.match(r"(.*?): [^:]*?\bseeds?\b(.*)", reason, re.DOTALL)
        subject, after = (match[1], match[2]) if match else (reason, "")
    return subject, after.removeprefix("; ").strip()
