"""The text under the panels of a figure: the verdicts, one a paragraph, then what the figure shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from vision_repro.analysis.claims import Verdict
from vision_repro.analysis.summary import SummaryRow
from vision_repro.analysis.verdicts import numbers_text
from vision_repro.figures.style import text_width, wrap
from vision_repro.figures.venues import page, points

SIZE = 7.0  # points
_LINE, _SPACE, _EDGE = 0.125, 0.08, 0.05  # inches


@dataclass(frozen=True)
class Footer:
    """Text broken into lines for a width [inches]: (verdict, lines of its claim) pairs, and the lines of the notes."""

    judged: tuple[tuple[str, tuple[str, ...]], ...]
    notes: tuple[str, ...]

    @property
    def height(self) -> float:
        """The room that the text takes, with the margin below [inches]."""
        lines = len(self.notes) + sum(len(text) for _, text in self.judged)
        return _LINE * lines + _SPACE * (2 if self.judged else 1) + _EDGE

    def write(self, figure: Figure, top: float) -> None:
        """Writes the verdicts, then the notes, line by line from `top` inches downwards."""
        column = max((text_width(word, SIZE, bold=True) for word, _ in self.judged), default=0.0) + 0.1
        top += _SPACE
        for verdict, lines in self.judged:
            _write(figure, _EDGE, top, verdict, "bold")
            for line in lines:
                _write(figure, _EDGE + column, top, line)
                top += _LINE
        top += _SPACE if self.judged else 0
        for line in self.notes:
            _write(figure, _EDGE, top, line)
            top += _LINE


def footer(verdicts: Sequence[Verdict], notes: Sequence[str], width: float) -> Footer:
    """Returns the verdicts with their numbers, and the notes as one paragraph with the sources of the claims behind.

    Nothing where the page keeps words out of figures.
    """
    if not page().words:
        return Footer((), ())
    sources = "; ".join(dict.fromkeys(item.source for item in verdicts))
    points = "; points are percentage points" if any(item.unit.startswith("fraction") for item in verdicts) else ""
    last = f"Claims: {sources}{points}." if sources else ""
    text = " ".join(_sentence(part) for part in (*notes, last) if part)
    judged = tuple((item.verdict, tuple(wrap(_claim(item), SIZE, width - 0.8))) for item in verdicts)
    return Footer(judged, tuple(wrap(text, SIZE, width - 2 * _EDGE)))


def seeds_note(rows: Sequence[SummaryRow]) -> str:
    """Returns what the marks and bars are, by the number of seeds behind them."""
    counts = sorted({row.n for row in rows if row.n})
    if not counts or counts == [1]:
        return "one seed, no interval"
    seeds = f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    return f"mean over {seeds}; bars: {100 * rows[0].interval.level:g} % t interval over seeds"


def lost_note(rows: Sequence[SummaryRow]) -> str:
    """Returns how many runs diverged, or the empty string."""
    diverged = sum({tuple(row.setting.items()): row.diverged for row in rows}.values())
    return f"{diverged} diverged run{'' if diverged == 1 else 's'} left out of the means" if diverged else ""


def _claim(item: Verdict) -> str:
    return f"{item.statement.rstrip('.')}: {numbers_text(item).replace('percentage points', 'points')}."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


def _write(figure: Figure, left: float, top: float, text: str, weight: str = "normal") -> None:
    width, height = figure.get_size_inches()
    place = (left / width, 1 - (top + 0.02) / height)
    figure.text(*place, text.replace("$", r"\$"), fontsize=points(SIZE), va="top", weight=weight)
