"""FLOPs of a model; a multiply-add is 2 FLOPs (ViT, Table 6), so the 35.13 GFLOP of a ViT-B/16 are 17.56 GMAC.

The count includes convolutions (with the taps on zero padding), linear layers and both attention products. It excludes
norms, activations, softmax, the weight standardisation of BiT and the optimizer. `profiler.py` has the same count layer
by layer.
"""

from __future__ import annotations

import torch
from torch import nn

from vision_repro.accounting.counter import Counter, meta_copy, meta_images
from vision_repro.accounting.operations import Operation

FLOPS_PER_MAC = 2
"""A multiply-add is a multiplication and an addition."""
TRAINING_FACTOR = 3
"""Cost of a training step over that of a forward pass; the backward pass has two products for each forward product."""


def forward_flops(model: nn.Module, image_size: int, *, taps: str = "all") -> int:
    """Returns the FLOPs of one image `[1, 3, image_size, image_size]` in a forward pass.

    `taps="inside"` leaves out the taps of convolutions that fall on zero padding. The count runs on a copy of the model
    on the meta device, with explicit attention; the model itself does not change.
    """
    found: list[Operation] = []
    meta_model = meta_copy(model).eval()
    with torch.no_grad(), Counter(found.append, quick=True):
        meta_model(meta_images(1, image_size))
    return FLOPS_PER_MAC * sum(item.macs if taps == "all" else item.inside_macs for item in found)


def training_flops(forward: int, images: int) -> int:
    """Returns the FLOPs of training on `images` images (epochs x size), from the forward FLOPs of one (ViT, Table 6).

    By definition these are 3 x forward x images. A counter finds 0.2 % less for a ViT-B/16, because the first layer
    needs no gradient of its input, and 0.5 % more with fused attention, which recomputes its matrix in the backward
    pass. `training.py` counts the training step of any model.
    """
    return TRAINING_FACTOR * forward * images
