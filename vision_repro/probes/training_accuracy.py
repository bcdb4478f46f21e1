"""Training accuracy and loss of the tested weights: does a deep network fail to optimise (ResNet, section 4.1)?

Measured on the first 5000 training images without augmentation, in eval mode. The loss is the cross-entropy of the
logits [nats], whatever loss the run was trained with: without auxiliary classifiers, label mixing and penalties.

Deviation: one measurement after training instead of the error on augmented training batches over time (Figures 4 and
6); a single number of the tested weights is compared.
Legend: N images.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from vision_repro.config import UserError
from vision_repro.probes.images import first_images
from vision_repro.tasks.classifier import Classifier

IMAGES = 5000
PART = 250
"""Images in a forward pass."""


def measure_start(task: Any, module: Any) -> dict[str, tuple[float, str]]:
    """Returns nothing: only checks, before training, that the run can be measured.

    Raises:
        UserError: if the run does not learn classes.
    """
    if not isinstance(task, Classifier):
        raise UserError("--probes=training_accuracy needs class predictions: expected --objective=supervised.")
    return {}


@torch.inference_mode()
def measure_task(task: Any, module: Any) -> dict[str, tuple[float, str]]:
    """Returns `train_accuracy` (fraction) and `final_train_loss` (nats, mean over the images)."""
    batch = first_images(module, "train", IMAGES)
    count = len(batch.labels)
    correct = torch.zeros((), dtype=torch.int64)
    loss = torch.zeros((), dtype=torch.float64)
    for start in range(0, count, PART):
        images, labels = (values[start : start + PART].to(task.device) for values in batch)
        logits = task.model.forward(task.normalise(images)).float()
        correct += (logits.argmax(1) == labels).sum().cpu()
        loss += cross_entropy(logits, labels, reduction="sum").cpu()
    return {
        "train_accuracy": (int(correct) / count, "fraction"),
        "final_train_loss": (float(loss) / count, "nats"),
    }
