"""The journal of a search: one file with all suggestions, measurements and stops, written again at each event."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vision_repro.analysis.trials import Trial
from vision_repro.config import Scalar, UserError
from vision_repro.store.atomic import write_atomic

JOURNAL = "search.json"


@dataclass
class Attempt:
    """A trial: `curve` is the metric by optimizer step so far; `value` is the final metric when the run has ended."""

    number: int
    parameters: dict[str, Scalar]
    run: str
    state: str = "running"
    curve: dict[int, float] = field(default_factory=dict)
    value: float | None = None

    def trial(self, names: Sequence[str], goal: str) -> Trial:
        """Returns the trial as a row of the table; without a final value, the best value so far is used."""
        best = (max if goal == "maximize" else min)(self.curve.values(), default=None)
        value = self.value if self.value is not None else best
        shown = {name: "" if self.parameters[name] is None else self.parameters[name] for name in names}
        return Trial(self.number, self.run, self.state, max(self.curve, default=0), shown, value)  # type: ignore[arg-type]


class Journal:
    """The trials of a search in one file, which is written again at every change."""

    def __init__(self, file: Path, spec: Mapping[str, Any]) -> None:
        """Reads the trials from the file, if it exists.

        Raises:
            UserError: if the file belongs to another search, or cannot be read.
        """
        self.file, self.attempts = file, list[Attempt]()
        self._space = json.loads(json.dumps({key: spec.get(key) for key in ("method", "metric", "parameters")}))
        try:
            found = json.loads(file.read_text())
            if found["space"] != self._space:
                raise UserError(
                    f'"{file}" belongs to a search with other parameters: move its folder away, or copy the sweep '
                    "file to another name."
                )
            self.attempts = [_attempt(entry) for entry in found["trials"]]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f'"{file}" is not the journal of a search: delete it to start again.') from None

    def write(self) -> None:
        """Writes the trials."""
        text = json.dumps({"space": self._space, "trials": [asdict(item) for item in self.attempts]}, indent=1)
        write_atomic(self.file, text + "\n")


def _attempt(entry: Mapping[str, Any]) -> Attempt:
    curve = {int(step): float(value) for step, value in entry["curve"].items()}
    return Attempt(**{**entry, "curve": curve})
