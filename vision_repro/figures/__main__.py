"""The figure of a result, for the page of a venue: `python -m vision_repro.figures FOLDER [--style=...] [--out=...]`.

Drawn from the folder's table.csv and config.yaml alone, as PDF, SVG and PNG with fonts embedded; nothing is trained.
The default style gives the files that the experiment wrote. Two-column venues get figure-column.* beside figure.*,
for one column. In a column and on slides the verdicts and notes are not in the figure but in caption.txt.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_repro.config import UserError, check_choices, describe, option, parse_single
from vision_repro.figures.redraw import changed_verdicts, draw, read
from vision_repro.figures.venues import DEFAULT, VENUES


@dataclass(frozen=True)
class Options:
    """How the figure is drawn, and where to."""

    style: str = option(DEFAULT.name, "where it will be printed", tuple(VENUES))
    out: str = option("", "folder for the figure; outputs/figures/<experiment>/<folder>/<style> if empty")


def main(tokens: Sequence[str] | None = None) -> int:
    """Draws the figure and says where it is; returns the exit code (0 done, 2 bad input)."""
    arguments = list(sys.argv[1:] if tokens is None else tokens)
    if "--help" in arguments or "-h" in arguments:
        print(f"{__doc__}\n{describe(Options)}\n\nstyles:\n{_styles()}")
        return 0
    try:
        folders = [word for word in arguments if not word.startswith("--")]
        chosen = _options([word for word in arguments if word.startswith("--")])
        if len(folders) != 1:
            raise UserError(f"One folder is drawn, not {len(folders)}: expected one such as results/data_scaling/cpu.")
        folder, venue = Path(folders[0]).expanduser(), VENUES[chosen.style]
        drawing = read(folder)
        named = Path("outputs/figures") / drawing.experiment.name / folder.resolve().name / venue.name
        out = Path(chosen.out).expanduser() if chosen.out else named
        paths = draw(drawing, venue, out)
    except UserError as error:
        print(f"figures: {error}", file=sys.stderr)
        return 2
    for claim in changed_verdicts(drawing, folder):
        print(
            f"figures: verdicts.json says otherwise on {claim}; the figure has the verdict of today.", file=sys.stderr
        )
    print("\n".join(map(str, paths)))
    return 0


def _options(tokens: Sequence[str]) -> Options:
    chosen = Options(**parse_single(tokens, Options))
    check_choices(chosen)
    return chosen


def _styles() -> str:
    lines = []
    for venue in VENUES.values():
        widths = " and ".join(f"{width:.4g}" for width in venue.widths.values())
        lines.append(f"  {venue.name:<8} {widths} inches; {venue.source}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
