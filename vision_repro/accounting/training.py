"""Counts a training step: its multiply-adds, and the memory that it keeps for the backward pass.

The tables define a training step as 3 x forward (`flops.training_flops`); the counts here are reported beside that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vision_repro.accounting.counter import Counter, meta_copy, meta_images, storage_key
from vision_repro.accounting.operations import Operation


@dataclass(frozen=True)
class Step:
    """One training step of a batch: multiply-adds of forward and backward pass, and bytes saved between them.

    `saved_bytes` counts the storage of every tensor that autograd saves for the backward pass, once and in its own
    dtype: images, layer inputs and outputs, softmax matrices, indices of max-pooling, masks of dropout, standardised
    copies of weights. It excludes parameters, buffers, gradients, optimizer state and workspace. `softmax_bytes` is the
    part of it in the matrices of explicit attention, which a fused kernel does not save.
    """

    macs: int
    inside_macs: int
    saved_bytes: int
    softmax_bytes: int
    batch: int


def training_step(model: nn.Module, image_size: int, batch: int = 1) -> Step:
    """Returns the cost of a training step in single precision, counted on the meta device; the model does not change.

    Auxiliary classifiers are included. For a single image BatchNorm layers run in eval mode.
    """
    meta_model = meta_copy(model).train()
    # BatchNorm in training refuses one value per channel; eval mode saves the same tensors but for two vectors a layer.
    if batch == 1:
        for module in meta_model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
    own = {storage_key(item) for item in (*meta_model.parameters(), *meta_model.buffers())}
    saved: dict[int, Tensor] = {}

    def save(tensor: Tensor) -> Tensor:
        saved.setdefault(storage_key(tensor), tensor.detach())
        return tensor

    found: list[Operation] = []
    with Counter(found.append) as counter:
        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            outputs = tree_leaves(meta_model(meta_images(batch, image_size)))
        loss = sum(item.sum() for item in outputs if isinstance(item, Tensor))
        assert isinstance(loss, Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
    sizes = {key: tensor.untyped_storage().nbytes() for key, tensor in saved.items() if key not in own}
    return Step(
        macs=sum(item.macs for item in found),
        inside_macs=sum(item.inside_macs for item in found),
        saved_bytes=sum(sizes.values()),
        softmax_bytes=sum(size for key, size in sizes.items() if key in counter.softmax),
        batch=batch,
    )
