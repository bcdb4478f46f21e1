"""What every objective shares: the optimizer, its schedule, penalties, clipping, and the loss of a learning curve."""

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

    Progress is counted from the end of the warm-up (ViT release, `vit_jax/utils.py`). Warm-up starts above 0, so that
    no step of a short run is lost.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def decayed_and_kept(task: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Returns the weight matrices and kernels, which are decayed or penalised, and the other parameters.

    Biases, norms and what a module names in `no_weight_decay` (class token, position embeddings, relative biases) are
    not decayed (big_vision's convention, and Swin's; the ViT paper does not say which were in 2020). Frozen parameters
    are in neither list.
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

    The gradient of sum W^2 is 2 W: with plain SGD, `l2` does what a weight decay of 2 `l2` does. AdamW's decay does not
    pass through its moments, and differs.
    """
    parts = []
    if l1:
        parts += [l1 * weight.abs().sum() for weight in weights]
    if l2:
        parts += [l2 * weight.square().sum() for weight in weights]
    return torch.stack(parts).sum() if parts else torch.zeros(())


class Task(LightningModule):
    """An objective around an architecture `model`; a subclass adds `training_step`, `validated` and `score`.

    `validated(expected)` returns the values of one point of the learning curve, after a pass over `val` that must have
    seen `expected` images on all ranks together; `score(values)` is higher where the weights are better.
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

        `warmup` is a fraction of `steps`, so that the shortest run still leaves it; `grad_clip` 0 is off; `normalise`
        maps uint8 images, or float ones in [0, 255], to the input of the model; `optimizer` is "adamw" or "sgd"; `l1`
        and `l2` are the factors of `penalty` in the loss of each step.
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
        """Returns the names of the parameters that are not decayed although they are matrices."""
        named: Any = getattr(self.model, "no_weight_decay", set)
        return {f"model.{name}" for name in named()}

    def validated(self, expected: int) -> dict[str, float]:
        """Returns the values of one point of the learning curve over all ranks, after a pass over `val`.

        Raises:
            RuntimeError: if the pass did not see each of the `expected` images once.
        """
        raise NotImplementedError

    def score(self, values: dict[str, float]) -> float:
        """Returns what is higher for better weights, of the values of `validated`."""
        raise NotImplementedError

    def add_train_loss(self, loss: Tensor) -> Tensor:
        """Returns `loss` with the penalties on the weights, after adding it without them to `take_train_loss`'s sum.

        So the curve shows the loss of the data, which can be compared between runs with different penalties. A rank's
        share of a batch has the whole penalty, as losses are averaged over ranks and accumulated parts.
        """
        # A tensor, not a logged number: reading it here would stall the device at each step.
        self.loss_sum = self.loss_sum.to(loss.device) + loss.detach()
        return loss + penalty(decayed_and_kept(self)[0], self.l1, self.l2) if self.l1 or self.l2 else loss

    def take_train_loss(self) -> Tensor:
        """Returns the sum of the training losses, without penalties, since the last call, and starts again at 0."""
        total, self.loss_sum = self.loss_sum, torch.zeros((), device=self.device)
        return total

    def counters(self, *shape: int) -> Tensor:
        """Returns zeros float64 of `shape` on this process's device, to count with."""
        return torch.zeros(shape, dtype=torch.float64, device="cpu" if self.device.type == "mps" else self.device)

    def configure_optimizers(self) -> Any:
        """Returns the optimizer with warm-up and cosine decay by step.

        Deviation: cosine decay for all models instead of linear decay on JFT and ImageNet-21k (ViT, Table 3); the runs
        here are short and from scratch, as on ImageNet, where the paper uses cosine.
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

        Done here and not by the Trainer, which refuses clipping with a fused optimizer in bf16 although nothing is
        scaled there.
        """
        if self.grad_clip:
            parameters = [item for group in optimizer.param_groups for item in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.grad_clip)
