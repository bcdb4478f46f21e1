"""Polyak averaging: the weights that are validated and tested are an average over the steps (ViT, 4.1, factor 0.9999).

After each optimizer step, average = factor * average + (1 - factor) * weights; the optimizer never sees it.

Deviation: all floating-point entries of the state dict are averaged, running statistics of batch norm among them, so
that they are those of the averaged weights; the paper's networks have none.
Deviation: the average starts at the initial weights and nothing corrects for them; neither paper nor release says what
theirs does. After the 20,000 steps on ImageNet they count for 0.9999^20000 = 0.14.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn


def averaged(module: nn.Module) -> list[Tensor]:
    """Returns the tensors that are averaged, in the order of the state dict."""
    return [value for value in module.state_dict().values() if value.is_floating_point()]


class PolyakAverage(Callback):
    """Averages the weights of a task, lends it the average for each validation and leaves it there at the end.

    Put it behind any callback that takes the validated weights in `on_validation_end`: there it takes them back. A
    checkpoint between two steps holds the weights and, as this callback's state, their average; both go on bitwise.
    """

    def __init__(self, factor: float) -> None:
        """Takes the factor by which the average of a step keeps that of the step before."""
        self.factor = factor
        self.average: list[Tensor] = []
        self.step = 0
        self._weights: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """Returns the average and the step it was taken at."""
        return {"average": self.average, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the average of the checkpoint."""
        self.average, self.step = list(state_dict["average"]), int(state_dict["step"])

    @torch.no_grad()
    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Starts at the weights of the task, or goes on with the checkpoint's average on the task's device."""
        weights = averaged(pl_module)
        kept = self.average or weights
        self.average = [item.to(own.device, copy=True) for item, own in zip(kept, weights, strict=True)]

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Adds the weights of a step to the average; batches that are accumulated make no step."""
        if trainer.global_step > self.step:
            self.step = trainer.global_step
            torch._foreach_lerp_(self.average, averaged(pl_module), 1 - self.factor)

    @torch.no_grad()
    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Puts the average in the place of the weights."""
        weights = averaged(pl_module)
        self._weights = [item.clone() for item in weights]
        torch._foreach_copy_(weights, self.average)

    @torch.no_grad()
    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Puts the weights back."""
        torch._foreach_copy_(averaged(pl_module), self._weights)
        self._weights = []

    @torch.no_grad()
    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Leaves the average in the task, to be tested and kept."""
        torch._foreach_copy_(averaged(pl_module), self.average)
