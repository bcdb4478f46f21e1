"""Losses of a classifier: softmax cross-entropy and the multiclass hinge loss of the lecture slides on CNNs.

B: images, K: classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vision_repro.augmentation.mix import Mixed, cross_entropy

MARGIN = 1.0


def hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the multiclass hinge loss of each image, float `[B]`: sum over j != y of max(0, f_j - f_y + 1).

    `logits` `[B, K]` are the f, `labels` int64 `[B]` the y (CNN slides; Weston and Watkins 1999). torch's
    `multi_margin_loss` divides this by K.
    """
    right = logits.gather(1, labels[:, None])
    # the clamped sum includes j = y, which adds max(0, margin)
    return (logits - right + MARGIN).clamp(min=0).sum(1) - MARGIN


def mixed_hinge(logits: Tensor, batch: Mixed) -> Tensor:
    """Returns the mean hinge loss; a mixed image has the losses of both labels by their weights (MixUp's code)."""
    first = hinge(logits, batch.labels)
    if batch.other is None or batch.weight is None:
        return first.mean()
    return torch.lerp(hinge(logits, batch.other), first, batch.weight).mean()


LOSSES = {"softmax": cross_entropy, "hinge": mixed_hinge}
