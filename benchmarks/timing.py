"""Measuring two or more ways in turns, and the table of what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True)
class Row:
    """One measured number: the median of the rounds, their quartiles, and what was hoped for (`>= 3` or `<= 0.3`)."""

    what: str
    values: tuple[float, ...]
    unit: str = "x"
    goal: str = ""

    @property
    def value(self) -> float:
        """The median over the rounds."""
        return median(self.values)

    @property
    def met(self) -> bool:
        """Whether the median reaches the goal."""
        sign, bound = self.goal.split()
        return self.value >= float(bound) if sign == ">=" else self.value <= float(bound)

    def cells(self) -> tuple[str, str, str, str]:
        """Returns the row's four columns: what, measured, quartiles, goal and whether it is met."""
        low, _, high = quantiles(self.values, n=4, method="inclusive") if len(self.values) > 1 else self.values * 3
        goal = f"{self.goal} ({'met' if self.met else 'not met'})" if self.goal else ""
        return self.what, f"{self.value:.3g} {self.unit}", f"{low:.3g} to {high:.3g}", goal


def in_turns(ways: Sequence[Callable[[], float]], rounds: int, warm_up: int = 1) -> list[tuple[float, ...]]:
    """Returns, for each way, what it measured in each round; the ways take turns (A B A B), so that both see the
    same machine. The first `warm_up` rounds are dropped.
    """
    measured = [tuple(way() for way in ways) for _ in range(warm_up + rounds)][warm_up:]
    return list(zip(*measured, strict=True))


def ratios(above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """Returns the ratio of each round."""
    return tuple(a / b for a, b in zip(above, below, strict=True))


def differences(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
    """Returns the difference of each round."""
    return tuple(a - b for a, b in zip(first, second, strict=True))


def best(ways: Sequence[Sequence[float]]) -> Sequence[float]:
    """Returns the measurements of the way with the highest median."""
    return max(ways, key=median)


def show(title: str, rows: Sequence[Row]) -> None:
    """Prints a Markdown table."""
    print(f"\n## {title}\n\n| | median | quartiles | goal |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row.cells()) + " |")
    print(flush=True)


def value(options: Sequence[str], name: str) -> str:
    """Returns what `--name=` gives, or the empty string."""
    given = [item.partition("=")[2] for item in options if item.startswith(f"--{name}=")]
    return given[-1] if given else ""
