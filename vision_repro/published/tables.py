"""Compares every published cost with ours: `python -m vision_repro.published.tables [--out=outputs/tables]`.

Writes each table as CSV and Markdown, some with a figure, and `architectures.md` and `summary.md`. The exit code is 1
if a number is outside its band without an explanation in the table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_repro.accounting.check import Table, to_csv, to_markdown
from vision_repro.config import UserError, describe, option, parse_single
from vision_repro.store.atomic import write_atomic


@dataclass(frozen=True)
class Options:
    """Folder of the tables."""

    out: str = option("outputs/tables", "folder of the tables and figures")


def table_builders() -> list[Callable[[], Table]]:
    """Returns the functions that build the tables, in the order of the slides and papers."""
    # Imported here for start-up time: torch takes long to import.
    from vision_repro.published import exaflops, rules, slides, training_cost, windows

    return [
        slides.alexnet_64,
        slides.alexnet_96,
        slides.googlenet,
        rules.vgg,
        exaflops.vit_table_1,
        exaflops.vit_table_6,
        exaflops.bit,
        exaflops.hybrids,
        exaflops.swin,
        windows.windows,
        exaflops.all_published,
        training_cost.slides_price,
    ]


def write(table: Table, out: Path) -> None:
    """Writes a table as CSV and Markdown, with its figure if it has one."""
    # Imported here for start-up time: torch takes long to import.
    from vision_repro.figures.style import save
    from vision_repro.published import charts, training_cost

    write_atomic(out / f"{table.name}.csv", to_csv([table]))
    write_atomic(out / f"{table.name}.md", to_markdown(table))
    if table.name == "swin_windows":
        save(charts.swin_windows(), out / "swin_windows")
    if table.name == "vit_table6":
        save(charts.table_6(table), out / "vit_table6")
    if table.name == "alexnet_64":
        save(charts.layer_shares(), out / "alexnet_64")
    if table.name == "cost":
        write_atomic(out / "plans.csv", training_cost.plans_csv())


def summary(tables: Sequence[Table]) -> str:
    """Returns the number of checks by verdict, and a line for each number outside its band, with its explanation."""
    lines = ["| table | inside | explained | outside |", "|---|---:|---:|---:|"]
    for table in tables:
        counts = " | ".join(str(table.count(verdict)) for verdict in ("inside", "explained", "outside"))
        lines.append(f"| {table.name} | {counts} |")
    total = [sum(table.count(verdict) for table in tables) for verdict in ("inside", "explained", "outside")]
    lines.append(f"| all | {total[0]} | {total[1]} | {total[2]} |\n")
    for table in tables:
        for check in table.checks:
            if check.verdict != "inside":
                unit = f" {check.unit}" if check.unit else ""
                numbers = f"printed {check.published}{unit}, counted {check.ours:.9g}{unit} (band: {check.band})"
                where = f"{table.name}, {check.subject}, {check.quantity}"
                lines.append(f"- {check.verdict}: {where}: {numbers}. {check.full_note}".rstrip())
    return "\n".join(lines) + "\n"


def make_all(out: Path) -> list[Table]:
    """Writes each table to `out` as soon as it is built; returns all of them."""
    from vision_repro.accounting.architectures import architectures_markdown

    tables = []
    for make in table_builders():
        tables.append(make())
        write(tables[-1], out)
    write_atomic(out / "architectures.md", architectures_markdown())
    write_atomic(out / "summary.md", f"# Costs: ours and the published ones\n\n{summary(tables)}")
    return tables


def main(tokens: Sequence[str] | None = None) -> int:
    """Writes the tables and prints the summary; returns the exit code (0, 1 for an unexplained number, 2 bad input)."""
    arguments = list(sys.argv[1:] if tokens is None else tokens)
    if "--help" in arguments or "-h" in arguments:
        print(f"{__doc__}\n{describe(Options)}")
        return 0
    try:
        out = Path(Options(**parse_single(arguments, Options)).out)
        tables = make_all(out)
    except UserError as error:
        print(f"tables: {error}", file=sys.stderr)
        return 2
    print(summary(tables))
    print(f"Tables and figures: {out}/")
    return int(any(table.count("outside") for table in tables))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
