"""Training accuracy and loss of the tested weights: is a deep net's error one of optimisation (ResNet, section 4.1)?

On the first 5000 training images as they are, not augmented, all layers in evaluation. The loss is the cross-entropy
of the logits [nats], whatever the run was trained with: without auxiliary classifiers, label mixing and penalties.

Deviation: one measurement after training, where the paper's Figures 4 and 6 draw the training error of the batches
while they are learnt from, augmented.
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
    """Returns nothing: there is nothing to measure yet, but time to refuse.

    Raises:
        UserError: if the run learns no classes.
    """
    if not isinstance(task, Classifier):
        raise UserError("--probes=training_accuracy counts right classes: expected --objective=supervised.")
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
