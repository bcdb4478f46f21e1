"""Carries out the runs of one command on this machine, in a pool or as one rank of several."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from vision_repro.config import RunConfig, UserError, run_id
from vision_repro.experiment import Plan
from vision_repro.files.places import cache_folder
from vision_repro.launch import pool, preflight, slurm, slurm_trial
from vision_repro.launch.progress import Progress
from vision_repro.training import device, ranks, signals
from vision_repro.training.context import RunContext


def do_runs(planned: Plan) -> tuple[int, bool]:
    """Carries out the runs that are not done; returns the exit code and whether this process writes the summary.

    The code is 99 after SIGTERM or SIGUSR1: the current runs are saved, and the same command continues them.

    Raises:
        UserError: for invalid input; either no run has started, or all are stopped.
    """
    if slurm_trial.is_asked_for():
        return slurm_trial.start(slurm_trial.this_command()), False
    if planned.launch.engine == "slurm":
        return slurm.do_runs(planned)
    with signals.listening():
        return _do_runs(planned)


def _do_runs(planned: Plan) -> tuple[int, bool]:
    chosen = _chosen(planned)
    preflight.check_data(planned)
    waiting = [run for run in chosen if not is_done(planned, run)]
    whole = not planned.launch.only
    print(_work(planned, chosen), file=sys.stderr)
    if not waiting:
        return 0, whole
    if planned.launch.num_nodes > 1 and not ranks.external_ranks():
        raise UserError(
            f"--num_nodes={planned.launch.num_nodes} needs one process a rank: start it with srun or torchrun."
        )
    pool.preload()
    accelerator = device.resolve_accelerator(planned.launch.accelerator)
    preflight.check(planned, waiting)
    preflight.prepare(planned, waiting)
    contexts = context_maker(planned, accelerator)
    if ranks.external_ranks():
        code, writes = _in_this_process(planned, waiting, contexts)
    else:
        code, writes = _in_a_pool(planned, waiting, contexts, accelerator)
    return code, writes and whole


def is_done(planned: Plan, run: RunConfig) -> bool:
    """Returns whether a run is trained and has all measurements of the plan."""
    return planned.folder(run).outcome(planned.measurements[run_id(run)]) is not None


def _chosen(planned: Plan) -> list[RunConfig]:
    """Returns the runs that `--only` names, or all runs.

    Raises:
        UserError: if it names a run that does not belong to the plan.
    """
    names = planned.launch.only.split()
    runs = {run_id(run): run for run in planned.unique}
    unknown = [name for name in names if name not in runs]
    if unknown:
        raise UserError(f"--only={planned.launch.only}: this command has no run {unknown[0]}; see {planned.store}.")
    return [run for name, run in runs.items() if name in names or not names]


def _work(planned: Plan, runs: list[RunConfig]) -> str:
    """Returns a line with the number of runs to train and of measurements to make."""
    folders = [planned.folder(run) for run in runs]
    train = sum(folder.result() is None for folder in folders)
    measure = sum(len(folder.missing(planned.measurements[folder.id])) for folder in folders)
    name = f"{planned.experiment.name}, {planned.preset_name}"
    return f"{name}: {train} of {len(runs)} runs to train, {measure} measurements"


def context_maker(planned: Plan, accelerator: str) -> Callable[..., RunContext]:
    """Returns a function that makes a run's context from its config and a function that reports its progress."""
    upstream = {run_id(run) for run in planned.upstream}
    measurements = planned.measurements

    def context(run: RunConfig, report: Callable[[dict[str, Any]], None]) -> RunContext:
        folder = planned.folder(run)
        return RunContext(
            folder=folder,
            launch=planned.launch,
            cache=cache_folder(),
            settings=planned.experiment.settings,
            accelerator=accelerator,
            report=report,
            experiment=planned.experiment.name,
            is_upstream=folder.id in upstream,
            measurements=measurements[folder.id],
        )

    return context


def _in_a_pool(
    planned: Plan, runs: list[RunConfig], contexts: Callable[..., RunContext], accelerator: str
) -> tuple[int, bool]:
    progress = Progress(planned, len(runs))
    threads = max(run.threads for run in runs)
    workers = pool.Pool(planned.launch, accelerator, contexts, progress, threads)
    try:
        failures = workers.run(runs)
    except KeyboardInterrupt:
        progress.close()
        print(
            f"Stopped: {progress.done} of {len(runs)} runs are done and kept; the same command continues.",
            file=sys.stderr,
        )
        return 130, False
    except signals.Stopped:
        progress.close()
        print(_continued(progress.done, len(runs), len(workers.stopped)), file=sys.stderr)
        return signals.CODE, False
    finally:
        progress.close()
    for failure in failures:
        log = planned.folder(failure.config).path / "log.txt"
        print(f"failed: {progress.name(failure.config)}: {failure.reason} (see {log})", file=sys.stderr)
    return (1 if failures else 0), True


def _continued(done: int, total: int, saved: int) -> str:
    words = f"{done} of {total} runs are done" + (f", {saved} saved where they were" if saved else "")
    return f"Stopped by a signal: {words}; the same command continues."


def _in_this_process(planned: Plan, runs: list[RunConfig], contexts: Callable[..., RunContext]) -> tuple[int, bool]:
    """Carries out the runs one by one as one rank of a group that torchrun or srun started."""
    import torch  # takes seconds, and the parent of a pool does not need it

    from vision_repro.training.run import execute

    for number, run in enumerate(runs):
        torch.set_num_threads(run.threads)
        try:
            execute(run, contexts(run, lambda message: None))
        except signals.Stopped:
            if ranks.this_rank() == 0:
                print(_continued(number, len(runs), 1), file=sys.stderr)
            return signals.CODE, False
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # the next run may need files that the first rank has just written
    return 0, ranks.this_rank() == 0
