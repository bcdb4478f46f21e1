"""The border to W&B's own open search engine, the package `sweeps`: what to try next, and what to stop early.

It needs no account and no server: grid, random and bayes suggest, hyperband stops. Nothing that is not plain Python
comes through. A suggestion is a function of the sweep's name, the trial's number and the trials so far, so that a
search that was stopped goes on as if it had not been.
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
    """What is asked of a trial."""

    @property
    def number(self) -> int:
        """Its place among the trials, from 0."""

    @property
    def parameters(self) -> Mapping[str, Scalar]:
        """What was suggested."""

    @property
    def state(self) -> str:
        """One of `analysis.trials.STATES`."""

    @property
    def curve(self) -> Mapping[int, float]:
        """The metric by optimizer step, in the order measured."""


def engine() -> Any:
    """Returns the package `sweeps`, imported.

    Raises:
        UserError: if it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is written for an older pydantic, which is harmless
            # Here for start-up time: it loads scipy and sklearn, once in the parent and not in each child.
            import sweeps.bayes_search
    except ImportError as error:
        raise UserError(
            f"The package {error.name or 'sweeps'} is not installed, which a search needs: make setup installs it."
        ) from None
    return sweeps


def check(spec: Mapping[str, Any]) -> None:
    """Refuses a sweep that the engine could not carry out.

    Raises:
        UserError: with the engine's own words.
    """
    found = engine().schema_violations_from_proposed_config(dict(spec))
    if found:
        raise UserError(f"The sweep file is refused by W&B's own rules: {'; '.join(found)}.")
    try:
        suggest(spec, (), "check", 0)
        to_stop(spec, ())
    except ValueError as error:
        raise UserError(f"The sweep file cannot be searched: {error}.") from None


def suggest(spec: Mapping[str, Any], trials: Sequence[Tried], name: str, number: int) -> dict[str, Scalar] | None:
    """Returns the parameters of the trial with this number, None when a grid is done."""
    import numpy as np

    runs = [_run(spec, trial) for trial in trials]
    seed = int.from_bytes(hashlib.sha256(f"{name} {number}".encode()).digest()[:4], "big")
    random.seed(seed)
    np.random.seed(seed)  # the engine draws from the global generators
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = engine().next_run(dict(spec), runs)
    return None if found is None else {key: plain_value(entry["value"]) for key, entry in found.config.items()}


def to_stop(spec: Mapping[str, Any], trials: Sequence[Tried]) -> list[int]:
    """Returns the numbers of the running trials that early stopping ends now; none where the sweep has no such rule."""
    if "early_terminate" not in spec:
        return []
    found = engine().stop_runs(dict(spec), [_run(spec, trial) for trial in trials])
    return [int(run.name) for run in found]


def plain_value(value: Any) -> Scalar:
    """Returns a suggested value as plain Python: the engine's are numpy scalars, which no file takes.

    Raises:
        UserError: for a value that is no scalar, such as a list.
    """
    item = value.item() if hasattr(value, "item") else value
    if item is None or isinstance(item, str | bool | int | float):
        return item
    raise UserError(f"The sweep file has the value {value!r}: expected words, numbers, true, false or null.")


def _run(spec: Mapping[str, Any], trial: Tried) -> Any:
    """Returns a trial as the engine knows it; one that diverged or failed counts as the worst."""
    metric = str(spec.get("metric", {}).get("name", ""))
    return engine().SweepRun(
        name=str(trial.number),
        state=_STATES.get(trial.state, "failed"),
        config={key: {"value": value} for key, value in trial.parameters.items()},
        history=[{metric: value} for value in trial.curve.values()],
        summary_metrics={},
    )
