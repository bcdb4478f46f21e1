"""Polyak averaging: validation and tests use an average of the weights over the steps (ViT, 4.1, factor 0.9999).

After each optimizer step, average = factor * average + (1 - factor) * weights; the optimizer does not use the average.

Unspecified in the paper, whose networks have no running statistics: which entries are averaged. Here all floating-point
entries of the state dict are averaged, including running statistics of batch norm, so that they match the weights.
Unspecified in paper and release: the start of the average. Here it starts at the initial weights, without correction.
After the 20,000 steps on ImageNet their share is 0.9999^20000 = 0.14.
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
    """Averages the weights of a task: the task has the average during each validation and at the end of training.

    Place it after any callback that reads the validated weights in `on_validation_end`, where it restores the weights.
    A checkpoint holds the weights and, as the state of this callback, their average; a resumed run continues both
    bitwise.
    """

    def __init__(self, factor: float) -> None:
        """Takes the factor of the previous average in each update."""
        self.factor = factor
        self.average: list[Tensor] = []
        self.step = 0
        self._weights: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """Returns the average and its step."""
        return {"average": self.average, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the average from the checkpoint."""
        self.average, self.step = list(state_dict["average"]), int(state_dict["step"])

    @torch.no_grad()
    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Starts with the weights of the task, or with the checkpoint's average, on the task's device."""
        weights = averaged(pl_module)
        kept = self.average or weights
        self.average = [item.to(own.device, copy=True) for item, own in zip(kept, weights, strict=True)]

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Adds the weights of a step to the average; accumulated batches without an optimizer step are skipped."""
        if trainer.global_step > self.step:
            self.step = trainer.global_step
            torch._foreach_lerp_(self.average, averaged(pl_module), 1 - self.factor)

    @torch.no_grad()
    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Replaces the weights of the task by the average."""
        weights = averaged(pl_module)
        self._weights = [item.clone() for item in weights]
        torch._foreach_copy_(weights, self.average)

    @torch.no_grad()
    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Restores the weights of the task."""
        torch._foreach_copy_(averaged(pl_module), self._weights)
        self._weights = []

    @torch.no_grad()
    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Puts the average into the task, where it is tested and saved."""
        torch._foreach_copy_(averaged(pl_module), self.average)
