"""Compares our numbers with the published ones: ratio, band, verdict, explanation. Imports no torch.

A number outside its band is `explained` if the table gives a reason for the difference, else `outside`. The command of
the tables returns 1 if a number is `outside`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from vision_repro.accounting.markdown import markdown_table

COLUMNS = ("table", "subject", "quantity", "unit", "ours", "published", "ratio", "band", "verdict", "note", "source")


@dataclass(frozen=True)
class Band:
    """Allowed distance from the published number: a fraction of it, half a unit of its last digit, or the larger."""

    relative: float = 0.0
    rounding: bool = False

    def __str__(self) -> str:
        words = [f"{100 * self.relative:g} %"] if self.relative else []
        words += ["rounding"] if self.rounding else []
        return " or ".join(words) or "exact"

    def holds(self, ours: float, published: str) -> bool:
        """Returns whether `ours` is inside the band around the printed number."""
        value = float(published)
        half = 0.5 * 10.0 ** int(Decimal(published).as_tuple().exponent) if self.rounding else 0.0
        return abs(ours - value) <= max(self.relative * abs(value), half) * (1 + 1e-9)


EXACT, ROUNDING = Band(), Band(rounding=True)


@dataclass(frozen=True)
class Check:
    """One of our numbers and the published one, which keeps its printed digits."""

    subject: str
    quantity: str
    unit: str
    ours: float
    published: str
    band: Band
    source: str
    note: str = ""
    explanation: str = ""
    """Reason for a number that is expected to be outside the band."""

    @property
    def ratio(self) -> float | None:
        """Our number over the published one, or None if that is 0."""
        return self.ours / float(self.published) if float(self.published) else None

    @property
    def verdict(self) -> str:
        """`inside`, `explained` (outside the band, with a reason) or `outside`."""
        if self.band.holds(self.ours, self.published):
            return "inside"
        return "explained" if self.explanation else "outside"

    @property
    def full_note(self) -> str:
        """The explanation, if the number is outside the band, and the note."""
        return "; ".join(filter(None, (self.explanation if self.verdict == "explained" else "", self.note)))


@dataclass(frozen=True)
class Table:
    """Checks under one heading; a `wide` table has one line for each subject, any other one line for each check."""

    name: str
    title: str
    text: str
    checks: tuple[Check, ...]
    wide: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError if a subject has a quantity twice; a wide table would show only one of them."""
        keys = [(check.subject, check.quantity) for check in self.checks]
        twice = [key for key in dict.fromkeys(keys) if keys.count(key) > 1]
        if twice:
            raise ValueError(f"{self.name} has {twice} twice")

    def count(self, verdict: str) -> int:
        """Returns the number of checks with this verdict."""
        return sum(check.verdict == verdict for check in self.checks)


def format_number(value: float) -> str:
    """Returns an integer with thousands separators, any other number with at least five significant digits."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.5g}"


def _ratio(check: Check, digits: int) -> str:
    return "" if check.ratio is None else f"{check.ratio:.{digits}f}"


def to_csv(tables: Sequence[Table]) -> str:
    """Returns all checks as CSV, one line each; `ours` has 12 significant digits."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(COLUMNS)
    for table in tables:
        for check in table.checks:
            start = (table.name, check.subject, check.quantity, check.unit, f"{check.ours:.12g}", check.published)
            end = (_ratio(check, 6), str(check.band), check.verdict, check.full_note, check.source)
            lines.writerow((*start, *end))
    return out.getvalue()


def to_markdown(table: Table) -> str:
    """Returns a table as Markdown: title, text, numbers, and the number of checks by verdict."""
    body = _wide(table.checks) if table.wide else _long(table.checks)
    tally = f"{table.count('inside')} of {len(table.checks)} inside their band, {table.count('explained')} explained"
    tally += f", {table.count('outside')} outside without an explanation." if table.count("outside") else "."
    sources = "; ".join(dict.fromkeys(check.source for check in table.checks))
    return f"# {table.title}\n\n{table.text}\n\n{body}\n\n{tally}\n\nSources: {sources}.\n"


def _long(checks: Sequence[Check]) -> str:
    columns: list[tuple[str, str, Callable[[Check], str]]] = [
        ("", "---", lambda check: check.subject),
        ("quantity", "---", _quantity),
        ("ours", "---:", lambda check: format_number(check.ours)),
        ("published", "---:", lambda check: check.published),
        ("ratio", "---:", lambda check: _ratio(check, 4)),
        ("band", "---", lambda check: str(check.band)),
        ("verdict", "---", _verdict),
        ("note", "---", lambda check: check.full_note),
    ]
    rows = [[show(check) for _, _, show in columns] for check in checks]
    return markdown_table([name for name, _, _ in columns], [line for _, line, _ in columns], rows)


def _wide(checks: Sequence[Check]) -> str:
    """Returns one line for each subject: our number, the published one and the ratio of each quantity.

    `!` marks a number outside its band. A quantity that must be equal has no column for its ratio.
    """
    quantities = list(dict.fromkeys(_quantity(check) for check in checks))
    equal = {name for name in quantities if all(check.band == EXACT for check in checks if _quantity(check) == name)}
    head = [word for name in quantities for word in (name, "published", "ratio")[: 2 if name in equal else 3]]
    rows = []
    for subject in dict.fromkeys(check.subject for check in checks):
        by_quantity = {_quantity(check): check for check in checks if check.subject == subject}
        cells = [subject]
        for name in quantities:
            check = by_quantity.get(name)
            shown = [format_number(check.ours), _marked(check), _ratio(check, 4)] if check else [""] * 3
            cells += shown[: 2 if name in equal else 3]
        notes = dict.fromkeys(filter(None, (check.full_note for check in by_quantity.values())))
        rows.append([*cells, "; ".join(notes)])
    align = ["---", *["---:"] * len(head), "---"]
    bands = f"Bands: {_bands(checks)}. `!` marks a number outside."
    return f"{markdown_table(['', *head, 'note'], align, rows)}\n\n{bands}"


def _quantity(check: Check) -> str:
    return f"{check.quantity} [{check.unit}]" if check.unit else check.quantity


def _bands(checks: Sequence[Check]) -> str:
    """Returns the bands of each quantity, such as `parameters exact; forward 1 % or rounding`."""
    found: dict[str, dict[str, None]] = {}
    for check in checks:
        found.setdefault(check.quantity, {})[str(check.band)] = None
    return "; ".join(f"{quantity} {' / '.join(bands)}" for quantity, bands in found.items())


def _marked(check: Check) -> str:
    return check.published + (" !" if check.verdict != "inside" else "")


def _verdict(check: Check) -> str:
    return check.verdict if check.verdict != "outside" else "**outside**"
