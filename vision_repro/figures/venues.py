"""Where a figure will be printed: column widths [inches], type, and whether the figure itself has words.

Figures ask `page()` for their width, and `points` and `stroke` for sizes; the default page is that of an ICLR paper.
On slides everything is drawn twice as large: such a figure is laid out at half its width, and enlarged as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

SERIF = "STIXGeneral"
"""Ships with matplotlib, so that every machine draws the same glyphs; close to the Times of the papers."""
SANS = "DejaVu Sans"
"""Ships with matplotlib, too; in place of the Arial or Helvetica of journals and slides."""
SMALLEST = 6.0
"""No text is smaller than this, at any venue [points]."""
NARROW = 4.5
"""Below this width [inches] panels are drawn under each other: side by side their titles would not fit."""
_INCH = 25.4  # millimetres


@dataclass(frozen=True)
class Venue:
    """Widths [inches] with what they are the width of, and where that is written; `type_size` scales text only.

    `enlarged` scales everything, `words` says whether a figure as wide as the text has verdicts and notes. In a
    single column they never do: they would make it longer than the page.
    """

    name: str
    text: float
    source: str
    column: float | None = None
    font: str = SERIF
    type_size: float = 1.0
    enlarged: float = 1.0
    grid: bool = True
    words: bool = True

    @property
    def widths(self) -> dict[str, float]:
        """The widths by the ending of the file's name: none for the text, `-column` for a single column."""
        return {"": self.text} | ({"-column": self.column} if self.column else {})


@dataclass(frozen=True)
class Page:
    """A venue and the width that a figure is laid out for [inches], before it is enlarged.

    `words` says whether the figure has verdicts and notes.
    """

    venue: Venue
    width: float
    words: bool = True


VENUES = {
    venue.name: venue
    for venue in (
        Venue("iclr", 5.5, "ICLR formatting instructions: text 5.5 inches (33 picas) wide, one column"),
        Venue("neurips", 5.5, "NeurIPS formatting instructions: text 5.5 inches (33 picas) wide, one column"),
        Venue("cvpr", 6.875, "CVPR author guidelines: text 6 7/8 inches wide, columns 3 1/4 inches", column=3.25),
        Venue("icml", 6.75, "ICML formatting instructions: text 6.75 inches wide, columns 3.25 inches", column=3.25),
        Venue(
            "nature", 183 / _INCH, "Nature, guide to final artwork: 183 mm for two columns, 89 mm for one; sans serif "
            "of 5 to 7 points, no grid lines behind graphs", column=89 / _INCH, font=SANS, type_size=6 / 7, grid=False,
        ),
        Venue(
            "slides", 12.333, "a 16:9 slide of 13.333 x 7.5 inches, less half an inch on each side", font=SANS,
            type_size=6 / 7, enlarged=2.0, words=False,
        ),
    )
}  # fmt: skip
DEFAULT = VENUES["iclr"]
_PAGE: ContextVar[Page | None] = ContextVar("page", default=None)


def page() -> Page:
    """Returns the page that figures are drawn for."""
    return _PAGE.get() or Page(DEFAULT, DEFAULT.text)


@contextmanager
def on_page(venue: Venue, width: float) -> Iterator[None]:
    """Figures are drawn for a venue inside the block, `width` [inches] wide once they are enlarged."""
    token = _PAGE.set(Page(venue, width / venue.enlarged, venue.words and width == venue.text))
    try:
        yield
    finally:
        _PAGE.reset(token)


def layout_size(size: float) -> float:
    """Returns the size of text of nominally `size` points, as it is laid out."""
    scale = page().venue.type_size
    return size if scale == 1 else max(SMALLEST, size * scale)


def points(size: float) -> float:
    """Returns the size of text of nominally `size` points, as it is drawn."""
    return layout_size(size) * page().venue.enlarged


def stroke(width: float) -> float:
    """Returns a line width, marker size or distance of nominally `width` points, as it is drawn."""
    return width * page().venue.enlarged
