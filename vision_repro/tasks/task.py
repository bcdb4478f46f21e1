"""The base of all objectives: optimizer, schedule, penalties, clipping, and the training loss of the learning curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from vision_repro.augmentation.augment import normalise as to_plus_minus_one


def learning_rate(step: int, total: int, warmup: int) -> float:
    """Returns the fraction of the peak rate at `step`: linear warm-up times cosine decay to 0.

    The cosine starts at the end of the warm-up (ViT release, `vit_jax/utils.py`). Warm-up starts above 0, so that a
    short run loses no step.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def decayed_and_kept(task: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Returns the weight matrices and kernels, which are decayed or penalised, and the other parameters.

    Biases, norms and the parameters that a module names in `no_weight_decay` (class token, position embeddings,
    relative biases) are not decayed. Frozen parameters are in neither list.
    Unspecified in the paper (ViT): which parameters are decayed. Here the convention of big_vision and Swin is used.
    """
    named: Any = getattr(task, "no_weight_decay", set)
    spared = set(named())
    kept: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            free = parameter.ndim < 2 or name in spared
            (kept if free else decayed).append(parameter)
    return decayed, kept


def decay_groups(task: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Returns an optimizer's parameter groups: decay on weight matrices and kernels only (`decayed_and_kept`)."""
    decayed, kept = decayed_and_kept(task)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def penalty(weights: Sequence[Tensor], l1: float, l2: float) -> Tensor:
    """Returns `l1` sum |W| + `l2` sum W^2 over the weights; with both, the elastic net (CNN slides).

    The gradient of sum W^2 is 2 W: with plain SGD, `l2` is equivalent to a weight decay of 2 `l2`. AdamW's decay
    differs, because it does not pass through the moments.
    """
    parts = []
    if l1:
        parts += [l1 * weight.abs().sum() for weight in weights]
    if l2:
        parts += [l2 * weight.square().sum() for weight in weights]
    return torch.stack(parts).sum() if parts else torch.zeros(())


class Task(LightningModule):
    """An objective around an architecture `model`; a subclass defines `training_step`, `validated` and `score`.

    `validated(expected)` returns the values of one point of the learning curve, after a pass over `val` of `expected`
    images on all ranks together; `score(values)` is higher for better weights.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float,
        weight_decay: float,
        steps: int,
        warmup: float = 0.1,
        grad_clip: float = 1.0,
        augmentation: str = "none",
        normalise: Callable[[Tensor], Tensor] = to_plus_minus_one,
        optimizer: str = "adamw",
        l1: float = 0.0,
        l2: float = 0.0,
    ) -> None:
        """Takes an architecture for images `[B, C, H, W]`.

        `warmup` is a fraction of `steps`, so that even a short run has steps after it; `grad_clip` 0 turns clipping
        off; `normalise` maps images (uint8, or float in [0, 255]) to the input of the model; `optimizer` is "adamw" or
        "sgd"; `l1` and `l2` are the factors of `penalty` in the loss of each step.
        """
        super().__init__()
        self.model = model
        self.lr = lr
        self.weight_decay = weight_decay
        self.steps = steps
        self.warmup_steps = int(warmup * steps)
        self.grad_clip = grad_clip
        self.augmentation = augmentation
        self.normalise = normalise
        self.optimizer = optimizer
        self.l1 = l1
        self.l2 = l2
        self.loss_sum = torch.zeros(())

    def no_weight_decay(self) -> set[str]:
        """Returns the names of matrices that are not decayed."""
        named: Any = getattr(self.model, "no_weight_decay", set)
        return {f"model.{name}" for name in named()}

    def validated(self, expected: int) -> dict[str, float]:
        """Returns the values of one point of the learning curve over all ranks, after a pass over `val`.

        Raises:
            RuntimeError: if the number of images in the pass is not `expected`.
        """
        raise NotImplementedError

    def score(self, values: dict[str, float]) -> float:
        """Returns a number that is higher for better weights, computed from the values of `validated`."""
        raise NotImplementedError

    def add_train_loss(self, loss: Tensor) -> Tensor:
        """Returns `loss` plus the penalties on the weights, and adds `loss` without them to the sum of training losses.

        So the learning curve shows the loss without penalties, which is comparable between runs with different ones.
        Each rank and each accumulated part adds the whole penalty, because losses are averaged over them.
        """
        # Keep a tensor: reading its number here would stall the device at each step.
        self.loss_sum = self.loss_sum.to(loss.device) + loss.detach()
        return loss + penalty(decayed_and_kept(self)[0], self.l1, self.l2) if self.l1 or self.l2 else loss

    def take_train_loss(self) -> Tensor:
        """Returns the sum of the training losses without penalties since the last call, and resets it to 0."""
        total, self.loss_sum = self.loss_sum, torch.zeros((), device=self.device)
        return total

    def counters(self, *shape: int) -> Tensor:
        """Returns counters: zeros float64 of `shape` on this process's device."""
        return torch.zeros(shape, dtype=torch.float64, device="cpu" if self.device.type == "mps" else self.device)

    def configure_optimizers(self) -> Any:
        """Returns the optimizer with warm-up and cosine decay by step.

        Deviation: cosine decay for all models instead of linear decay on JFT and ImageNet-21k (ViT, Table 3); runs here
        are short and from scratch, as those on ImageNet, for which the paper uses cosine.
        """
        groups = decay_groups(self, self.weight_decay)
        optimizer: torch.optim.Optimizer
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=self.lr, momentum=0.9, fused=True)
        else:
            optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.999), fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(step, self.steps, self.warmup_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the global norm of the gradient (ViT, Table 3: at 1 on ImageNet).

        The Trainer would refuse clipping with a fused optimizer in bf16, although gradients are not scaled in bf16.
        """
        if self.grad_clip:
            parameters = [item for group in optimizer.param_groups for item in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.grad_clip)
