"""Supervised classification around any architecture.

Shapes: B images, V views of an image, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vision_repro.augmentation.augment import training_batch
from vision_repro.augmentation.batch import Batch
from vision_repro.augmentation.mix import Mixed
from vision_repro.models.layers.outputs import WithAuxiliary
from vision_repro.tasks.losses import LOSSES
from vision_repro.tasks.task import Task


def objective(output: Tensor | WithAuxiliary, batch: Mixed, loss: str = "softmax") -> Tensor:
    """Returns the mean loss of logits `[B, K]`, plus the weighted loss of auxiliary classifiers (GoogLeNet, section 5).

    `loss` is "softmax" (cross-entropy) or "hinge". Penalties on the weights are added later (`Task.add_train_loss`).
    """
    measure = LOSSES[loss]
    if isinstance(output, WithAuxiliary):
        auxiliary = [measure(logits.float(), batch) for logits in output.auxiliary]
        return measure(output.logits.float(), batch) + output.weight * torch.stack(auxiliary).sum()
    return measure(output.float(), batch)


class Classifier(Task):
    """Trains `model` with softmax cross-entropy or hinge loss.

    The model maps `[B, C, H, W]` to logits `[B, K]`, or in training to `WithAuxiliary`. Accuracy is computed from
    counts that are summed over all ranks and divided once.

    Deviation: softmax instead of the sigmoid cross-entropy of ViT's pre-training; the images here carry one label.
    """

    def __init__(self, *arguments: Any, loss: str = "softmax", **settings: Any) -> None:
        """Takes the arguments of `Task`, and `loss`: "softmax" or "hinge"."""
        super().__init__(*arguments, **settings)
        self.loss = loss
        self.counts = torch.zeros(2, dtype=torch.float64)
        self.tested: list[Tensor] = []

    def forward(self, images: Tensor) -> Any:
        """Returns the model's output for uint8 images `[B, C, H, W]`: logits `[B, K]`, in training `WithAuxiliary`."""
        return self.model(self.normalise(images))

    def predict(self, images: Tensor) -> Tensor:
        """Returns the class int64 `[B]` of uint8 images `[B, C, H, W]`, or `[B, V, C, H, W]` with V views of each.

        The softmax outputs of several views are averaged (AlexNet, section 4.1). With the hinge loss the scores are
        averaged instead, because they are not logarithms of probabilities.
        """
        if images.ndim == 4:
            found: Tensor = self(images).argmax(1)
            return found
        scores: Tensor = self(images.flatten(0, 1)).float()
        scores = scores.softmax(1) if self.loss == "softmax" else scores
        return scores.view(*images.shape[:2], -1).mean(1).argmax(1)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Returns the mean loss of an augmented batch plus the penalties on the weights."""
        mixed = training_batch(batch, self.augmentation) if self.augmentation != "none" else Mixed(*batch)
        return self.add_train_loss(objective(self(mixed.images), mixed, self.loss))

    def _count(self, batch: Batch) -> Tensor:
        found = self.predict(batch.images)
        correct = (found == batch.labels).sum()
        self.counts += torch.stack((correct, torch.tensor(len(batch.labels), device=correct.device)))
        return found

    def on_validation_epoch_start(self) -> None:
        """Starts the counts of `val` at 0."""
        self.counts = self.counters(2)

    def on_test_epoch_start(self) -> None:
        """Starts the counts of `test` at 0 with no predictions."""
        self.counts, self.tested = self.counters(2), []

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Adds the correct images and all images of the batch to the counts."""
        self._count(batch)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """Adds the correct images and all images of the batch to the counts, and keeps the predictions."""
        self.tested.append(torch.stack((self._count(batch), batch.labels), 1))

    def predictions(self) -> Tensor:
        """Returns the predicted class and the label of each image of this rank, int64 `[N, 2]` on the CPU."""
        return torch.cat(self.tested).cpu()

    def accuracy(self, expected: int) -> float:
        """Returns top-1 accuracy (fraction in [0, 1]) over all ranks, after a validation or test pass.

        Raises:
            RuntimeError: if the number of images in the pass is not `expected`.
        """
        counts: Any = self.trainer.strategy.reduce(self.counts, reduce_op="sum")
        correct, seen = (int(value) for value in counts.tolist())
        if seen != expected:
            raise RuntimeError(f"evaluation saw {seen} images of a split of {expected}")
        return correct / seen

    def validated(self, expected: int) -> dict[str, float]:
        """Returns the accuracy on `val`, computed by `accuracy`."""
        return {"val_accuracy": self.accuracy(expected)}

    def score(self, values: dict[str, float]) -> float:
        """Returns the accuracy on `val`."""
        return values["val_accuracy"]
