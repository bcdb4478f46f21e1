"""Carries out one run: trains it, writes `result.json` to its folder, and measures its weights.

The order of samples depends on (seed, epoch) and the randomness of a step on (seed, step, rank), and the Trainer treats
the whole training as one epoch. So a run that is killed at any moment and resumed gives bitwise the same result as an
uninterrupted one on a CPU. A trained run is never trained again: later measurements use its weights.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer

from vision_repro.accounting import ledger
from vision_repro.config import FRESH, RunConfig
from vision_repro.models.weights import Loaded
from vision_repro.store import checkpoints, dependencies
from vision_repro.store.atomic import write_atomic
from vision_repro.store.measurements import Measurement, Metrics, diverged_metrics
from vision_repro.store.runs import PICTURES, RunFolder, curve_csv
from vision_repro.tasks.task import Task
from vision_repro.training import assemble, evaluate, meter, precision, records
from vision_repro.training.context import RunContext
from vision_repro.training.provenance import code
from vision_repro.training.ranks import this_rank
from vision_repro.training.recorder import DivergedError, Recorder
from vision_repro.training.tracking import Tracker


@dataclass
class Parts:
    """The objects that carry out a run: data, task, Trainer, recorder, meter and tracker."""

    config: RunConfig
    context: RunContext
    module: Any
    task: Task
    loaded: Loaded | None
    trainer: Trainer
    recorder: Recorder
    meter: meter.Meter
    tracker: Tracker

    @property
    def writes(self) -> bool:
        """Whether this process is the rank that writes files."""
        return this_rank() == 0


def execute(config: RunConfig, context: RunContext) -> dict[str, Any]:
    """Trains a run unless it is trained, makes the missing measurements, and returns its result with all metrics.

    Under DDP every rank calls this with the same arguments; the first one writes. If the run is already trained, the
    first rank alone measures it: the numbers are the same on one process and on several.

    Raises:
        UserError: for bad data or a config that this machine cannot run; no incomplete file remains.
    """
    folder, begin = context.folder, time.monotonic()
    trained = folder.result() is not None
    asked, config = config, dependencies.resolve_learning_rate(precision.resolved(config, context.accelerator), folder)
    if not trained and not dependencies.dependencies_succeeded(config, folder):
        _give_up(folder)
    elif not trained:
        parts = _open(config, context)
        start = evaluate.measure_start(context.wanted, parts.task, parts.module)
        if _train(parts, begin, chosen=bool(asked.lr_from)):
            _measure(parts, context.wanted, start)
        if parts.writes:  # again, now including the measurements
            records.write_cost(config, context, parts.meter, parts.recorder, parts.module.classes)
        _close(parts)
    elif this_rank() == 0 and (missing := folder.missing(context.wanted)):
        alone = replace(context, launch=replace(context.launch, devices=1, num_nodes=1, accumulate=1))
        _measure_again(_open(config, alone), missing, begin)
    return folder.outcome(context.wanted) or {"run": folder.id, "metrics": {}}


def _open(config: RunConfig, context: RunContext) -> Parts:
    """Builds the parts of a run, with initial or loaded weights.

    Raises:
        UserError: for data or options that cannot be used.
    """
    assemble.check_division(config, context.launch)
    torch.set_float32_matmul_precision("high" if context.accelerator == "gpu" else "highest")
    spent = meter.meter_of(context, reads_energy=this_rank() == 0)
    module = assemble.make_data(config, context)
    evaluate.check_shots(context.wanted, config, module)
    folder = context.folder
    if this_rank() == 0:
        folder.open()
    tracker = Tracker(config, context, enabled=this_rank() == 0 and context.tracked)
    recorder = Recorder(config, context, tracker, module.expected("val"))
    task, loaded = assemble.make_task(config, context, module)
    trainer = assemble.make_trainer(config, context, recorder, spent)
    task.to(trainer.strategy.root_device)
    return Parts(config, context, module, task, loaded, trainer, recorder, spent, tracker)


def _train(parts: Parts, begin: float, *, chosen: bool) -> bool:
    """Trains and writes all files of the weights, the result last; returns False if the run diverged."""
    config, folder = parts.config, parts.context.folder
    point = checkpoints.find(folder.path, tells=parts.writes)
    finite = config.budget == "none" or _fit(parts, point)
    parts.meter.enter("evaluation")
    metrics: dict[str, Any] = {}
    if finite and config.budget != "none":
        if config.select == "best":
            parts.task.model.load_state_dict(parts.recorder.best["weights"])
        metrics = evaluate.learning_metrics(config, parts.recorder)
    if not finite:
        metrics = dict(diverged_metrics(folder.config))
    if chosen:
        metrics["lr"] = (config.lr, "chosen on val")
    if config.weights_run:
        spent = ledger.upstream_flops(config, lambda run: dependencies.folder_of(run, folder))
        metrics["pretraining_flops"] = (spent, "FLOPs")
    pictures = records.pictures_of(parts.task, parts.module) if finite else b""
    if parts.writes:
        if pictures:
            write_atomic(folder.path / PICTURES, pictures)
        seconds, address = time.monotonic() - begin, parts.tracker.address()
        records.write_provenance(
            config,
            parts.context,
            seconds,
            point is not None,
            parts.loaded,
            parts.module.decoder,
            address,
        )
        _finish(parts, "ok" if finite else "diverged", metrics)
    return finite


def _fit(parts: Parts, point: Path | None) -> bool:
    """Trains, from the checkpoint `point` if the run was stopped; returns False if the loss is no longer finite."""
    try:
        parts.trainer.fit(parts.task, datamodule=parts.module, ckpt_path=point, weights_only=True)
    except DivergedError:
        return False
    return True


def _finish(parts: Parts, status: str, metrics: Metrics) -> None:
    """Writes weights, curve, cost and last the result; then removes the checkpoint."""
    folder, module, recorder = parts.context.folder, parts.module, parts.recorder
    facts: dict[str, Any] = {}
    if status == "ok" and parts.config.total_steps:
        facts["weights_sha256"] = records.write_weights(folder, parts.task)
    write_atomic(folder.path / "metrics.csv", curve_csv(recorder.curve))
    cost = records.write_cost(parts.config, parts.context, parts.meter, recorder, module.classes)
    facts |= {
        "selected_step": recorder.selected_step,
        "data_sha256": module.checksum,
        "subset_sha256": module.subset_checksum,
        "cost": {"training_flops": cost["training_flops"]},  # measured costs differ each time: see cost.json
    }
    skipped = module.skipped_report()
    if skipped:
        print(skipped, file=sys.stderr)
        facts["skipped"] = skipped
    folder.finish(status, metrics, facts)
    checkpoints.remove(folder.path)


def _measure(parts: Parts, which: Sequence[Measurement], start: Mapping[str, Metrics]) -> None:
    """Measures the current weights of the task, and writes each measurement; all ranks must call it."""
    folder, config = parts.context.folder, parts.config
    given = config.weights != FRESH and (parts.loaded is None or parts.loaded.head)
    classifies = config.budget != "none" or given
    at = evaluate.Evaluation(config, parts.trainer, parts.task, parts.module, folder.path, classifies, start)
    for item in which:
        metrics, arrays = evaluate.measure(item, at)
        if parts.writes:
            folder.add(item, metrics, {"commit": code()["commit"]}, arrays)


def _measure_again(parts: Parts, which: Sequence[Measurement], begin: float) -> None:
    """Measures the weights of a run that was trained before.

    Raises:
        UserError: if the data are not those that the run was trained on, or the weights are not those that it wrote.
    """
    folder = parts.context.folder
    dependencies.check_data(folder, parts.config.dataset, parts.module.checksum)
    start = evaluate.measure_start(which, parts.task, parts.module)
    if parts.config.total_steps:
        records.read_weights(folder, parts.task)
    _measure(parts, which, start)
    records.add_evaluation(parts.context, time.monotonic() - begin)
    _close(parts)


def _close(parts: Parts) -> None:
    """Logs the outcome and the cost to W&B."""
    if not parts.writes:
        return
    folder = parts.context.folder
    cost = ledger.read_cost(folder.path) or {}
    found = folder.outcome(parts.context.wanted) or {"status": "failed", "metrics": {}}
    costs = {f"cost/{name}": value for name, value in cost.items() if value is not None}
    metrics = {name: cell["value"] for name, cell in found["metrics"].items()}
    parts.tracker.close(metrics | costs, failed=found["status"] != "ok")


def _give_up(folder: RunFolder) -> None:
    """Writes the result `diverged` for a run that takes its weights or learning rate from runs that diverged."""
    if this_rank() == 0:
        folder.open()
        folder.finish("diverged", diverged_metrics(folder.config), {"why": "a run that it needs diverged"})
