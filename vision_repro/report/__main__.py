"""The report: `python -m vision_repro.report [--results=results] [--outputs=outputs] [--out=outputs/report]`.

Builds a folder of plain HTML pages that open from the file system: every claim with its verdict, a page for every
experiment and preset that was run, the accountant's tables where `<outputs>/tables` or `<results>/tables` stands, and
the pages of the attention explorer in `<outputs>/explorer`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_repro.config import UserError, describe, option, parse_options


@dataclass(frozen=True)
class Options:
    """Where the report reads and writes."""

    results: str = option("results", "folder of the committed evidence")
    outputs: str = option("outputs", "folder that runs write to")
    out: str = option("outputs/report", "folder of the report; an earlier report there is replaced")


def options(tokens: Sequence[str]) -> Options:
    """Returns the options of a command line.

    Raises:
        UserError: for anything else in it.
    """
    values = {}
    for name, found in parse_options(tokens, Options).items():
        if len(found) != 1 or not str(found[0]):
            raise UserError(f"--{name} takes one folder, whose name has no comma.")
        values[name] = str(found[0])
    return Options(**values)


def main(tokens: Sequence[str] | None = None) -> int:
    """Builds the site and says where it is; returns the exit code (0 done, 2 bad input)."""
    arguments = list(sys.argv[1:] if tokens is None else tokens)
    if "--help" in arguments or "-h" in arguments:
        print(f"{__doc__}\n{describe(Options)}")
        return 0
    try:
        chosen = options(arguments)
        from vision_repro.report.site import build

        site = build(Path(chosen.results), Path(chosen.outputs), Path(chosen.out))
    except UserError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    for line in site.warnings:
        print(f"report: {line}", file=sys.stderr)
    print(f"{site.summary}\nReport: {Path(chosen.out) / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
