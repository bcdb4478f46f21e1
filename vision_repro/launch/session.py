"""One command's runs on this machine: checked before the first starts, shown while they go, continued if stopped."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from vision_repro.config import FRESH, RunConfig, UserError
from vision_repro.files.places import cache_folder
from vision_repro.launch import pool, slurm_trial
from vision_repro.training import device, ranks, signals

if TYPE_CHECKING:
    from vision_repro.experiment import Plan


def do_runs(planned: Plan) -> tuple[int, bool]:
    """Carries out the runs that are not done; returns the exit code and whether this process writes the summary.

    The code is 99 when SIGTERM or SIGUSR1 came: what was going on is saved, and the same command continues.

    Raises:
        UserError: for input that cannot be; no run has started then, or all were stopped.
    """
    if slurm_trial.is_asked_for():
        return slurm_trial.start(slurm_trial.this_command()), False
    if planned.launch.engine == "slurm":
        from vision_repro.launch import slurm

        return slurm.do_runs(planned)
    with signals.listening():
        return _do_runs(planned)


def _do_runs(planned: Plan) -> tuple[int, bool]:
    waiting = [run for run in _chosen(planned) if planned.folder(run).result() is None]
    whole = not planned.launch.only
    if not waiting:
        return 0, whole
    if not planned.launch.dry_run and planned.launch.num_nodes > 1 and not ranks.external_ranks():
        raise UserError(
            f"--num_nodes={planned.launch.num_nodes} needs one process a rank: start it with srun or torchrun."
        )
    if sys.stderr.isatty() or len(planned.all) > 1:
        print(
            f"{planned.experiment.name}, {planned.preset_name}: {len(waiting)} of {len(planned.all)} runs to do",
            file=sys.stderr,
        )
    pool.preload()
    accelerator = device.resolve_accelerator(planned.launch.accelerator)
    check(planned, waiting)
    prepare(planned, waiting)
    places = context_maker(planned, waiting, accelerator)
    if ranks.external_ranks():
        code, writes = _in_this_process(planned, waiting, places)
    else:
        code, writes = _in_a_pool(planned, waiting, places, accelerator)
    return code, writes and whole


def _chosen(planned: Plan) -> list[RunConfig]:
    """Returns the runs that `--only` names, or all.

    Raises:
        UserError: if it names one that the experiment has not.
    """
    names = planned.launch.only.split()
    runs = {planned.folder(run).id: run for run in planned.all}
    unknown = [name for name in names if name not in runs]
    if unknown:
        raise UserError(f"--only={planned.launch.only}: this command has no run {unknown[0]}; see {planned.root}/runs.")
    return [run for name, run in runs.items() if name in names or not names]


def check(planned: Plan, runs: list[RunConfig]) -> None:
    """Refuses, before anything is written, what any of the runs would refuse.

    Raises:
        UserError: naming the option that cannot be.
    """
    import torch

    from vision_repro import data, models
    from vision_repro.augmentation.normalisation import default_for
    from vision_repro.models import weights
    from vision_repro.probes import named
    from vision_repro.training.run import check_division

    for run in runs:
        data.check(run.dataset, image_size=run.image_size, train_size=run.train_size, augmentation=run.augmentation)
        check_division(run, planned.launch)
    for model in {run.model for run in runs if run.normalisation == "model"}:
        default_for(model)
    given = [run for run in runs if run.weights not in ("", FRESH) and not run.weights_run]
    for model, source in {(run.model, run.weights) for run in given}:
        weights.fetch(model, source)
    with torch.device("meta"):
        for model, image_size, probes in {(run.model, run.image_size, run.probe_names) for run in runs}:
            named.check(probes, models.build(model, image_size=image_size, classes=10), image_size)


def prepare(planned: Plan, runs: list[RunConfig]) -> None:
    """Fetches and reads each data set once, in a child: a download or a broken file comes before the first run."""
    for dataset, image_size in sorted({(run.dataset, run.image_size) for run in runs}):
        chosen = [run for run in runs if run.dataset == dataset and run.image_size == image_size]
        in_child(partial(_write_subsets, planned, chosen))


def _write_subsets(planned: Plan, runs: list[RunConfig]) -> None:
    from vision_repro import datasets
    from vision_repro.datasets.fetch import fetch
    from vision_repro.files import subset

    root = Path(planned.launch.data_root) if planned.launch.data_root else None
    first = runs[0]
    if datasets.is_streamed(first.dataset):
        fetch(first.dataset, root, cache_folder(), partial(print, file=sys.stderr))
        return
    splits = datasets.load(first.dataset, root, cache_folder())
    for seed in sorted({run.seed for run in runs}):
        subset.save(planned.root / "subsets", first.dataset, seed, splits.train.labels)


def in_child(work: Callable[[], Any]) -> Any:
    """Returns `work()` as done by a forked child, so that this process stays free of threads."""
    receive, send = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        try:
            send.send((True, work()))
        except Exception as error:
            send.send((False, error if isinstance(error, UserError) else RuntimeError(repr(error))))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    send.close()
    try:
        done, value = receive.recv()
    except EOFError:
        done, value = False, RuntimeError("a helper process ended without an answer")
    process.join()
    if not done:
        raise value
    return value


def _precision(planned: Plan, run: RunConfig, accelerator: str) -> tuple[str, str]:
    if run.precision != "auto":
        return run.precision, "asked for"
    if accelerator == "gpu":
        import torch

        bf16 = torch.cuda.is_bf16_supported()
        return ("bf16", "the GPU has bf16") if bf16 else ("fp32", "the GPU has no bf16")
    book = device.PrecisionBook(planned.root / "precision.json")
    key = device.precision_key(run.model, run.image_size)
    entry = book.read().get(key)
    if entry is None:
        able = device.cpu_has_bf16()
        ratio = in_child(lambda: device.time_bf16(run.model, run.image_size, 10)) if able else None
        entry = book.add(key, device.choose(key, ratio))
    return str(entry["precision"]), str(entry["why"])


def context_maker(planned: Plan, runs: list[RunConfig], accelerator: str) -> Callable[..., Any]:
    """Returns what makes a run's `RunContext`; the arithmetic of every model is settled before the first run."""
    from vision_repro.training.recorder import RunContext

    chosen = {(run.model, run.image_size, run.precision): run for run in runs}
    settled = {key: _precision(planned, run, accelerator) for key, run in chosen.items()}
    upstream = set(planned.upstream)

    def place(run: RunConfig, report: Callable[[dict[str, Any]], None]) -> RunContext:
        precision, why = settled[run.model, run.image_size, run.precision]
        return RunContext(
            folder=planned.folder(run),
            launch=planned.launch,
            cache=cache_folder(),
            settings=planned.experiment.settings,
            precision=precision,
            why_precision=why,
            accelerator=accelerator,
            report=report,
            is_upstream=run in upstream,
        )

    return place


class Progress:
    """One bar over all runs with the time left; plain lines where nobody watches a terminal."""

    def __init__(self, planned: Plan, total: int) -> None:
        self.settings = planned.experiment.settings
        self.done, self.total, self.start = 0, total, time.monotonic()
        tqdm.monitor_interval = 0  # its thread would make forking unsafe
        self.bar = tqdm(total=total, unit="run", disable=not sys.stderr.isatty(), dynamic_ncols=True)

    def name(self, run: RunConfig) -> str:
        """Returns the setting and seed of a run."""
        first = f"{run.objective}, " if run.objective != "supervised" else ""
        return first + ", ".join(f"{name}={getattr(run, name)}" for name in (*self.settings, "seed"))

    def __call__(self, run: RunConfig, message: dict[str, Any]) -> None:
        """Shows one message of a worker."""
        kind = message["kind"]
        if kind == "step":
            values = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in message["values"].items())
            self.bar.set_postfix_str(f"{self.name(run)}: epoch {message['epoch']:.1f}, {values}")
        elif kind == "held":
            self.bar.write(f"{self.name(run)}: another process has this run; waiting for it.", file=sys.stderr)
        elif kind in ("done", "failed"):
            loud = kind == "failed" or message.get("result", {}).get("status") == "diverged"
            self.ended(self.name(run), _outcome(message), loud=loud)

    def ended(self, name: str, text: str, *, loud: bool) -> None:
        """Counts a run that ended, and says so where there is no bar or it is worth a line."""
        self.done += 1
        self.bar.update()
        if self.bar.disable or loud:
            left = (time.monotonic() - self.start) / self.done * (self.total - self.done)
            tqdm.write(f"[{self.done}/{self.total}] {name}: {text} ({left:.0f} s left)", file=sys.stderr)

    def close(self) -> None:
        """Ends the bar."""
        self.bar.close()


def _outcome(message: dict[str, Any]) -> str:
    """Returns the main number of a run that ended, or why it has none."""
    result = message.get("result", {})
    metrics = {name: cell["value"] for name, cell in result.get("metrics", {}).items()}
    shown = [name for name in ("test_accuracy", "val_loss", *metrics) if metrics.get(name) is not None][:1]
    text = message.get("reason") or ", ".join(f"{name.replace('_', ' ')} {metrics[name]:.3f}" for name in shown)
    return str(text or result.get("status", "done elsewhere"))


def _in_a_pool(planned: Plan, runs: list[RunConfig], places: Callable[..., Any], accelerator: str) -> tuple[int, bool]:
    progress = Progress(planned, len(runs))
    workers = pool.Pool(planned.launch, accelerator, places, progress)
    try:
        failures = workers.run(runs, planned.folder)
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


def _in_this_process(planned: Plan, runs: list[RunConfig], places: Callable[..., Any]) -> tuple[int, bool]:
    """Carries out the runs one by one as one rank of a group that torchrun or srun started."""
    from torch import distributed

    from vision_repro.training.ranks import this_rank
    from vision_repro.training.run import execute

    for number, run in enumerate(runs):
        try:
            execute(run, places(run, lambda message: None))
        except signals.Stopped:
            if this_rank() == 0:
                print(_continued(number, len(runs), 1), file=sys.stderr)
            return signals.CODE, False
        if distributed.is_initialized():
            distributed.barrier()  # the next run may need what the first rank has just written
    return 0, this_rank() == 0
