"""One run: seeding, the Trainer, checkpoints, W&B, provenance; from a config to the `result.json` of its folder.

The order of samples is a function of (seed, epoch), the randomness of a step one of (seed, step, rank), and the Trainer
sees the whole training as one epoch; so a run killed at any moment and started again ends bitwise as the uninterrupted
one on a CPU.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback

from vision_repro import data, models
from vision_repro.accounting import ledger
from vision_repro.augmentation import normalisation
from vision_repro.config import FRESH, Launch, RunConfig, UserError
from vision_repro.models import weights
from vision_repro.models.layers.head import head_keys
from vision_repro.probes import named
from vision_repro.store import dependencies
from vision_repro.store.runs import PICTURES, RunFolder, curve_csv, write_atomic
from vision_repro.tasks import forward_flops
from vision_repro.tasks.build import build as build_task
from vision_repro.tasks.masked import MaskedPatches
from vision_repro.tasks.task import Task
from vision_repro.training import evaluate, meter, provenance
from vision_repro.training.device import processor
from vision_repro.training.polyak import PolyakAverage
from vision_repro.training.preemption import Preemption, environment
from vision_repro.training.ranks import this_rank
from vision_repro.training.recorder import DivergedError, Recorder, RunContext
from vision_repro.training.tracking import Tracker

PICTURED = 4
"""Test images that a pre-trained model shows its reconstruction of."""


def _averaging(config: RunConfig) -> list[PolyakAverage]:
    """Returns what comes behind Recorder, which keeps the weights that were validated: the average, if one is asked."""
    return [PolyakAverage(config.polyak)] if config.polyak else []


def _trainer(config: RunConfig, context: RunContext, recorder: Recorder, *first: Callback) -> Trainer:
    """Returns a quiet Trainer: nothing is logged, drawn or written between two validations but what Recorder does."""
    launch = context.launch
    every = max(1, config.total_steps * launch.accumulate // config.evaluations)
    distributed = launch.devices * launch.num_nodes > 1
    return Trainer(
        accelerator=context.accelerator,
        devices=launch.devices,
        num_nodes=launch.num_nodes,
        strategy="ddp" if distributed else "auto",
        precision="bf16-mixed" if context.precision == "bf16" else "32-true",
        max_epochs=1,
        accumulate_grad_batches=launch.accumulate,
        val_check_interval=every,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        plugins=[environment()],
        deterministic="warn" if context.accelerator == "gpu" else None,
        benchmark=context.accelerator == "gpu",
        logger=False,
        callbacks=[*first, Preemption(recorder.save, recorder.tracker.pause), recorder, *_averaging(config)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=context.folder.path,
    )


def _datamodule(config: RunConfig, context: RunContext) -> Any:
    return data.datamodule(
        config.dataset,
        image_size=config.image_size,
        train_size=config.train_size,
        seed=config.seed,
        global_batch=config.global_batch,
        steps=config.total_steps,
        augmentation=config.augmentation,
        data_root=Path(context.launch.data_root) if context.launch.data_root else None,
        cache=context.cache,
        workers=context.launch.workers,
        views=config.views,
        on_bad_image=config.on_bad_image,
        decoded_cache=context.launch.decoded_cache,
        train_on_val=config.train_on_val,
    )


def _normalisation(config: RunConfig, module: Any) -> normalisation.Normalisation:
    """Returns what is done to the pixels; means of the training images are those of the run's own subset."""
    kind = normalisation.default_for(config.model) if config.normalisation == "model" else config.normalisation
    measured = kind in normalisation.MEASURED
    return normalisation.statistics(kind, (batch.images for batch in module.pool_dataloader()) if measured else ())


def _task(config: RunConfig, context: RunContext, module: Any) -> tuple[Task, weights.Loaded | None]:
    """Returns the task with freshly drawn weights, a function of the seed alone, or with those of `config.weights`.

    What was loaded, if anything was, comes second.
    """
    seed_everything(config.seed, verbose=False)
    model = models.build(config.model, image_size=config.image_size, classes=module.classes)
    loaded = None
    if config.weights not in ("", FRESH):
        # What is measured as it is keeps its classifier; what is trained gets one of zeros.
        keep = config.budget == "none"
        source = str(dependencies.weights_of(config, context.folder)) if config.weights_run else config.weights
        loaded = weights.load(model, config.model, source, image_size=config.image_size, keep_head=keep)
        if config.weights_run:
            loaded = loaded._replace(source=config.weights)
    on_gpu = context.accelerator == "gpu"
    models.use_explicit_attention(model, context.precision == "bf16" and not on_gpu)
    if context.launch.compile == "on" or (context.launch.compile == "auto" and on_gpu and config.total_steps >= 5000):
        # In context, so that the names in the state dict stay. Masked patches enter a ViT behind its first layer.
        for part in (model,) if config.objective == "supervised" else model.get_submodule("blocks").children():
            part.compile()
    settings = {
        "lr": _rate(config),
        "weight_decay": config.weight_decay,
        "steps": config.total_steps,
        "warmup": config.warmup,
        "grad_clip": config.grad_clip,
        "augmentation": module.device_augmentation,
        "normalise": _normalisation(config, module),
        "optimizer": config.optimizer,
        "l1": config.l1,
        "l2": config.l2,
    }
    return build_task(config, model, settings), loaded


def _rate(config: RunConfig) -> float:
    if config.budget == "none":
        return 0.0
    if config.lr is None:
        raise UserError("--lr=None: this run has no learning rate; give one.")
    return config.lr


def _resume_point(recorder: Recorder) -> Path | None:
    """Returns the checkpoint to continue from; one that cannot be read is set aside and the run starts again."""
    file = recorder.checkpoint
    if not file.exists():
        return None
    try:
        torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        print(f'"{file}" cannot be read ({type(error).__name__}); this run starts again from step 0.', file=sys.stderr)
        return None
    return file


def _fit(trainer: Trainer, task: Task, module: Any, recorder: Recorder) -> bool:
    """Trains, continuing a stopped run; returns False if the loss stopped being finite."""
    try:
        trainer.fit(task, datamodule=module, ckpt_path=_resume_point(recorder), weights_only=True)
    except DivergedError:
        return False
    return True


def _write_provenance(
    config: RunConfig,
    context: RunContext,
    seconds: float,
    resumed: bool,
    loaded: weights.Loaded | None,
    decoder: str,
    address: str,
) -> None:
    devices = context.launch.devices * context.launch.num_nodes
    gpu = context.accelerator == "gpu"
    facts = {
        **provenance.code(),
        "command": provenance.command(),
        "device": torch.cuda.get_device_name() if gpu else processor(),
        "devices": devices,
        "threads_per_process": torch.get_num_threads(),
        "precision": context.precision,
        "precision_why": context.why_precision,
        "attention": "fused" if gpu or context.precision == "fp32" else "explicit",
        "resumed": resumed,
        "seconds_since_start_or_resume": round(seconds, 3),
        "device_hours": round(seconds * devices / 3600, 6),
        "images_seen": config.total_steps * config.global_batch,
        "weights": loaded and loaded._asdict(),
        **({"decoder": decoder} if decoder else {}),
        **({"wandb_url": address} if address else {}),
    }
    write_atomic(context.folder.path / "provenance.json", json.dumps(facts, indent=1) + "\n")


def _write_weights(folder: RunFolder, task: Task) -> None:
    """Writes the tested weights as a plain state dict of the architecture, for another run to start from.

    A head that nothing was learned with is left out.
    """
    state = task.model.state_dict()
    unlearnt = head_keys(state, task.model) if folder.config.objective != "supervised" else set()
    buffer = io.BytesIO()
    torch.save({name: value.cpu() for name, value in state.items() if name not in unlearnt}, buffer)
    write_atomic(folder.path / "weights.ckpt", buffer.getvalue())


def _pictures(task: Task, module: Any) -> bytes:
    """Returns an `.npz` file of the first test images, masked and predicted; nothing of a task that masks none."""
    if not isinstance(task, MaskedPatches):
        return b""
    images = named.first_images(module, PICTURED)  # by all ranks together
    found = task.reconstruct(images)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, image=found.images, masked=found.masked, prediction=found.predicted)
    return buffer.getvalue()


def check_division(config: RunConfig, launch: Launch) -> None:
    """Raises UserError if steps or batch do not divide as the config and the devices ask."""
    if config.total_steps % config.evaluations:
        raise UserError(
            f"--steps={config.total_steps} cannot be cut into --evaluations={config.evaluations} equal parts: "
            f"expected a multiple of {config.evaluations}."
        )
    if config.budget == "none" and launch.devices * launch.num_nodes > 1:
        raise UserError("--budget=none trains nothing and takes one device: leave out --devices and --num_nodes.")
    parts = launch.devices * launch.num_nodes * launch.accumulate
    if config.global_batch % parts:
        raise UserError(
            f"--global_batch={config.global_batch} does not divide by devices x num_nodes x accumulate = {parts}: "
            f"expected a multiple of {parts}."
        )


def execute(config: RunConfig, context: RunContext) -> dict[str, Any]:
    """Carries out one run and returns its result; a run that is done already is not repeated.

    Under DDP every rank calls this with the same arguments; the first one writes.

    Raises:
        UserError: for bad data or a config that the machine cannot run; nothing half-written stays.
    """
    folder, start = context.folder, time.monotonic()
    done = folder.result()
    if done is not None:
        return done
    asked, config = config, dependencies.resolve_learning_rate(config, folder)
    check_division(config, context.launch)
    if not dependencies.dependencies_succeeded(config, folder):
        return _without_start(config, folder)
    main_rank = this_rank() == 0
    meter_ = meter.meter_of(context, tells=main_rank)
    torch.set_float32_matmul_precision("high" if context.accelerator == "gpu" else "highest")
    module = _datamodule(config, context)
    evaluate.check_shots(config, module)
    if main_rank:
        folder.open()
    tracker = Tracker(config, folder.id, folder.path, context.settings, main_rank and context.tracked)
    recorder = Recorder(config, context, tracker, module.expected("val"))
    task, loaded = _task(config, context, module)
    trainer = _trainer(config, context, recorder, meter_)
    resumed = recorder.checkpoint.exists()
    measure_start = named.measure_start(config.probe_names, task.to(trainer.strategy.root_device), module)
    finite = config.budget == "none" or _fit(trainer, task, module, recorder)
    meter_.enter("evaluation")
    if finite:
        classifies = config.weights != FRESH and (loaded is None or loaded.head)
        metrics = evaluate.measure_run(config, trainer, task, module, recorder, classifies=classifies)
        metrics |= measure_start | named.measure_meter(config.probe_names, meter_.seconds)
    else:
        metrics = evaluate.diverged_metrics(config)
    if asked.lr_from:
        metrics["lr"] = (config.lr, "chosen on val")
    if config.weights_run:
        spent = ledger.upstream_flops(config, lambda run: dependencies.folder_of(run, folder))
        metrics["pretraining_flops"] = (spent, "FLOPs")
    pictures = _pictures(task, module) if finite else b""
    if main_rank:
        if pictures:
            write_atomic(folder.path / PICTURES, pictures)
        if finite and config.total_steps:
            _write_weights(folder, task)
        seconds, address = time.monotonic() - start, tracker.address()
        _write_provenance(config, context, seconds, resumed, loaded, module.decoder, address)
        cost = _write_cost(config, context, meter_, recorder, module.classes)
        _finish(config, context, recorder, module, "ok" if finite else "diverged", metrics, cost["training_flops"])
        told = {f"cost/{name}": value for name, value in cost.items() if value is not None}
        tracker.close({name: value for name, (value, _) in metrics.items()} | told, failed=not finite)
    result = folder.result()
    return result if result is not None else {"run": folder.id, "metrics": {}}


def _without_start(config: RunConfig, folder: RunFolder) -> dict[str, Any]:
    """Writes and returns the result of a run whose weights or learning rate should come from runs that diverged."""
    if this_rank() == 0:
        folder.open()
        folder.finish("diverged", evaluate.diverged_metrics(config), {"why": "a run that it needs diverged"})
    return folder.result() or {"run": folder.id, "metrics": {}}


def _write_cost(
    config: RunConfig, context: RunContext, meter_: meter.Meter, recorder: Recorder, classes: int
) -> dict[str, Any]:
    """Writes what the run took, by the steps that it got to, and returns that."""
    steps = int(recorder.curve[-1]["step"]) if recorder.curve else 0
    forward = forward_flops.checked(config, classes, context.folder.path.parent)
    cost = meter.cost(meter_, context, forward, steps * config.global_batch)
    write_atomic(context.folder.path / ledger.COST_NAME, json.dumps(cost, indent=1) + "\n")
    return cost


def _finish(
    config: RunConfig,
    context: RunContext,
    recorder: Recorder,
    module: Any,
    status: str,
    metrics: dict[str, Any],
    training_flops: int,
) -> None:
    """Writes the curve and, last, the result; then the checkpoint is no longer needed."""
    folder = context.folder
    write_atomic(folder.path / "metrics.csv", curve_csv(recorder.curve))
    facts = {
        "selected_step": recorder.selected_step,
        "data_sha256": module.checksum,
        "subset_sha256": module.subset_checksum,
        "cost": {"training_flops": training_flops},  # what is measured differs each time: see cost.json
    }
    skipped = module.skipped_report()
    if skipped:
        print(skipped, file=sys.stderr)
        facts["skipped"] = skipped
    folder.finish(status, metrics, facts)
    recorder.checkpoint.unlink(missing_ok=True)
