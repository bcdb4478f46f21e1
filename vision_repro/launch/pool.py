"""Carries out runs on this machine in a pool of workers, forked from a parent that has imported everything.

Importing torch and lightning takes seconds; a fork takes hundredths of a second. The parent runs no threaded kernel
before it forks, because an OpenMP pool does not survive a fork. A worker ends with its run, and is killed if its parent
ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any

from vision_repro.config import Launch, RunConfig, UserError, run_id
from vision_repro.launch.worker import Rank, silent, work
from vision_repro.store.atomic import DiskFullError
from vision_repro.store.lock import Lock
from vision_repro.training import signals
from vision_repro.training.context import RunContext
from vision_repro.training.device import cores

Event = Callable[[RunConfig, dict[str, Any]], None]


def preload() -> None:
    """Imports everything a run needs, on one thread, so that forked workers start at once."""
    # Imports inside the function for start-up time: a command that trains nothing starts without them.
    import torch

    torch.set_num_threads(1)  # before the others, which may run kernels

    import lightning  # noqa: F401
    import timm  # noqa: F401
    import torch._dynamo  # the first optimizer step would import it
    import torchmetrics  # noqa: F401

    import vision_repro.training.run  # noqa: F401


def workers(launch: Launch, accelerator: str, threads: int = 1) -> int:
    """Returns the number of simultaneous runs: `--jobs`; else one per GPU, or one per `threads` cores on a CPU."""
    if launch.jobs:
        return launch.jobs
    room = cores()
    if accelerator == "gpu":
        import torch

        room = torch.cuda.device_count()
    return max(1, room // (launch.devices * (1 if accelerator == "gpu" else threads)))


@dataclass
class Job:
    """A run in progress, with one process per rank."""

    config: RunConfig
    lock: Lock
    slot: int
    ranks: list[ForkProcess] = field(default_factory=list)
    pipe: Connection | None = None
    last: dict[str, Any] = field(default_factory=dict)
    early: bool = False

    def kill(self) -> None:
        """Kills all ranks and releases the lock of the run."""
        for process in self.ranks:
            process.kill()
        for process in self.ranks:
            process.join()
        self.lock.release()


@dataclass(frozen=True)
class Failure:
    """A run that ended without a result."""

    config: RunConfig
    reason: str
    user: bool


class Pool:
    """Carries out runs, several at a time, each under its folder's lock."""

    def __init__(
        self,
        launch: Launch,
        accelerator: str,
        context: Callable[[RunConfig, Callable[..., None]], RunContext],
        event: Event,
        threads: int = 1,
    ) -> None:
        """Takes what makes a run's context, what receives its progress, and how many `threads` a run has."""
        self.launch, self.accelerator, self.context, self.event = launch, accelerator, context, event
        self.size = workers(launch, accelerator, threads)
        self.jobs: list[Job] = []
        self.failures: list[Failure] = []
        self.stopped: list[RunConfig] = []
        self._pending: set[str] = set()
        self._lost: set[str] = set()

    def run(
        self,
        configs: Sequence[RunConfig],
        more: Callable[[int], Sequence[RunConfig]] = lambda room: (),
    ) -> list[Failure]:
        """Carries out all runs, each after the runs that it needs; returns the runs that failed.

        Runs that another process has locked come last. Whenever `room` runs can start, `more(room)` is called to get
        further ones.

        Raises:
            UserError: at the first error that the user must fix, after the other workers are stopped.
            KeyboardInterrupt: after the workers are stopped.
            Stopped: if this process was asked to stop, after all workers have saved their runs and ended.
        """
        waiting = deque(configs)
        self._pending = {run_id(config) for config in configs}
        try:
            signals.on_ask(self._pass_on)
            while self._any(waiting, more) or self.jobs:
                held = self._fill(waiting)
                if signals.asked():
                    self._pass_on()  # again, for workers that were starting when the signal came
                    if not self.jobs:
                        raise signals.Stopped
                if self.jobs:
                    self._listen(timeout=1.0 if held else None)
                elif held:
                    self._await_other(held[0])
            if self.stopped:
                raise signals.Stopped
        finally:
            signals.on_ask(None)
            for job in self.jobs:
                job.kill()
        return self.failures

    def _any(self, waiting: deque[RunConfig], more: Callable[[int], Sequence[RunConfig]]) -> bool:
        """Gets further runs if there is room; returns whether runs are waiting."""
        room = self.size - len(self.jobs) - len(waiting)
        if room > 0 and not signals.asked():
            found = more(room)
            self._pending |= {run_id(config) for config in found}
            waiting.extend(found)
        return bool(waiting)

    def stop(self, run: str) -> None:
        """Asks the run with this id to save and end: other runs continue, and the event `stopped` follows."""
        for job in self.jobs:
            if run_id(job.config) == run and not job.early:
                job.early = True
                _ask(job)

    def _pass_on(self) -> None:
        """Asks all workers to save and end."""
        for job in self.jobs:
            _ask(job)

    def _fill(self, waiting: deque[RunConfig]) -> list[RunConfig]:
        """Starts runs while there is room; returns the runs that other processes have locked, if there is room left."""
        held = []
        for _ in range(len(waiting)):
            if len(self.jobs) >= self.size or signals.asked():
                return []
            config = waiting.popleft()
            context = self.context(config, silent)
            if context.folder.outcome(context.wanted) is not None:
                self._pending.discard(context.folder.id)
                self.event(config, {"kind": "done"})
                continue
            if self._lost & set(config.needs):
                self._give_up(config)
                continue
            if self._pending & set(config.needs):
                waiting.append(config)
                continue
            lock = Lock(context.folder.path)
            if lock.acquire():
                self._start(config, lock)
            else:
                held.append(config)
                waiting.append(config)
        return held

    def _lose(self, config: RunConfig) -> None:
        self._pending.discard(run_id(config))
        self._lost.add(run_id(config))

    def _give_up(self, config: RunConfig) -> None:
        """Reports a run as failed because a run that it needs has failed."""
        reason = "a run that it needs failed"
        self._lose(config)
        self.failures.append(Failure(config, reason, user=False))
        self.event(config, {"kind": "failed", "reason": reason})

    def _await_other(self, config: RunConfig) -> None:
        self.event(config, {"kind": "held"})
        lock = Lock(self.context(config, silent).folder.path)
        while not signals.asked():
            if lock.acquire():
                lock.release()
                return
            time.sleep(0.5)

    def _start(self, config: RunConfig, lock: Lock) -> None:
        used = {job.slot for job in self.jobs}
        job = Job(config, lock, next(slot for slot in range(self.size) if slot not in used))
        receive, send = multiprocessing.Pipe(duplex=False)
        fork = multiprocessing.get_context("fork")
        # What is trained already is measured by one process alone.
        devices = 1 if self.context(config, silent).folder.result() is not None else self.launch.devices
        address = _free_port() if devices > 1 else 0
        # Ctrl-C waits until all ranks are known: within a fork Python may lose it, and then no one would end them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for rank in range(devices):
                place = Rank(rank, devices, address, job.slot, self.accelerator)
                arguments = (config, self.context, lock.path.parent, place, send)
                process = fork.Process(target=work, args=arguments, daemon=False)
                process.start()
                job.ranks.append(process)
            send.close()
            job.pipe = receive
            self.jobs.append(job)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.event(config, {"kind": "start"})

    def _listen(self, timeout: float | None) -> None:
        """Waits until a worker sends a message or ends, and handles it."""
        sources: dict[Any, Job] = {job.pipe: job for job in self.jobs}
        sources |= {process.sentinel: job for job in self.jobs for process in job.ranks if process.exitcode is None}
        for source in wait(list(sources), timeout):
            job = sources[source]
            if job in self.jobs:
                self._attend(job)

    def _attend(self, job: Job) -> None:
        for message in _messages(job):
            job.last = message
            if message["kind"] == "step":
                self.event(job.config, message)
        codes = [process.exitcode for process in job.ranks]
        # A rank that stopped has saved; the other ranks of its run are about to end too.
        if any(code not in (None, 0, signals.CODE) for code in codes) or None not in codes:
            self._end(job)

    def _end(self, job: Job) -> None:
        for message in _messages(job):
            job.last = message
        job.kill()
        self.jobs.remove(job)
        kind = job.last.get("kind")
        if kind == "stopped" and job.early and not signals.asked():
            self._lose(job.config)
            self.event(job.config, job.last)
            return
        if kind == "stopped":
            self.stopped.append(job.config)
            signals.ask()
            return
        if kind == "done":
            self._pending.discard(run_id(job.config))
            self.event(job.config, job.last)
            return
        reason = str(job.last.get("reason") or f"a worker ended with code {[p.exitcode for p in job.ranks]}")
        if kind == "disk":
            raise DiskFullError(reason)
        if kind == "user":
            raise UserError(reason)
        self._lose(job.config)
        self.failures.append(Failure(job.config, reason, user=False))
        self.event(job.config, {"kind": "failed", "reason": reason})


def _ask(job: Job) -> None:
    """Asks all ranks of a run to save and end."""
    for process in job.ranks:
        if process.pid is not None and process.exitcode is None:
            os.kill(process.pid, signal.SIGUSR1)


def _messages(job: Job) -> Iterator[dict[str, Any]]:
    assert job.pipe is not None
    try:
        while job.pipe.poll():
            yield job.pipe.recv()
    except (EOFError, OSError):
        return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
