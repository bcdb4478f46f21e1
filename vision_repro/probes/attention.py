"""Reads the softmax matrix of each attention layer, and finds where in the image its tokens lie.

Fused kernels never build that matrix, so no hook can read it. For one forward pass each layer therefore uses its
explicit path, whose matrix passes through `attn_drop`, and a hook reads it there. Queries and keys are computed once,
and the matrix is the one that the layer used, with relative biases and masks. If a hook is not called, an error is
raised.

Legend: B images, H heads of a layer, T tokens, P prefix tokens (class token), G x G patches, R windows, S image side
[pixels].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from vision_repro.config import UserError
from vision_repro.models.layers.swin_blocks import partition
from vision_repro.models.swin import Swin

Visit = Callable[[int, Tensor], None]


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the tokens of each attention layer lie.

    `grid` patches a side, `patch` [pixels] between their centres, both as the first layer sees them; `prefix` tokens
    before them that have no place (1 with a class token, 2 with a distillation token as well); `heads` of each layer;
    `centres` of each layer's patches [pixels] as (down, right) `[R, T - P, 2]`, R = 1 where attention is global.
    """

    grid: int
    patch: float
    prefix: int
    heads: tuple[int, ...]
    centres: tuple[Tensor, ...]

    @property
    def layers(self) -> int:
        """Number of attention layers."""
        return len(self.heads)

    @property
    def windows(self) -> tuple[int, ...]:
        """R of each layer."""
        return tuple(len(centres) for centres in self.centres)

    def between_patches(self, layer: int, weights: Tensor) -> Tensor:
        """Returns the part of weights `[B * R, H, T, T]` between patches, as a view `[B, R, H, T - P, T - P]`.

        Raises:
            UserError: if the number of tokens differs from that of this geometry.
        """
        windows, patches, _ = self.centres[layer].shape
        tokens = weights.shape[-1]
        if tokens != patches + self.prefix:
            places = f"{patches} patches and {self.prefix} other tokens"
            raise UserError(f"Attention layer {layer} has {tokens} tokens, not {places}: their places are unknown.")
        return weights.reshape(-1, windows, *weights.shape[1:])[..., self.prefix :, self.prefix :]


def layers_of(model: nn.Module) -> list[Any]:
    """Returns the self-attention layers whose softmax matrix can be read, in the order of the model."""
    return [part for part in model.modules() if hasattr(part, "fused_attn") and hasattr(part, "attn_drop")]


def _found_layers(model: nn.Module) -> list[Any]:
    layers = layers_of(model)
    if not layers:
        kind = type(plain(model)).__name__
        raise UserError(f"{kind} has no attention to look at: expected a ViT, a hybrid or a Swin Transformer.")
    return layers


def plain(model: nn.Module) -> nn.Module:
    """Returns the module that `torch.compile` has wrapped: compiled code does not call hooks that are set later."""
    inner: nn.Module = getattr(model, "_orig_mod", model)
    return inner


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Sets evaluation mode, and restores the mode of each part of the model at the end."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def _looking(layers: list[Any], hook: Visit) -> Iterator[None]:
    """Sets explicit attention and hooks on the matrices, and restores everything at the end."""
    fused = [layer.fused_attn for layer in layers]
    handles = []
    for index, layer in enumerate(layers):
        vars(layer)["fused_attn"] = False
        handles.append(layer.attn_drop.register_forward_pre_hook(partial(_hooked, hook, index)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer, flag in zip(layers, fused, strict=True):
            vars(layer)["fused_attn"] = flag


def _hooked(hook: Visit, index: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    hook(index, inputs[0])


@torch.inference_mode()
def each_attention(model: nn.Module, inputs: Tensor, visit: Visit) -> Tensor:
    """Runs the model once on float images `[B, 3, S, S]` and returns its output.

    Calls `visit(layer, weights)` for each attention layer, counted from 0, with the rows of the softmax: `[B, H, T,
    T]`, or `[B * R, H, T, T]` with windows, where the windows of an image are adjacent and in raster order. A matrix is
    freed before the next layer, unless `visit` keeps it. Restores the mode, kernels and hooks of the model.

    Raises:
        UserError: if the model has no attention layer, or one whose queries and keys come from different tokens.
        RuntimeError: if the matrix of a layer was not read, because the layer did not run or did not use its explicit
            path.
    """
    layers = _found_layers(model)
    seen: list[int] = []

    def look(index: int, weights: Tensor) -> None:
        seen.append(index)
        if weights.shape[-2] != weights.shape[-1]:
            raise UserError(f"Attention layer {index} is {weights.shape[-2]} x {weights.shape[-1]}: expected a square.")
        visit(index, weights.flatten(0, -4) if weights.ndim > 4 else weights)

    with evaluating(model), _looking(layers, look):
        # `forward`, because `model.compile()` has replaced `__call__`
        output: Tensor = plain(model).forward(inputs)
    if sorted(seen) != list(range(len(layers))):
        raise RuntimeError(f"{len(layers)} attention layers should each be read once, but these were read: {seen}.")
    return output


def geometry(model: nn.Module, image_size: int) -> Geometry:
    """Returns where the tokens of each attention layer lie for square images of `image_size` [pixels].

    Raises:
        UserError: if the model has no attention layer, its tokens are not patches of a square grid, or it is built for
            another image size.
    """
    layers = _found_layers(model)
    inner: Any = plain(model)
    embed, kind = getattr(inner, "patch_embed", None), type(inner).__name__
    if embed is None or not hasattr(embed, "grid_size"):
        raise UserError(f"{kind} has attention, but not over patches of the image: expected a ViT, a hybrid or a Swin.")
    built, grid = embed.img_size, embed.grid_size
    if not getattr(embed, "strict_img_size", True):
        built, grid = (image_size, image_size), embed.dynamic_feat_size((image_size, image_size))
    if tuple(built) != (image_size, image_size):
        size = " x ".join(str(side) for side in built)
        raise UserError(f"{kind} is built for images of {size} pixels, not {image_size}: expected images of that size.")
    if grid[0] != grid[1]:
        raise UserError(f"{kind} has {grid[0]} x {grid[1]} patches: expected as many down as across.")
    side, patch = grid[0], image_size / grid[0]
    windowed = isinstance(inner, Swin | SwinTransformer)
    centres = _windowed(inner, side, patch) if windowed else (_positions(side, patch).flatten(1, 2),) * len(layers)
    heads = tuple(int(layer.num_heads if hasattr(layer, "num_heads") else layer.heads) for layer in layers)
    return Geometry(side, patch, int(getattr(inner, "num_prefix_tokens", 0)), heads, centres)


def _positions(side: int, patch: float) -> Tensor:
    """Returns the centres of the tokens of a map [pixels], as (down, right) `[1, G, G, 2]`."""
    along = (torch.arange(side, dtype=torch.float64) + 0.5) * patch
    return torch.stack(torch.meshgrid(along, along, indexing="ij"), -1)[None]


def _windowed(model: Any, side: int, patch: float) -> tuple[Tensor, ...]:
    """Returns the centres `[R, T, 2]` of the tokens in each window of each layer of a Swin Transformer, ours or timm's.

    The cyclic shift puts tokens of opposite edges into one window; their centres do not move.
    """
    found = []
    for index, stage in enumerate(model.layers):
        wide, positions = side >> index, _positions(side >> index, patch * 2**index)
        for block in stage.blocks:
            ours = hasattr(block.attn, "shift")
            window, shift = (
                (block.attn.window, block.attn.shift) if ours else (block.window_size[0], block.shift_size[0])
            )
            if wide % window:
                raise UserError(f"Windows of {window} tokens do not divide a map of {wide}: some hold padding only.")
            found.append(partition(positions.roll((-shift, -shift), (1, 2)), window)[0])
    return tuple(found)
