"""The trials of a search: what was tried, how it ended, and what it reached on `val`; as CSV, one trial a row.

Columns: trial, run, state, step, <searched parameters>, <metric>. Accuracies are fractions.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_repro.analysis.table import Level, order, parse_level
from vision_repro.config import UserError

STATES = ("running", "finished", "stopped", "diverged", "failed")
"""How a trial stands: under way, or ended by itself, by early stopping, by a loss that is not finite, by an error."""
_BEFORE = ("trial", "run", "state", "step")


@dataclass(frozen=True)
class Trial:
    """One trial: the id of its run, the searched parameters, the last step measured and the best value up to it."""

    number: int
    run: str
    state: str
    step: int
    parameters: Mapping[str, Level]
    value: float | None

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come of it."""
        return self.state != "running"


def best_trial(trials: Sequence[Trial], goal: str) -> Trial | None:
    """Returns the finished trial with the best value, the first of equals; None if there is none."""
    finished = [trial for trial in trials if trial.state == "finished" and trial.value is not None]
    sign = 1.0 if goal == "maximize" else -1.0
    return max(finished, key=lambda trial: sign * (trial.value or 0.0), default=None)


def levels(trials: Sequence[Trial], name: str) -> list[Level]:
    """Returns the distinct values of a parameter: numbers ascending, then words in order."""
    return sorted({trial.parameters[name] for trial in trials}, key=order)


def trials_to_csv(trials: Sequence[Trial], metric: str) -> str:
    """Returns CSV text, a line a trial; a trial without a value has an empty cell."""
    names = list(trials[0].parameters) if trials else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_BEFORE, *names, metric])
    for trial in trials:
        value = "" if trial.value is None else repr(float(trial.value))
        entries = [trial.parameters[name] for name in names]
        writer.writerow([trial.number, trial.run, trial.state, trial.step, *entries, value])
    return text.getvalue()


def read_trials(path: Path) -> tuple[list[Trial], str]:
    """Returns the trials in a CSV file, and the name of their metric.

    Raises:
        UserError: naming the file and what was expected.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            head, *lines = list(csv.reader(file))
        names, metric = head[len(_BEFORE) : -1], head[-1]
        if tuple(head[: len(_BEFORE)]) != _BEFORE:
            raise ValueError
        return [_trial(cells, names) for cells in lines], metric
    except OSError as error:
        raise UserError(f'"{path}" cannot be read ({error.strerror}): expected the trials.csv of a sweep.') from None
    except (ValueError, UnicodeDecodeError, csv.Error):
        expected = ",".join(_BEFORE)
        raise UserError(f'"{path}" is no table of trials: expected {expected},<parameters>,<metric>.') from None


def _trial(cells: Sequence[str], names: Sequence[str]) -> Trial:
    number, run, state, step, *entries, value = cells
    if state not in STATES:
        raise ValueError(state)
    parameters = {name: parse_level(text) for name, text in zip(names, entries, strict=True)}
    return Trial(int(number), run, state, int(step), parameters, float(value) if value else None)
