"""FLOPs of a model; a multiply-add is 2 FLOPs (ViT, Table 6), so 35.13 GFLOP of a ViT-B/16 are 17.56 GMAC.

Counted are convolutions (taps on zero padding included), linear layers and both attention products; norms, activations,
softmax, the weight standardisation of BiT and the optimizer are not. `book.py` has the same count layer by layer.
"""

from __future__ import annotations

import torch
from torch import nn

from vision_repro.accounting.counter import Counter, blank_images, hollow_copy
from vision_repro.accounting.operations import Operation

FLOPS_PER_MAC = 2
"""A multiply-add is a multiplication and an addition."""
TRAINING_FACTOR = 3
"""A training step over a forward pass: the backward pass computes two products where the forward pass has one."""


def forward_flops(model: nn.Module, image_size: int, *, taps: str = "all") -> int:
    """Returns the FLOPs of one image `[1, 3, image_size, image_size]` in a forward pass; nothing is computed for it.

    `taps="inside"` leaves out the taps of convolutions that fall on zero padding. The count is made on a copy without
    storage, with explicit attention. The model is left as it is.
    """
    found: list[Operation] = []
    hollow = hollow_copy(model).eval()
    with torch.no_grad(), Counter(found.append, quick=True):
        hollow(blank_images(1, image_size))
    return FLOPS_PER_MAC * sum(item.macs if taps == "all" else item.inside for item in found)


def training_flops(forward: int, images: int) -> int:
    """Returns the FLOPs of training on `images` images (epochs x size), from the forward FLOPs of one (ViT, Table 6).

    By definition 3 x forward x images. A counter finds 0.2 % less for a ViT-B/16, as the first layer needs no gradient
    of its input, or 0.5 % more with fused attention, which computes its matrix again in the backward pass;
    `training.py` counts it for any model.
    """
    return TRAINING_FACTOR * forward * images
