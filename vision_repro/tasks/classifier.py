"""Supervised classification around any architecture.

Shapes: B images, V views of an image, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from vision_repro.data.augment import normalise as to_plus_minus_one
from vision_repro.data.augment import training_batch
from vision_repro.data.batch import Batch
from vision_repro.data.mix import Mixed, cross_entropy
from vision_repro.models.outputs import WithAuxiliary


def learning_rate(step: int, total: int, warmup: int) -> float:
    """Returns the fraction of the peak rate at `step`: linear warm-up times cosine decay to 0.

    Progress is counted from the end of the warm-up (ViT release, `vit_jax/utils.py`). Warm-up starts above 0, so that
    no step of a short run is lost.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Returns AdamW parameter groups: decay on weight matrices and kernels only.

    Biases, norms and what the model names in `no_weight_decay` (class token, position embeddings, relative biases) are
    not decayed (big_vision's convention, and Swin's; the ViT paper does not say which were in 2020).
    """
    named: Any = getattr(model, "no_weight_decay", set)
    spared = set(named())
    kept: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        free = parameter.ndim < 2 or name in spared
        (kept if free else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def objective(output: Tensor | WithAuxiliary, batch: Mixed) -> Tensor:
    """Returns the mean cross-entropy of logits `[B, K]`; auxiliary classifiers add theirs, weighted (GoogLeNet, 5)."""
    if isinstance(output, WithAuxiliary):
        auxiliary = [cross_entropy(logits.float(), batch) for logits in output.auxiliary]
        return cross_entropy(output.logits.float(), batch) + output.weight * torch.stack(auxiliary).sum()
    return cross_entropy(output.float(), batch)


class Classifier(LightningModule):
    """Softmax cross-entropy around `model`; accuracy as counts that are added over batches and ranks, divided once.

    Deviation: softmax instead of the sigmoid cross-entropy of ViT's pre-training; the images here carry one label.
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
    ) -> None:
        """Takes an architecture that maps `[B, C, H, W]` to logits `[B, K]`, or in training to `WithAuxiliary`.

        `warmup` is a fraction of `steps`, so that the shortest run still leaves it; `grad_clip` 0 is off; `normalise`
        maps uint8 images, or float ones in [0, 255], to the input of the model.
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
        self.loss_sum = torch.zeros(())
        self.counts = torch.zeros(2, dtype=torch.float64)

    def forward(self, images: Tensor) -> Any:
        """Returns the model's output for uint8 images `[B, C, H, W]`: logits `[B, K]`, in training `WithAuxiliary`."""
        return self.model(self.normalise(images))

    def predict(self, images: Tensor) -> Tensor:
        """Returns the class int64 `[B]` of uint8 images `[B, C, H, W]`, or `[B, V, C, H, W]` with V views of each.

        Of several views the softmax outputs are averaged (AlexNet, section 4.1).
        """
        if images.ndim == 4:
            found: Tensor = self(images).argmax(1)
            return found
        scores: Tensor = self(images.flatten(0, 1)).float().softmax(1)
        return scores.view(*images.shape[:2], -1).mean(1).argmax(1)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Returns the mean cross-entropy of an augmented batch."""
        mixed = training_batch(batch, self.augmentation) if self.augmentation != "none" else Mixed(*batch)
        loss = objective(self(mixed.images), mixed)
        # A tensor, not a logged number: reading it here would stall the device at each step.
        self.loss_sum = self.loss_sum.to(loss.device) + loss.detach()
        return loss

    def take_train_loss(self) -> Tensor:
        """Returns the sum of the training losses since the last call, and starts again at 0."""
        total, self.loss_sum = self.loss_sum, torch.zeros((), device=self.device)
        return total

    def _reset_counts(self) -> None:
        self.counts = torch.zeros(2, dtype=torch.float64, device="cpu" if self.device.type == "mps" else self.device)

    def _count(self, batch: Batch) -> None:
        correct = (self.predict(batch.images) == batch.labels).sum()
        self.counts += torch.stack((correct, torch.tensor(len(batch.labels), device=correct.device)))

    def on_validation_epoch_start(self) -> None:
        """Starts the counts of `val` at 0."""
        self._reset_counts()

    def on_test_epoch_start(self) -> None:
        """Starts the counts of `test` at 0."""
        self._reset_counts()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Adds the batch's correct and seen images to the counts."""
        self._count(batch)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """Adds the batch's correct and seen images to the counts."""
        self._count(batch)

    def accuracy(self, expected: int) -> float:
        """Returns top-1 accuracy (fraction in [0, 1]) over all ranks, after a validation or test pass.

        Raises:
            RuntimeError: if the pass did not see each of the `expected` images once.
        """
        counts: Any = self.trainer.strategy.reduce(self.counts, reduce_op="sum")
        correct, seen = (int(value) for value in counts.tolist())
        if seen != expected:
            raise RuntimeError(f"evaluation saw {seen} images of a split of {expected}")
        return correct / seen

    def configure_optimizers(self) -> Any:
        """Returns AdamW with warm-up and cosine decay by step.

        Deviation: cosine decay for all models instead of linear decay on JFT and ImageNet-21k (ViT, Table 3); the runs
        here are short and from scratch, as on ImageNet, where the paper uses cosine.
        """
        groups = decay_groups(self.model, self.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.999), fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(step, self.steps, self.warmup_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:  # fmt: skip
        """Clips the global norm of the gradient (ViT, Table 3: at 1 on ImageNet).

        Done here and not by the Trainer, which refuses clipping with a fused optimizer in bf16 although nothing is
        scaled there.
        """
        if self.grad_clip:
            parameters = [item for group in optimizer.param_groups for item in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.grad_clip)
