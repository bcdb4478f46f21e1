"""One run: seeding, the Trainer, checkpoints, W&B, provenance; from a config to the `result.json` of its folder.

The order of samples is a function of (seed, epoch), the randomness of a step one of (seed, step, rank), and the Trainer
sees the whole training as one epoch; so a run killed at any moment and started again ends bitwise as the uninterrupted
one on a CPU.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from vision_repro import data, models, provenance
from vision_repro.config import RunConfig, UserError
from vision_repro.launch import Launch
from vision_repro.launch.device import processor
from vision_repro.launch.tracking import Tracker
from vision_repro.probes.few_shot import few_shot_accuracy
from vision_repro.results import RunFolder, curve_csv, disk_error, write_atomic
from vision_repro.tasks.classifier import Classifier

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Place:
    """Where one run is carried out: folders, settings that name it, arithmetic, and who hears of its progress."""

    folder: RunFolder
    launch: Launch
    cache: Path
    settings: tuple[str, ...]
    precision: str
    why_precision: str
    accelerator: str
    report: Report


class DivergedError(Exception):
    """The training loss is not finite."""


def step_seed(seed: int, step: int, rank: int) -> int:
    """Returns the seed of a step's randomness (augmentation, dropout, drop-path): a function of (seed, step, rank)."""
    state = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return state ^ (state >> 31)


class Recorder(Callback):
    """Seeds each step, keeps the learning curve and the best weights, checkpoints on a timer, reports progress."""

    def __init__(self, config: RunConfig, place: Place, tracker: Tracker, expected: int) -> None:
        self.config = config
        self.place = place
        self.tracker = tracker
        self.expected = expected
        self.curve: list[dict[str, float | int]] = []
        self.best: dict[str, Any] = {"accuracy": -1.0, "step": -1, "weights": {}}
        self._saved = time.monotonic()
        self._save_due = False

    @property
    def checkpoint(self) -> Path:
        """The file a stopped run continues from."""
        return self.place.folder.path / "last.ckpt"

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run needs: the curve and the best weights so far (plain types and tensors)."""
        return {"curve": self.curve, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the curve and the best weights of the checkpoint."""
        self.curve, self.best = list(state_dict["curve"]), dict(state_dict["best"])

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Saves a due checkpoint between two steps, then seeds the step."""
        if self._save_due:
            self._save(trainer)
        seed = step_seed(self.config.seed, batch_idx, trainer.global_rank)
        # Not torch.manual_seed: it formats the call stack for each absent kind of device, half a millisecond a step.
        torch.default_generator.manual_seed(seed)
        if self.place.accelerator == "gpu":
            torch.cuda.manual_seed(seed)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Adds a point to the curve, keeps the best weights, and stops a run whose loss is not finite."""
        step = trainer.global_step
        accuracy = pl_module.accuracy(self.expected)
        since = step - (int(self.curve[-1]["step"]) if self.curve else 0)
        if since <= 0:  # Lightning repeats the validation at which a checkpoint was written
            return
        total: Any = trainer.strategy.reduce(pl_module.take_train_loss(), reduce_op="sum")
        loss = float(total) / (since * trainer.world_size * trainer.accumulate_grad_batches)
        self.curve.append({"step": step, "train_loss": loss, "val_accuracy": accuracy})
        if not math.isfinite(loss):
            raise DivergedError
        if accuracy > self.best["accuracy"]:
            weights = {name: value.detach().cpu().clone() for name, value in pl_module.model.state_dict().items()}
            self.best = {"accuracy": accuracy, "step": step, "weights": weights}
        due = time.monotonic() - self._saved >= self.place.launch.checkpoint_seconds
        self._save_due = bool(trainer.strategy.broadcast(due))
        if trainer.is_global_zero:
            self._tell(step, loss, accuracy)

    def _tell(self, step: int, loss: float, accuracy: float) -> None:
        self.tracker.log({"train_loss": loss, "val_accuracy": accuracy}, step)
        epoch = step * self.config.global_batch / self.config.train_size
        self.place.report({"step": step, "steps": self.config.total_steps, "epoch": epoch, "val_accuracy": accuracy})

    def _save(self, trainer: Trainer) -> None:
        temporary = self.checkpoint.with_suffix(".partial")
        try:
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                temporary.replace(self.checkpoint)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise disk_error(self.checkpoint, error) from None
        self._saved, self._save_due = time.monotonic(), False


def _trainer(config: RunConfig, place: Place, recorder: Recorder) -> Trainer:
    """Returns a quiet Trainer: nothing is logged, drawn or written between two validations but what Recorder does."""
    launch = place.launch
    every = config.total_steps * launch.accumulate // config.evaluations
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
    )


def _task(config: RunConfig, place: Place, classes: int, augmentation: str) -> Classifier:
    """Returns the task with freshly drawn weights, a function of the seed alone."""
    seed_everything(config.seed, verbose=False)
    model = models.build(config.model, image_size=config.image_size, classes=classes)
    on_gpu = place.accelerator == "gpu"
    models.use_explicit_attention(model, place.precision == "bf16" and not on_gpu)
    if place.launch.compile == "on" or (place.launch.compile == "auto" and on_gpu and config.total_steps >= 5000):
        model.compile()  # in place, so that the names in the state dict stay
    return Classifier(
        model, lr=_rate(config), weight_decay=config.weight_decay, steps=config.total_steps, warmup=config.warmup,
        grad_clip=config.grad_clip, augmentation=augmentation,
    )  # fmt: skip


def _rate(config: RunConfig) -> float:
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


@torch.inference_mode()
def _features(trainer: Trainer, task: Classifier, loader: Any) -> tuple[Tensor, Tensor]:
    """Returns frozen features `[N, D]` and labels `[N]` of a whole split, in the split's order, on every rank."""
    task.eval().to(trainer.strategy.root_device)
    parts: list[tuple[Tensor, Tensor]] = []
    for batch in loader:
        moved = type(batch)(*(part.to(task.device) for part in batch))
        with trainer.precision_plugin.forward_context():
            features = models.features(task.model, data.augment.normalise(moved.images))
        parts.append((features.float().cpu(), moved.labels.cpu()))
    mine = (torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))
    if trainer.world_size == 1:
        return mine
    shards: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(shards, mine)
    count = sum(len(shard[1]) for shard in shards)
    features, labels = torch.empty(count, mine[0].shape[1]), torch.empty(count, dtype=torch.long)
    for rank, (part, part_labels) in enumerate(shards):
        features[rank :: trainer.world_size], labels[rank :: trainer.world_size] = part, part_labels
    return features, labels


def _few_shot(config: RunConfig, trainer: Trainer, task: Classifier, module: Any) -> dict[str, tuple[float, str]]:
    """Returns the mean few-shot accuracy over the draws for each number of shots.

    Deviation: the few labelled images come from `val`, which no gradient has seen, instead of another data set's
    training images; the data sets of the small presets have no downstream partner.
    """
    if not config.shot_counts:
        return {}
    pool, pool_labels = _features(trainer, task, module.val_dataloader())
    features, labels = _features(trainer, task, module.test_dataloader())
    found = few_shot_accuracy(
        pool, pool_labels, features, labels,
        classes=module.classes, shots=config.shot_counts, draws=config.draws, seed=config.seed,
    )  # fmt: skip
    return {f"few_shot_{shots}": (sum(values) / len(values), "fraction") for shots, values in found.items()}


def _measure(config: RunConfig, trainer: Trainer, task: Classifier, module: Any, recorder: Recorder) -> dict[str, Any]:
    """Returns the metrics of the selected weights on `test`; the only place that looks at that split."""
    if config.select == "best":
        task.model.load_state_dict(recorder.best["weights"])
    trainer.test(task, datamodule=module, verbose=False)
    test = task.accuracy(module.expected("test"))
    last = recorder.curve[-1]
    val = recorder.best["accuracy"] if config.select == "best" else last["val_accuracy"]
    return {
        "test_accuracy": (test, "fraction"),
        "val_accuracy": (val, "fraction"),
        "train_loss": (last["train_loss"], "nats"),
        **_few_shot(config, trainer, task, module),
    }


def _write_provenance(config: RunConfig, place: Place, seconds: float, resumed: bool) -> None:
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
    main_rank = this_rank() == 0
    if main_rank:
        folder.open()
    tracker = Tracker(config, folder.id, folder.path, place.settings, main_rank and place.launch.wandb != "off")
    recorder = Recorder(config, place, tracker, module.expected("val"))
    task = _task(config, place, module.classes, module.device_augmentation)
    trainer = _trainer(config, place, recorder)
    resumed = recorder.checkpoint.exists()
    finite = _fit(trainer, task, module, recorder)
    metrics: dict[str, Any] = _measure(config, trainer, task, module, recorder) if finite else _nothing(config)
    if main_rank:
        if finite:
            _write_weights(folder, task)
        _write_provenance(config, place, time.monotonic() - start, resumed)
        _finish(config, place, recorder, module, "ok" if finite else "diverged", metrics)
        tracker.close({name: value for name, (value, _) in metrics.items()}, failed=not finite)
    result = folder.result()
    return result if result is not None else {"run": folder.id, "metrics": {}}


def _nothing(config: RunConfig) -> dict[str, tuple[None, str]]:
    """Returns the metrics of a diverged run: named, without a value."""
    names = ["test_accuracy", "val_accuracy", *(f"few_shot_{shots}" for shots in config.shot_counts)]
    return {name: (None, "fraction") for name in names}


def _finish(
    config: RunConfig, place: Place, recorder: Recorder, module: Any, status: str, metrics: dict[str, Any]
) -> None:  # fmt: skip
    """Writes the curve and, last, the result; then the checkpoint is no longer needed."""
    folder = place.folder
    write_atomic(folder.path / "metrics.csv", curve_csv(recorder.curve))
    facts = {
        "selected_step": recorder.best["step"] if config.select == "best" else recorder.curve[-1]["step"],
        "data_sha256": module.checksum,
        "subset_sha256": module.subset_checksum,
    }
    folder.finish(status, metrics, facts)
    recorder.checkpoint.unlink(missing_ok=True)
