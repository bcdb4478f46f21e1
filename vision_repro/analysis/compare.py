"""Compares two results: `python -m vision_repro.analysis.compare A B [--csv=FILE]`.

A and B are folders with a table.csv, of one experiment: before and after a change, or on two machines. Says which
numbers differ by more than the noise between seeds, and what differs in config.yaml and provenance.json. The exit code
is 0 if nothing differs beyond noise, 1 if something does, 2 for bad input.
"""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_repro.analysis.changes import BEYOND, NOISE, SAME, UNMEASURED, Change, Comparison, compare_tables
from vision_repro.analysis.facts import config_facts, differing, provenance_facts
from vision_repro.analysis.table import Table
from vision_repro.config import UserError, describe, nearest, option, parse_options
from vision_repro.store.atomic import write_atomic
from vision_repro.store.table import TABLE_NAME

CLOSEST = 5
"""How many numbers within noise are shown."""


@dataclass(frozen=True)
class Options:
    """What may follow the two folders."""

    csv: str = option("", "file for all numbers of both, their differences, intervals and p values")


def main(tokens: Sequence[str] | None = None) -> int:
    """Prints the comparison as Markdown; returns the exit code (0 nothing beyond noise, 1 something, 2 bad input)."""
    arguments = list(sys.argv[1:] if tokens is None else tokens)
    if "--help" in arguments or "-h" in arguments:
        print(f"{__doc__}\n{describe(Options)}")
        return 0
    try:
        folders = [_folder(word) for word in arguments if not word.startswith("--")]
        given = parse_options([word for word in arguments if word.startswith("--")], Options).get("csv", [None])
        if len(folders) != 2:
            raise UserError(f"Two folders are compared, not {len(folders)}: expected A B, such as two of results/*/*.")
        if len(given) != 1 or given[0] == "":
            raise UserError("--csv takes one file, whose name has no comma.")
        before, after = (Table.read(folder / TABLE_NAME) for folder in folders)
        found = compare_tables(before, after)
        if given[0]:
            write_atomic(Path(str(given[0])).expanduser(), to_csv(found))
    except UserError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    print(to_markdown(found, *folders), end="")
    return 1 if found.of(BEYOND) else 0


def _folder(word: str) -> Path:
    folder = Path(word).expanduser()
    if (folder / TABLE_NAME).is_file():
        return folder
    near = [str(path.parent) for path in sorted(folder.parent.glob(f"*/{TABLE_NAME}"))]
    raise UserError(f'"{word}" is no result: expected a folder with a {TABLE_NAME}.{nearest(word, near)}')


def to_markdown(found: Comparison, before: Path, after: Path) -> str:
    """Returns the summary line, the numbers that differ, what is only in one, and what differs beside the numbers."""
    lines = [f"# Comparison of {before} (A) and {after} (B)", "", summary(found), ""]
    beyond, within, unmeasured = found.of(BEYOND), found.of(NOISE)[:CLOSEST], found.of(UNMEASURED)
    lines += _section("Beyond noise", _rows(beyond, found.level))
    lines += _section("Noise not measured", _rows(unmeasured, found.level))
    lines += _section(
        "Within noise: the smallest p" if beyond else "Within noise: the closest", _rows(within, found.level)
    )
    for side, items in (("A", found.only_before), ("B", found.only_after)):
        lines += _section(f"Only in {side}", [f"- {item}" for item in items])
    for name, read in (("config.yaml", config_facts), ("provenance.json", provenance_facts)):
        lines += _section(f"Differences in {name}", differing(read(before), read(after)))
    return "\n".join(lines).rstrip() + "\n"


def summary(found: Comparison) -> str:
    """Returns the one line that matters."""
    corrected = f", corrected for {found.tests} comparisons by Holm's procedure" if found.tests else ""
    parts = [
        f"{len(found.of(BEYOND))} of {len(found.changes)} numbers differ by more than their noise "
        f"({100 * found.level:g} % level{corrected})",
        f"{len(found.of(SAME))} are equal to the last digit",
    ]
    if found.of(UNMEASURED):
        parts.append(f"{len(found.of(UNMEASURED))} differ with unknown noise: one seed, or the same step on every seed")
    if found.only_before or found.only_after:
        parts.append(f"{len(found.only_before)} only in A, {len(found.only_after)} only in B")
    return "; ".join(parts) + "."


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""] if lines else []


def _rows(changes: Sequence[Change], level: float) -> list[str]:
    if not changes:
        return []
    names = list(changes[0].setting)
    head = [*names, "metric", "A", "B", f"B minus A [{100 * level:g} % interval]", "seeds", "compared", "p (Holm)"]
    cells = [head, ["---"] * len(head), *(_cells(item) for item in changes)]
    return ["| " + " | ".join(line) + " |" for line in cells]


def _cells(item: Change) -> list[str]:
    a, b = (_shown(number, item.unit) for number in (item.before, item.after))
    gap = item.difference
    ends = f" [{_shown(gap.low, item.unit, '+')}, {_shown(gap.high, item.unit, '+')}]" if gap.bounded else ""
    unit = "points" if item.unit == "fraction" else item.unit
    seeds = str(gap.n) if item.how == "paired" else f"{item.seeds[0]} and {item.seeds[1]}"
    p = "" if item.status == UNMEASURED else f"{item.corrected:.2g}"
    change = f"{_shown(gap.mean, item.unit, '+')}{ends} {unit}".strip() if math.isfinite(gap.mean) else "no value"
    return [*map(str, item.setting.values()), item.metric, a, b, change, seeds, item.how, p]


def _shown(number: float, unit: str, sign: str = "") -> str:
    if not math.isfinite(number):
        return ""
    return f"{100 * number:{sign}.2f}" if unit == "fraction" else f"{number:{sign}.5g}"


def to_csv(found: Comparison) -> str:
    """Returns every comparison as CSV with nine digits, in units of the table; empty if there is no number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(found.changes[0].setting) if found.changes else []
    measured = ("before", "after", "difference", "low", "high", "p", "p_holm")
    writer.writerow([*names, "metric", "unit", *measured, "n_before", "n_after", "compared", "status"])
    for item in found.changes:
        gap = item.difference
        numbers = (item.before, item.after, gap.mean, gap.low, gap.high, item.p, item.corrected)
        shown = [f"{number:.9g}" if math.isfinite(number) else "" for number in numbers]
        if item.status in (SAME, UNMEASURED):
            shown[-2:] = ["", ""]  # nothing was tested
        writer.writerow([*item.setting.values(), item.metric, item.unit, *shown, *item.seeds, item.how, item.status])
    return text.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
