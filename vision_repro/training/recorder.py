"""Records the training of a run: learning curve, best weights, checkpoints, progress; and seeds each step."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from vision_repro.config import RunConfig, UserError
from vision_repro.store import checkpoints
from vision_repro.training.context import RunContext
from vision_repro.training.tracking import Tracker


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

    def __init__(self, config: RunConfig, context: RunContext, tracker: Tracker, expected: int) -> None:
        self.config = config
        self.context = context
        self.tracker = tracker
        self.expected = expected
        self.curve: list[dict[str, float | int]] = []
        self.best: dict[str, Any] = {"score": -math.inf, "values": {}, "step": -1, "weights": {}}
        self._saved = time.monotonic()
        self._save_due = False

    @property
    def selected_step(self) -> int:
        """The step of the tested weights; 0 if nothing was trained."""
        if not self.curve:
            return 0
        return int(self.best["step"] if self.config.select == "best" else self.curve[-1]["step"])

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a resumed run: its id, the curve and the best weights so far (plain types, tensors)."""
        return {"run": self.context.folder.id, "curve": self.curve, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the curve and the best weights from the checkpoint.

        Raises:
            UserError: if the checkpoint belongs to another run.
        """
        folder = self.context.folder
        if state_dict.get("run") != folder.id:
            raise UserError(
                f'"{folder.path}" holds a checkpoint of run {state_dict.get("run")}, not of {folder.id}: remove its '
                "last-*.ckpt and start again."
            )
        self.curve, self.best = list(state_dict["curve"]), dict(state_dict["best"])

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Saves a checkpoint if one is due, then seeds the step."""
        if self._save_due:
            self.save(trainer)
        seed = step_seed(self.config.seed, batch_idx, trainer.global_rank)
        # Not torch.manual_seed: it formats the call stack for each absent kind of device, which takes 0.5 ms per step.
        torch.default_generator.manual_seed(seed)
        if self.context.accelerator == "gpu":
            torch.cuda.manual_seed(seed)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Adds a point to the curve, keeps the best weights, and stops the run if its loss is not finite."""
        step = trainer.global_step
        values = pl_module.validated(self.expected)
        since = step - (int(self.curve[-1]["step"]) if self.curve else 0)
        if since <= 0:  # Lightning repeats the validation at which a checkpoint was written
            return
        total: Any = trainer.strategy.reduce(pl_module.take_train_loss(), reduce_op="sum")
        loss = float(total) / (since * trainer.world_size * trainer.accumulate_grad_batches)
        self.curve.append({"step": step, "train_loss": loss, **values})
        if not math.isfinite(loss):
            raise DivergedError
        score = pl_module.score(values)
        if score > self.best["score"]:
            weights = {name: value.detach().cpu().clone() for name, value in pl_module.model.state_dict().items()}
            self.best = {"score": score, "values": values, "step": step, "weights": weights}
        due = time.monotonic() - self._saved >= self.context.launch.checkpoint_seconds
        self._save_due = bool(trainer.strategy.broadcast(due))
        if trainer.is_global_zero:
            self._report(step, loss, values)

    def _report(self, step: int, loss: float, values: dict[str, float]) -> None:
        self.tracker.log({"train_loss": loss, **values}, step)
        epoch = step * self.config.global_batch / self.config.train_size
        self.context.report({"step": step, "steps": self.config.total_steps, "epoch": epoch, "values": values})

    def save(self, trainer: Trainer) -> None:
        """Writes the checkpoint between two optimizer steps; all ranks must call it.

        Raises:
            UserError: if it cannot be written.
        """
        checkpoints.save(self.context.folder.path, trainer.save_checkpoint, first=trainer.is_global_zero)
        self._saved, self._save_due = time.monotonic(), False
