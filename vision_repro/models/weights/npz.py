"""Converts the authors' weight files: `.npz` of ViT and hybrids (google-research/vision_transformer) and of BiT.

Each array of a file has one place in the model. Kernels have inputs before outputs in Flax and TensorFlow, and outputs
first in PyTorch. Queries, keys and values are three arrays in the file and one matrix in the model.

Legend: D features, H heads, I inputs, O outputs of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vision_repro.config import UserError

Arrays = Mapping[str, np.ndarray[Any, Any]]


class Slot(NamedTuple):
    """One array of a file: its name `there` (file) and `here` (model), and its shape in the file; -1 is any size.

    Several arrays with the same name `here` are concatenated along the first dimension.
    """

    there: str
    here: str
    shape: tuple[int, ...]


def _dense(there: str, here: str, inputs: int, outputs: int) -> Iterator[Slot]:
    yield Slot(f"{there}/kernel", f"{here}.weight", (inputs, outputs))
    yield Slot(f"{there}/bias", f"{here}.bias", (outputs,))


def _conv(there: str, here: str, layer: Any) -> Iterator[Slot]:
    outputs, inputs, height, width = layer.weight.shape
    yield Slot(f"{there}/kernel", f"{here}.weight", (height, width, inputs, outputs))
    if layer.bias is not None:
        yield Slot(f"{there}/bias", f"{here}.bias", (outputs,))


def _norm(there: str, here: str, width: int, scale: str = "scale", bias: str = "bias") -> Iterator[Slot]:
    yield Slot(f"{there}/{scale}", f"{here}.weight", (width,))
    yield Slot(f"{there}/{bias}", f"{here}.bias", (width,))


def _attention(there: str, here: str, layer: Any) -> Iterator[Slot]:
    heads, each = layer.num_heads, layer.head_dim
    for part in ("query", "key", "value"):
        yield Slot(f"{there}/{part}/kernel", f"{here}.qkv.weight", (heads * each, heads, each))
        yield Slot(f"{there}/{part}/bias", f"{here}.qkv.bias", (heads, each))
    yield Slot(f"{there}/out/kernel", f"{here}.proj.weight", (heads, each, heads * each))
    yield Slot(f"{there}/out/bias", f"{here}.proj.bias", (heads * each,))


def _transformer(model: Any) -> Iterator[Slot]:
    """Yields the slots of a ViT after its patch embedding (`vit_jax/models_vit.py`)."""
    width = model.embed_dim
    if model.cls_token is not None:
        yield Slot("cls", "cls_token", (1, 1, width))
    if model.pos_embed is not None:
        yield Slot("Transformer/posembed_input/pos_embedding", "pos_embed", (1, -1, width))
    for index, block in enumerate(model.blocks):
        there, here = f"Transformer/encoderblock_{index}", f"blocks.{index}"
        yield from _norm(f"{there}/LayerNorm_0", f"{here}.norm1", width)
        yield from _attention(f"{there}/MultiHeadDotProductAttention_1", f"{here}.attn", block.attn)
        yield from _norm(f"{there}/LayerNorm_2", f"{here}.norm2", width)
        hidden = block.mlp.fc1.out_features
        yield from _dense(f"{there}/MlpBlock_3/Dense_0", f"{here}.mlp.fc1", width, hidden)
        yield from _dense(f"{there}/MlpBlock_3/Dense_1", f"{here}.mlp.fc2", hidden, width)
    yield from _norm("Transformer/encoder_norm", "norm", width)


def _backbone(model: Any, here: str) -> Iterator[Slot]:
    """Yields the slots of a hybrid's ResNet (`vit_jax/models_resnet.py`), or of its stem if that is all it has."""
    stem, prefix = (model.stem, f"{here}.stem") if hasattr(model, "stem") else (model, here)
    yield from _conv("conv_root", f"{prefix}.conv", stem.conv)
    yield from _norm("gn_root", f"{prefix}.norm", stem.norm.num_channels)
    for row, stage in enumerate(getattr(model, "stages", ())):
        for column, block in enumerate(stage.blocks):
            there, inside = f"block{row + 1}/unit{column + 1}", f"{here}.stages.{row}.blocks.{column}"
            for part in (1, 2, 3):
                layer = block.get_submodule(f"conv{part}")
                yield from _conv(f"{there}/conv{part}", f"{inside}.conv{part}", layer)
                yield from _norm(f"{there}/gn{part}", f"{inside}.norm{part}", layer.out_channels)
            if block.downsample is not None:
                layer = block.downsample.conv
                yield from _conv(f"{there}/conv_proj", f"{inside}.downsample.conv", layer)
                yield from _norm(f"{there}/gn_proj", f"{inside}.downsample.norm", layer.out_channels)


def _vit(model: Any) -> Iterator[Slot]:
    if hasattr(model.patch_embed, "backbone"):
        yield from _backbone(model.patch_embed.backbone, "patch_embed.backbone")
    yield from _conv("embedding", "patch_embed.proj", model.patch_embed.proj)
    yield from _transformer(model)


def _bit(model: Any) -> Iterator[Slot]:
    """Yields the slots of a BiT (`bit_pytorch/models.py`)."""
    name, gamma = "standardized_conv2d", ("gamma", "beta")
    yield from _conv(f"resnet/root_block/{name}", "stem.conv", model.stem.conv)
    for row, stage in enumerate(model.stages):
        for column, block in enumerate(stage.blocks):
            there, here = f"resnet/block{row + 1}/unit{column + 1:02d}", f"stages.{row}.blocks.{column}"
            for part, letter in enumerate("abc", start=1):
                layer = block.get_submodule(f"conv{part}")
                yield from _norm(f"{there}/{letter}/group_norm", f"{here}.norm{part}", layer.in_channels, *gamma)
                yield from _conv(f"{there}/{letter}/{name}", f"{here}.conv{part}", layer)
            if block.downsample is not None:
                yield from _conv(f"{there}/a/proj/{name}", f"{here}.downsample.conv", block.downsample.conv)
    yield from _norm("resnet/group_norm", "norm", model.num_features, *gamma)


def _heads(model: Any) -> Iterator[Slot]:
    """Yields the optional slots: the head for the classes of the file's own training."""
    if isinstance(model, ResNetV2):
        yield Slot("resnet/head/conv2d/kernel", "head.fc.weight", (1, 1, -1, -1))
        yield Slot("resnet/head/conv2d/bias", "head.fc.bias", (-1,))
    else:
        yield from _dense("head", "head", -1, -1)
        yield from _dense("pre_logits", "pre_logits.fc", -1, -1)


def slots(model: nn.Module) -> tuple[list[Slot], list[Slot]]:
    """Returns the arrays that a file must hold for this model, and those that it may: head and hidden layer before it.

    Raises:
        UserError: if the authors published no files of this architecture.
    """
    if isinstance(model, VisionTransformer):
        return list(_vit(model)), list(_heads(model))
    if isinstance(model, ResNetV2) and not isinstance(model.norm, nn.Identity):
        return list(_bit(model)), list(_heads(model))
    raise UserError(f"A .npz file holds a ViT, a hybrid or a BiT, not a {type(model).__name__}.")


def _tensor(array: np.ndarray[Any, Any], slot: Slot) -> Tensor:
    """Returns the array in PyTorch's order."""
    found = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    if not slot.there.endswith("/kernel"):
        return found.flatten() if found.ndim == 2 else found  # biases are [H, D / H]; tables have three dimensions
    if found.ndim == 4:
        return found.permute(3, 2, 0, 1)
    return found.flatten(0, 1).T if slot.there.endswith("/out/kernel") else found.flatten(1).T


def _take(arrays: Arrays, slot: Slot, source: str) -> Tensor:
    """Returns the tensor of one slot.

    Raises:
        UserError: if it is missing, or has another type or shape.
    """
    if slot.there not in arrays:
        raise UserError(f'{source}: it lacks "{slot.there}".')
    array = arrays[slot.there]
    if array.dtype.kind != "f":
        raise UserError(f'{source}: its "{slot.there}" holds {array.dtype}, expected floating-point numbers.')
    if slot.shape == (array.size,):  # old flax wrote the vectors of GroupNorm as [1, 1, 1, C]
        array = array.reshape(-1)
    same = array.ndim == len(slot.shape)
    if not same or any(want not in (-1, have) for have, want in zip(array.shape, slot.shape, strict=True)):
        wanted = str(list(slot.shape)).replace("-1", "any")
        raise UserError(f'{source}: its "{slot.there}" has shape {list(array.shape)}, expected {wanted}.')
    return _tensor(array, slot)


def _surplus(arrays: Arrays, known: set[str]) -> list[str]:
    """Returns the arrays of a model in the file that have no slot; other entries, such as counters, are ignored."""
    trees = ("Transformer/", "block", "conv_root/", "gn_root/", "cls", "resnet/")
    return sorted(key for key in arrays if key.startswith(trees) and key not in known)


def convert(arrays: Arrays, model: nn.Module, source: str) -> dict[str, Tensor]:
    """Returns the arrays of a file as a state dict for `model`, with the file's own head and image size.

    `source` is the beginning of an error's sentence, as in `"ViT-B_16.npz" is not a vit-l/16`.

    Raises:
        UserError: naming the first array that is missing, has another shape, or has no place in the model.
    """
    needed, optional = slots(model)
    arrays = {key.removeprefix("opt/target/"): value for key, value in arrays.items()}
    if any(key.startswith("params/") for key in arrays):
        raise UserError(f'{source}: it is of big_vision\'s layout ("params/..."), which is not read here.')
    parts: dict[str, list[Tensor]] = {}
    for slot in (*needed, *(item for item in optional if item.there in arrays)):
        parts.setdefault(slot.here, []).append(_take(arrays, slot, source))
    left = _surplus(arrays, {slot.there for slot in (*needed, *optional)})
    if left:
        raise UserError(f'{source}: its "{left[0]}" has no place in it.')
    return {key: torch.cat(values) if len(values) > 1 else values[0] for key, values in parts.items()}
