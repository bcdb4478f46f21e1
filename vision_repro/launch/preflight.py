"""Checks runs and reads data before the first run of a command starts."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vision_repro.config import FRESH, RunConfig, UserError, run_id
from vision_repro.experiment import Plan
from vision_repro.files.places import cache_folder
from vision_repro.store import dependencies
from vision_repro.store.measurements import ACCURACY, FEW_SHOT


def check(planned: Plan, runs: list[RunConfig]) -> None:
    """Raises, before anything is written, the errors that any of the runs would raise.

    Raises:
        UserError: if an option has an invalid value; the message names it.
    """
    import torch  # with lightning and timm it takes seconds, which a command without runs does not need

    from vision_repro import data, models
    from vision_repro.augmentation.normalisation import default_for
    from vision_repro.data.config import DataConfig
    from vision_repro.models import weights
    from vision_repro.probes import dispatch
    from vision_repro.training.assemble import check_division

    for run in runs:
        data.check(DataConfig.of(run, planned.launch, cache_folder()))
        check_division(run, planned.launch)
    for model in {run.model for run in runs if run.normalisation == "model"}:
        default_for(model)
    given = [run for run in runs if run.weights not in ("", FRESH) and not run.weights_run]
    for model, source in {(run.model, run.weights) for run in given}:
        weights.fetch(model, source)
    probes = {(run.model, run.image_size, _probes(planned, run)) for run in runs}
    with torch.device("meta"):
        for model, image_size, names in probes:
            dispatch.check(names, models.build(model, image_size=image_size, classes=10), image_size)


def _probes(planned: Plan, run: RunConfig) -> tuple[str, ...]:
    names = (item.name for item in planned.measurements[run_id(run)])
    return tuple(name for name in names if name not in (ACCURACY, FEW_SHOT))


def check_data(planned: Plan) -> None:
    """Checks that finished runs were trained on the data sets that now have the same names.

    If the data are not on this machine, for example with results copied from another one, it prints this and continues.

    Raises:
        UserError: if other data now have the same name; the message has both fingerprints.
    """
    done = [planned.folder(run) for run in planned.unique]
    done = [folder for folder in done if folder.result() is not None]
    for dataset in sorted({folder.config.dataset for folder in done}):
        try:
            now = in_child(partial(_fingerprint, planned, dataset))
        except UserError as error:
            print(f"{dataset} cannot be read here, so finished runs are not compared with it: {error}", file=sys.stderr)
            continue
        for folder in done:
            if folder.config.dataset == dataset:
                dependencies.check_data(folder, dataset, now)


def _fingerprint(planned: Plan, dataset: str) -> str:
    from vision_repro import datasets  # in the child only: it imports torch

    read = datasets.listed if datasets.is_streamed(dataset) else datasets.load
    return read(dataset, _root(planned), cache_folder()).checksum


def _root(planned: Plan) -> Path | None:
    return Path(planned.launch.data_root) if planned.launch.data_root else None


def prepare(planned: Plan, runs: list[RunConfig]) -> None:
    """Fetches and reads each data set once in a child process, so that errors occur before the first run starts."""
    for dataset, image_size in sorted({(run.dataset, run.image_size) for run in runs}):
        chosen = [run for run in runs if run.dataset == dataset and run.image_size == image_size]
        in_child(partial(_write_subsets, planned, chosen))


def _write_subsets(planned: Plan, runs: list[RunConfig]) -> None:
    # Imported here for start-up time: torch takes long to import.
    from vision_repro import datasets
    from vision_repro.datasets.fetch import fetch
    from vision_repro.files import subset

    root, first = _root(planned), runs[0]
    if datasets.is_streamed(first.dataset):
        fetch(first.dataset, root, cache_folder(), partial(print, file=sys.stderr))
        return
    splits = datasets.load(first.dataset, root, cache_folder())
    for seed in sorted({run.seed for run in runs}):
        subset.save(Path(planned.launch.out) / "subsets", first.dataset, seed, splits.train.labels)


def in_child(work: Callable[[], Any]) -> Any:
    """Returns the result of `work()` in a forked child, so that this process starts no threads."""
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
