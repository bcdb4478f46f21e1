"""One run: seeding, the Trainer, checkpoints, W&B, provenance; from a config to the `result.json` of its folder.

The order of samples is a function of (seed, epoch), the randomness of a step one of (seed, step, rank), and the Trainer
sees the whole training as one epoch; so a run killed at any moment and started again ends bitwise as the uninterrupted
one on a CPU.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer, seed_everything

from vision_repro import data, measurements, models, provenance
from vision_repro.config import FRESH, RunConfig, UserError
from vision_repro.data import normalisation
from vision_repro.launch import Launch
from vision_repro.launch.device import processor
from vision_repro.launch.tracking import Tracker
from vision_repro.models import weights
from vision_repro.recorder import DivergedError, Place, Recorder
from vision_repro.results import RunFolder, curve_csv, write_atomic
from vision_repro.tasks.classifier import Classifier


def _trainer(config: RunConfig, place: Place, recorder: Recorder) -> Trainer:
    """Returns a quiet Trainer: nothing is logged, drawn or written between two validations but what Recorder does."""
    launch = place.launch
    every = max(1, config.total_steps * launch.accumulate // config.evaluations)
    distributed = launch.devices * launch.num_nodes > 1
    return Trainer(
        accelerator=place.accelerator,
        devices=launch.devices,
        num_nodes=launch.num_nodes,
        strategy="ddp" if distributed else "auto",
        precision="bf16-mixed" if place.precision == "bf16" else "32-true",
        max_epochs=1,
        accumulate_grad_batches=launch.accumulate,
        val_check_interval=every,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        deterministic="warn" if place.accelerator == "gpu" else None,
        benchmark=place.accelerator == "gpu",
        logger=False,
        callbacks=[recorder],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=place.folder.path,
    )


def _datamodule(config: RunConfig, place: Place) -> Any:
    return data.datamodule(
        config.dataset,
        image_size=config.image_size,
        train_size=config.train_size,
        seed=config.seed,
        global_batch=config.global_batch,
        steps=config.total_steps,
        augmentation=config.augmentation,
        data_root=Path(place.launch.data_root) if place.launch.data_root else None,
        cache=place.cache,
        workers=place.launch.workers,
        views=config.views,
        on_bad_image=config.on_bad_image,
        decoded_cache=place.launch.decoded_cache,
    )


def _normalisation(config: RunConfig, module: Any) -> normalisation.Normalisation:
    """Returns what is done to the pixels; means of the training images are those of the run's own subset."""
    kind = normalisation.default_for(config.model) if config.normalisation == "model" else config.normalisation
    measured = kind in normalisation.MEASURED
    return normalisation.statistics(kind, (batch.images for batch in module.pool_dataloader()) if measured else ())


def _task(config: RunConfig, place: Place, module: Any) -> tuple[Classifier, weights.Loaded | None]:
    """Returns the task with freshly drawn weights, a function of the seed alone, or with those of `config.weights`.

    What was loaded, if anything was, comes second.
    """
    seed_everything(config.seed, verbose=False)
    model = models.build(config.model, image_size=config.image_size, classes=module.classes)
    loaded = None
    if config.weights not in ("", FRESH):
        # What is measured as it is keeps its classifier; what is trained gets one of zeros.
        keep = config.policy == "none"
        loaded = weights.load(model, config.model, config.weights, image_size=config.image_size, keep_head=keep)
    on_gpu = place.accelerator == "gpu"
    models.use_explicit_attention(model, place.precision == "bf16" and not on_gpu)
    if place.launch.compile == "on" or (place.launch.compile == "auto" and on_gpu and config.total_steps >= 5000):
        model.compile()  # in place, so that the names in the state dict stay
    task = Classifier(
        model, lr=_rate(config), weight_decay=config.weight_decay, steps=config.total_steps, warmup=config.warmup,
        grad_clip=config.grad_clip, augmentation=module.device_augmentation, normalise=_normalisation(config, module),
    )  # fmt: skip
    return task, loaded


def _rate(config: RunConfig) -> float:
    if config.policy == "none":
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


def _fit(trainer: Trainer, task: Classifier, module: Any, recorder: Recorder) -> bool:
    """Trains, continuing a stopped run; returns False if the loss stopped being finite."""
    try:
        trainer.fit(task, datamodule=module, ckpt_path=_resume_point(recorder), weights_only=True)
    except DivergedError:
        return False
    return True


def _write_provenance(
    config: RunConfig, place: Place, seconds: float, resumed: bool, loaded: weights.Loaded | None, decoder: str,
    address: str,
) -> None:  # fmt: skip
    devices = place.launch.devices * place.launch.num_nodes
    gpu = place.accelerator == "gpu"
    facts = {
        **provenance.code(),
        "command": provenance.command(),
        "device": torch.cuda.get_device_name() if gpu else processor(),
        "devices": devices,
        "threads_per_process": torch.get_num_threads(),
        "precision": place.precision,
        "precision_why": place.why_precision,
        "attention": "fused" if gpu or place.precision == "fp32" else "explicit",
        "resumed": resumed,
        "seconds_since_start_or_resume": round(seconds, 3),
        "device_hours": round(seconds * devices / 3600, 6),
        "images_seen": config.total_steps * config.global_batch,
        "weights": loaded and loaded._asdict(),
        **({"decoder": decoder} if decoder else {}),
        **({"wandb_url": address} if address else {}),
    }
    write_atomic(place.folder.path / "provenance.json", json.dumps(facts, indent=1) + "\n")


def _write_weights(folder: RunFolder, task: Classifier) -> None:
    """Writes the tested weights as a plain state dict of the architecture, for another run to start from."""
    buffer = io.BytesIO()
    torch.save({name: value.cpu() for name, value in task.model.state_dict().items()}, buffer)
    write_atomic(folder.path / "weights.ckpt", buffer.getvalue())


def this_rank() -> int:
    """Returns the number of this process among the run's ranks, as the engine, torchrun or srun told it."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def check_division(config: RunConfig, launch: Launch) -> None:
    """Raises UserError if steps or batch do not divide as the config and the devices ask."""
    if config.total_steps % config.evaluations:
        raise UserError(
            f"--steps={config.total_steps} cannot be cut into --evaluations={config.evaluations} equal parts: "
            f"expected a multiple of {config.evaluations}."
        )
    if config.policy == "none" and launch.devices * launch.num_nodes > 1:
        raise UserError("--policy=none trains nothing and takes one device: leave out --devices and --num_nodes.")
    parts = launch.devices * launch.num_nodes * launch.accumulate
    if config.global_batch % parts:
        raise UserError(
            f"--global_batch={config.global_batch} does not divide by devices x num_nodes x accumulate = {parts}: "
            f"expected a multiple of {parts}."
        )


def execute(config: RunConfig, place: Place) -> dict[str, Any]:
    """Carries out one run and returns its result; a run that is done already is not repeated.

    Under DDP every rank calls this with the same arguments; the first one writes.

    Raises:
        UserError: for bad data or a config that the machine cannot run; nothing half-written stays.
    """
    folder, start = place.folder, time.monotonic()
    done = folder.result()
    if done is not None:
        return done
    check_division(config, place.launch)
    torch.set_float32_matmul_precision("high" if place.accelerator == "gpu" else "highest")
    module = _datamodule(config, place)
    measurements.check_shots(config, module)
    main_rank = this_rank() == 0
    if main_rank:
        folder.open()
    tracker = Tracker(config, folder.id, folder.path, place.settings, main_rank and place.launch.wandb != "off")
    recorder = Recorder(config, place, tracker, module.expected("val"))
    task, loaded = _task(config, place, module)
    trainer = _trainer(config, place, recorder)
    resumed = recorder.checkpoint.exists()
    finite = config.policy == "none" or _fit(trainer, task, module, recorder)
    metrics: dict[str, Any]
    if config.policy == "none":
        classifies = loaded is None or loaded.head
        metrics = measurements.of_given(config, trainer, task, module, classifies=classifies)
    elif finite:
        metrics = measurements.of_trained(config, trainer, task, module, recorder)
    else:
        metrics = measurements.of_diverged(config)
    if main_rank:
        if finite and config.total_steps:
            _write_weights(folder, task)
        seconds, address = time.monotonic() - start, tracker.address()
        _write_provenance(config, place, seconds, resumed, loaded, module.decoder, address)
        _finish(config, place, recorder, module, "ok" if finite else "diverged", metrics)
        tracker.close({name: value for name, (value, _) in metrics.items()}, failed=not finite)
    result = folder.result()
    return result if result is not None else {"run": folder.id, "metrics": {}}


def _finish(
    config: RunConfig, place: Place, recorder: Recorder, module: Any, status: str, metrics: dict[str, Any]
) -> None:  # fmt: skip
    """Writes the curve and, last, the result; then the checkpoint is no longer needed."""
    folder = place.folder
    write_atomic(folder.path / "metrics.csv", curve_csv(recorder.curve))
    facts = {
        "selected_step": recorder.selected_step,
        "data_sha256": module.checksum,
        "subset_sha256": module.subset_checksum,
    }
    skipped = module.skipped_report()
    if skipped:
        print(skipped, file=sys.stderr)
        facts["skipped"] = skipped
    folder.finish(status, metrics, facts)
    recorder.checkpoint.unlink(missing_ok=True)
