"""Shifts: does a model predict the same class when the image moves by a few pixels?

The output of a convolution moves with its input; attention with position embeddings does not have this property (ViT,
section 3.1). The first 500 test images are moved up, down, left and right by 1, 2, 4, ... pixels, up to a quarter of
their side. Accuracy and consistency are means over the four directions. Consistency is the fraction of images whose
predicted class does not change. It needs no labels: a model that makes the same wrong prediction is consistent, and so
is a model that always predicts the same class. So read it together with accuracy.

Shifts are circular: pixels that leave on one side enter on the other. No pixel is lost, so all changes of the
prediction come from the model, and a network of circular convolutions of stride 1 with global pooling is exactly
consistent. The drawback is a seam that photographs do not have. Zhang (Making Convolutional Networks Shift-Invariant
Again, ICML 2019) shifts CIFAR's images in the same way.

Deviation: consistency compares one shift with no shift, instead of two random shifts; this shows the effect of
distance.

Legend: N images, S their side [pixels], D directions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vision_repro.probes.decisions import IMAGES, decide, share
from vision_repro.probes.images import first_images

DIRECTIONS = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Steps down and to the right."""


def distances(size: int) -> tuple[int, ...]:
    """Returns the shifts [pixels] of images of side `size`: powers of two up to a quarter of it."""
    return tuple(2**power for power in range(size.bit_length()) if 4 * 2**power <= size)


def shifted(images: Tensor, down: int, right: int) -> Tensor:
    """Returns images `[N, C, S, S]` moved circularly by `down` and `right` [pixels]."""
    return torch.roll(images, (down, right), (2, 3))


def measure_task(task: Any, module: Any) -> dict[str, tuple[float, str]]:
    """Returns `shift_accuracy_<pixels>` and `shift_consistency_<pixels>` (fractions); 00 is the unshifted image."""
    images, labels = first_images(module, "test", IMAGES)
    still = decide(task, images)
    found = {"shift_accuracy_00": share(still == labels)}
    for distance in distances(images.shape[-1]):
        moved = torch.stack([decide(task, shifted(images, distance * y, distance * x)) for y, x in DIRECTIONS])
        found[f"shift_accuracy_{distance:02}"] = share(moved == labels)  # [D, N]
        found[f"shift_consistency_{distance:02}"] = share(moved == still)
    return {name: (value, "fraction") for name, value in found.items()}
