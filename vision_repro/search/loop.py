"""Searches hyper-parameters on this machine: suggests trials, carries out several at a time, and stops bad ones early.

Every trial is one run of the experiment, with the same id and folder as with `wandb agent` and the same parameters. All
suggestions, measurements and stops are written to `search.json` at each event. So a search that was killed continues
the trials in progress, and then makes the same suggestions as without the interruption. A trial that was stopped early
keeps its run folder; the command of the experiment continues the run from its last checkpoint.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vision_repro.config import RunConfig, Scalar, UserError, run_id
from vision_repro.experiment import Plan
from vision_repro.launch import pool, preflight, session
from vision_repro.launch.progress import Progress
from vision_repro.search import suggest
from vision_repro.search.journal import JOURNAL, Attempt, Journal
from vision_repro.store.lock import Lock
from vision_repro.store.runs import RunFolder
from vision_repro.training import device, ranks, signals


@dataclass(frozen=True)
class Space:
    """A search space: W&B's specification, the number of trials, and a function from parameters to a trial's plan."""

    name: str
    spec: Mapping[str, Any]
    trials: int
    planned: Callable[[Mapping[str, Scalar]], Plan]

    @property
    def metric(self) -> str:
        """Name of the metric that ranks the trials."""
        return str(self.spec["metric"]["name"])

    @property
    def goal(self) -> str:
        """`maximize` or `minimize`."""
        return str(self.spec["metric"].get("goal", "minimize"))

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of the parameters that are not constant."""
        return tuple(name for name, entry in self.spec["parameters"].items() if "value" not in entry)


def one_run(planned: Plan) -> RunConfig:
    """Returns the only run of a trial.

    Raises:
        UserError: if an axis of the preset has several values and the sweep file does not set it.
    """
    if len(planned.runs) != 1:
        open_axes = [name for name, values in planned.preset.axes.items() if len(values) > 1]
        open_axes += ["seed"] if planned.preset.seeds > 1 and "seed" not in planned.preset.axes else []
        raise UserError(
            f"A trial of a search is one run, not {len(planned.runs)}: set {', '.join(open_axes)} in the sweep file."
        )
    return planned.runs[0]


class Search:
    """Gives trials to the pool and handles their progress."""

    def __init__(self, space: Space, first: Plan, journal: Journal) -> None:
        self.space, self.first, self.journal = space, first, journal
        self.accelerator = device.resolve_accelerator(first.launch.accelerator)
        self.contexts: dict[str, Callable[..., Any]] = {}
        self.pool = pool.Pool(first.launch, self.accelerator, self._context, self._event)
        shown = replace(first, experiment=replace(first.experiment, settings=space.searched))
        self.progress = Progress(shown, space.trials)
        self._again = [
            item for item in self.attempts if not self._settled(item) and item.state in ("running", "failed")
        ]
        self.progress.done = sum(item.state != "running" for item in self.attempts if item not in self._again)
        self.progress.bar.update(self.progress.done)
        self._read: set[tuple[Any, ...]] = set()

    @property
    def attempts(self) -> list[Attempt]:
        """All trials so far."""
        return self.journal.attempts

    def carry_out(self) -> int:
        """Carries out the search; returns the exit code (1 if trials failed)."""
        code = 0
        try:
            with signals.listening():
                self.pool.run((), self._more)
                code = signals.CODE if signals.asked() else 0
        except KeyboardInterrupt:
            code = 130
        except signals.Stopped:
            code = signals.CODE
        finally:
            self.progress.close()
        if code:
            done = f"{self.progress.done} of {self.space.trials} trials are done and kept"
            print(f"Stopped: {done}; the same command continues.", file=sys.stderr)
        return code or int(any(item.state == "failed" for item in self.attempts))

    def _settled(self, item: Attempt) -> bool:
        """Copies the result of a run that is done into its trial; returns whether there is one."""
        result = self._folder(item).outcome()
        if result is not None:
            item.state = "finished" if result["status"] == "ok" else "diverged"
            item.value = (result["metrics"].get(self.space.metric) or {}).get("value")
        return result is not None

    def _folder(self, item: Attempt) -> RunFolder:
        return self.first.folder(one_run(self.space.planned(item.parameters)))

    def _more(self, room: int) -> Sequence[RunConfig]:
        """Returns the runs of the next `room` trials and the runs that they need; none after the last trial."""
        chosen: list[RunConfig] = []
        while room > 0:
            item = self._again.pop(0) if self._again else self._next()
            if item is None:
                break
            item.state = "running"
            twin = next((other for other in self.attempts if other.run == item.run and other is not item), None)
            if self._settled(item):
                self._count(item)
            elif twin is None or twin.state != "running":
                chosen += self._prepared(item)
                room -= 1
            self.journal.write()
        return chosen

    def _next(self) -> Attempt | None:
        """Returns a new trial, or None if there are no more."""
        number = len(self.attempts)
        if number >= self.space.trials:
            return None
        space = self.space
        # In a child: fitting a Gaussian process starts threads, and this process must have none when it forks.
        found = preflight.in_child(lambda: suggest.suggest(space.spec, self.attempts, space.name, number))
        if found is None:
            return None
        self.attempts.append(Attempt(number, found, run_id(one_run(space.planned(found)))))
        return self.attempts[-1]

    def _prepared(self, item: Attempt) -> list[RunConfig]:
        """Checks the runs of a trial that are not done, reads their data, and returns these runs."""
        planned = self.space.planned(item.parameters)
        waiting = [run for run in planned.unique if not session.is_done(planned, run)]
        preflight.check(planned, waiting)
        fresh = [run for run in waiting if (run.dataset, run.image_size, run.seed) not in self._read]
        preflight.prepare(planned, fresh)
        self._read |= {(run.dataset, run.image_size, run.seed) for run in fresh}
        contexts = session.context_maker(planned, self.accelerator)
        self.contexts |= {run_id(run): contexts for run in waiting}
        return waiting

    def _context(self, run: RunConfig, report: Callable[..., None]) -> Any:
        return self.contexts[run_id(run)](run, report)

    def _event(self, run: RunConfig, message: dict[str, Any]) -> None:
        """Handles a message of a run: records its metric or its end, and stops trials that early stopping selects."""
        kind = message["kind"]
        found = [item for item in self.attempts if item.run == run_id(run) and item.state == "running"]
        for item in found:
            if kind == "step":
                self._measured(item, message)
            elif kind in ("stopped", "failed"):
                item.state = kind
            if kind in ("stopped", "failed", "done"):
                self._settled(item)
                self._count(item, message)
        if found and kind != "start":
            self.journal.write()
        if kind in ("step", "held"):
            self.progress(run, message)

    def _measured(self, item: Attempt, message: Mapping[str, Any]) -> None:
        value = message["values"].get(self.space.metric)
        if value is None:
            raise UserError(
                f'The metric "{self.space.metric}" is not measured on val: expected one of '
                f"{', '.join(message['values'])}."
            )
        if math.isfinite(value):
            item.curve[int(message["step"])] = float(value)
        if message["step"] >= message["steps"]:
            return
        for number in suggest.to_stop(self.space.spec, self.attempts):
            self.pool.stop(self.attempts[number].run)

    def _count(self, item: Attempt, message: Mapping[str, Any] | None = None) -> None:
        trial = item.trial(self.space.searched, self.space.goal)
        value = "" if trial.value is None else f", {self.space.metric.replace('_', ' ')} {trial.value:.3f}"
        reason = f": {message['reason']}" if message and "reason" in message else ""
        self.progress.ended(
            f"trial {item.number}",
            f"{item.state}{value} ({_words(trial.parameters)}){reason}",
            loud=item.state in ("failed", "diverged"),
        )


def _words(parameters: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in parameters.items()
    )


def search(space: Space) -> tuple[int, Plan, list[Attempt]]:
    """Starts or continues a search; returns the exit code, the plan of its first trial and all trials.

    Raises:
        UserError: for a sweep file that cannot be searched, or if another process carries out the search.
    """
    suggest.check(space.spec)
    first = space.planned(suggest.suggest(space.spec, (), space.name, 0) or {})
    one_run(first)
    if first.launch.engine != "local" or first.launch.num_nodes > 1 or ranks.external_ranks():
        raise UserError(
            "A search carries out its trials on one machine: leave out --engine, --num_nodes, torchrun and srun; on a "
            "cluster, start wandb agent from a job script."
        )
    folder = first.root / space.name
    lock = Lock(folder)
    if not lock.acquire():
        raise UserError(f'Another process carries out the search in "{folder}": wait for it, or set another --out.')
    try:
        journal = Journal(folder / JOURNAL, space.spec)
        pool.preload()
        code = Search(space, first, journal).carry_out()
    finally:
        lock.release()
    return code, first, journal.attempts
