"""The interface to W&B's open-source search engine, the package `sweeps`: which trial is next, which trials to stop.

It needs no account and no server: grid, random and bayes suggest trials, hyperband stops them. All values are converted
to plain Python. A suggestion depends on the sweep's name, the trial's number and the trials so far, so that a stopped
search continues as if it had not been stopped.
"""

from __future__ import annotations

import hashlib
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vision_repro.config import Scalar, UserError

_STATES = {"running": "running", "finished": "finished", "stopped": "finished"}


class Tried(Protocol):
    """The attributes of a trial that this module reads."""

    @property
    def number(self) -> int:
        """Its place among the trials, from 0."""

    @property
    def parameters(self) -> Mapping[str, Scalar]:
        """The suggested parameters."""

    @property
    def state(self) -> str:
        """One of `analysis.trials.STATES`."""

    @property
    def curve(self) -> Mapping[int, float]:
        """The metric by optimizer step, in the order of measurement."""


def engine() -> Any:
    """Returns the package `sweeps`, imported.

    Raises:
        UserError: if it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its warnings about a newer pydantic are harmless
            # Imported here for start-up time: it loads scipy and sklearn, once in the parent and not in each child.
            import sweeps.bayes_search
    except ImportError as error:
        raise UserError(
            f"A search needs the package {error.name or 'sweeps'}, which is not installed: run make setup."
        ) from None
    return sweeps


def check(spec: Mapping[str, Any]) -> None:
    """Refuses a sweep that the engine cannot carry out.

    Raises:
        UserError: if the engine refuses it; the message has the engine's reason.
    """
    found = engine().schema_violations_from_proposed_config(dict(spec))
    if found:
        raise UserError(f"The sweep file violates W&B's rules: {'; '.join(found)}.")
    try:
        suggest(spec, (), "check", 0)
        to_stop(spec, ())
    except ValueError as error:
        raise UserError(f"The sweep file cannot be searched: {error}.") from None


def suggest(spec: Mapping[str, Any], trials: Sequence[Tried], name: str, number: int) -> dict[str, Scalar] | None:
    """Returns the parameters of the trial with this number, or None if a grid has no more trials."""
    # Imported here for start-up time: numpy takes long to import.
    import numpy as np

    runs = [_run(spec, trial) for trial in trials]
    seed = int.from_bytes(hashlib.sha256(f"{name} {number}".encode()).digest()[:4], "big")
    random.seed(seed)
    np.random.seed(seed)  # the engine uses the global generators
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = engine().next_run(dict(spec), runs)
    return None if found is None else {key: plain_value(entry["value"]) for key, entry in found.config.items()}


def to_stop(spec: Mapping[str, Any], trials: Sequence[Tried]) -> list[int]:
    """Returns the numbers of the running trials that early stopping ends now; none if the sweep does not use it."""
    if "early_terminate" not in spec:
        return []
    found = engine().stop_runs(dict(spec), [_run(spec, trial) for trial in trials])
    return [int(run.name) for run in found]


def plain_value(value: Any) -> Scalar:
    """Returns a suggested value as plain Python; the engine's numpy scalars cannot be written to YAML or JSON.

    Raises:
        UserError: for a value that is not a scalar, such as a list.
    """
    item = value.item() if hasattr(value, "item") else value
    if item is None or isinstance(item, str | bool | int | float):
        return item
    raise UserError(f"The sweep file has the value {value!r}: expected words, numbers, true, false or null.")


def _run(spec: Mapping[str, Any], trial: Tried) -> Any:
    """Returns a trial in the engine's format; a trial that diverged or failed counts as the worst."""
    metric = str(spec.get("metric", {}).get("name", ""))
    return engine().SweepRun(
        name=str(trial.number),
        state=_STATES.get(trial.state, "failed"),
        config={key: {"value": value} for key, value in trial.parameters.items()},
        history=[{metric: value} for value in trial.curve.values()],
        summary_metrics={},
    )
