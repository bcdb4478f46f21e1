"""Builds the parts of a run: its data, its task around the architecture, and its Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback

from vision_repro import data, models
from vision_repro.augmentation import normalisation
from vision_repro.config import FRESH, Launch, RunConfig, UserError
from vision_repro.data.config import DataConfig
from vision_repro.models import weights
from vision_repro.store import dependencies
from vision_repro.store.runs import check_weights
from vision_repro.tasks.build import build as build_task
from vision_repro.tasks.task import Task
from vision_repro.training import precision
from vision_repro.training.context import RunContext
from vision_repro.training.polyak import PolyakAverage
from vision_repro.training.preemption import Preemption, environment
from vision_repro.training.recorder import Recorder


def check_division(config: RunConfig, launch: Launch) -> None:
    """Raises UserError if the steps do not divide by the evaluations, or the batch by the devices."""
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


def _averaging(config: RunConfig) -> list[PolyakAverage]:
    """Returns the callback that averages weights, if the config asks for one.

    It comes after Recorder, which keeps the validated weights.
    """
    return [PolyakAverage(config.polyak)] if config.polyak else []


def make_trainer(config: RunConfig, context: RunContext, recorder: Recorder, *first: Callback) -> Trainer:
    """Returns a quiet Trainer: between two validations only Recorder logs, shows or writes anything."""
    launch = context.launch
    every = max(1, config.total_steps * launch.accumulate // config.evaluations)
    distributed = launch.devices * launch.num_nodes > 1
    return Trainer(
        accelerator=context.accelerator,
        devices=launch.devices,
        num_nodes=launch.num_nodes,
        strategy="ddp" if distributed else "auto",
        precision=precision.of_trainer(config.precision),
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


def make_data(config: RunConfig, context: RunContext) -> Any:
    """Returns the data module of a run."""
    return data.datamodule(DataConfig.of(config, context.launch, context.cache))


def _normalisation(config: RunConfig, module: Any) -> normalisation.Normalisation:
    """Returns the normalisation of pixels; a mean of the training images is that of the run's own subset."""
    kind = normalisation.default_for(config.model) if config.normalisation == "model" else config.normalisation
    measured = kind in normalisation.MEASURED
    return normalisation.statistics(kind, (batch.images for batch in module.pool_dataloader()) if measured else ())


def make_task(config: RunConfig, context: RunContext, module: Any) -> tuple[Task, weights.Loaded | None]:
    """Returns the task, and what was loaded into it, if anything.

    The initial weights depend on the seed only, unless `config.weights` names weights to load.
    """
    seed_everything(config.seed, verbose=False)
    model = models.build(config.model, image_size=config.image_size, classes=module.classes)
    loaded = None
    if config.weights not in ("", FRESH):
        # Weights that are only measured keep their classifier; weights that are trained get a classifier of zeros.
        keep = config.budget == "none"
        source = str(dependencies.weights_of(config, context.folder)) if config.weights_run else config.weights
        check_weights(Path(source))
        loaded = weights.load(model, config.model, source, image_size=config.image_size, keep_head=keep)
        if config.weights_run:
            loaded = loaded._replace(source=config.weights)
    on_gpu = context.accelerator == "gpu"
    models.use_explicit_attention(model, precision.needs_explicit_attention(config.precision, context.accelerator))
    if context.launch.compile == "on" or (context.launch.compile == "auto" and on_gpu and config.total_steps >= 5000):
        # In place, so that the names in the state dict stay. With masked patches only the blocks are compiled, because
        # the patches enter the ViT after its first layer.
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
