"""A training step as it runs: its counted multiply-adds, and what it keeps for the backward pass.

By definition a training step costs 3 x forward (`flops.training_flops`); the numbers here are reported apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vision_repro.accounting.counter import Counter, blank_images, hollow_copy, storage_key
from vision_repro.accounting.operations import Operation


@dataclass(frozen=True)
class Step:
    """One training step of a batch: multiply-adds of forward and backward pass, and bytes kept between them.

    `kept` is every tensor that autograd saves for the backward pass, each memory once and at its own width: images,
    layer inputs and outputs, softmax matrices, indices of max-pooling, masks of dropout, standardised copies of
    weights. Not in it: parameters and buffers, gradients, the state of the optimizer, and work space. `softmax` is the
    part that a fused attention kernel would not keep: the matrices of explicit attention.
    """

    macs: int
    inside: int
    kept: int
    softmax: int
    batch: int


def training_step(model: nn.Module, image_size: int, batch: int = 1) -> Step:
    """Returns the account of a training step in single precision; nothing is computed, and the model is left as it is.

    Auxiliary classifiers take part. For a single image BatchNorm layers are in eval mode: they may refuse one value a
    channel, and eval mode keeps the same tensors but for two vectors a layer.
    """
    hollow = hollow_copy(model).train()
    if batch == 1:
        for module in hollow.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
    own = {storage_key(item) for item in (*hollow.parameters(), *hollow.buffers())}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved.setdefault(storage_key(tensor), tensor.detach())
        return tensor

    found: list[Operation] = []
    with Counter(found.append) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            outputs = tree_leaves(hollow(blank_images(batch, image_size)))
        loss = sum(item.sum() for item in outputs if isinstance(item, Tensor))
        assert isinstance(loss, Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
    kept = {key: tensor.untyped_storage().nbytes() for key, tensor in saved.items() if key not in own}
    return Step(
        macs=sum(item.macs for item in found),
        inside=sum(item.inside for item in found),
        kept=sum(kept.values()),
        softmax=sum(size for key, size in kept.items() if key in counter.softmax),
        batch=batch,
    )
