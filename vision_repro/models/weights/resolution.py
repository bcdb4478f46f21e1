"""Changes the image size of weights: interpolates position embeddings to the new places of the patches in the image.

Patches keep their size, so a larger image has more of them (ViT, section 3.2).

The rule is that of the released code, `scipy.ndimage.zoom(grid, new / old, order=1)` (`vit_jax/checkpoint.py`): linear
in both directions, with the corners of both grids at the same places; the class token does not change. timm's own
resizing, bicubic with antialiasing, is not used here: it differs by 0.15 to 0.35 standard deviations of the embedding.

Legend: G x G patches, P tokens before them (the class token), D features.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vision_repro.config import UserError

_GRID = re.compile(r"pos_embed|positions\.tables\.\d+\.table")
_LINE = re.compile(r"positions\.tables\.\d+\.(columns|rows)")
_OFFSETS = re.compile(r"blocks\.\d+\.attn\.offsets")


def resize_grid(table: Tensor, side: int) -> Tensor:
    """Returns the table of a square grid in raster order, `[1, G * G, D]`, interpolated to `[1, side * side, D]`."""
    old = math.isqrt(table.shape[1])
    grid = table.reshape(1, old, old, -1).permute(0, 3, 1, 2).double()  # as in scipy; float32 has errors of 5e-6
    resized = F.interpolate(grid, size=(side, side), mode="bilinear", align_corners=True)
    return resized.permute(0, 2, 3, 1).reshape(1, side * side, -1).to(table.dtype)


def resize_line(table: Tensor, side: int) -> Tensor:
    """Returns the table of the rows or of the columns of a grid, `[G, D]`, interpolated to `[side, D]`.

    Interpolating both tables and concatenating them gives the interpolated grid, as it is linear in each direction.
    """
    resized = F.interpolate(table.T[None].double(), size=side, mode="linear", align_corners=True)
    return resized[0].T.to(table.dtype)


def _resize_tokens(key: str, table: Tensor, before: int, side: int, source: str) -> Tensor:
    """Returns a table `[1, P + G * G, D]` interpolated to `[1, P + side * side, D]`.

    Raises:
        UserError: if it is of no square grid.
    """
    patches = table.shape[1] - before
    if patches < 1 or math.isqrt(patches) ** 2 != patches:
        needed = f"a square number and {before} more" if before else "a square number"
        raise UserError(
            f'{source} has {table.shape[1]} rows in "{key}": expected {needed}, for a square grid of patches.'
        )
    return torch.cat((table[:, :before], resize_grid(table[:, before:], side)), dim=1)


def to_resolution(state: Mapping[str, Tensor], model: nn.Module, source: str = "The state dict") -> dict[str, Tensor]:
    """Returns the state dict of a ViT or hybrid with its position embeddings interpolated to the image size of `model`.

    Interpolated are learned 1-D tables, the two tables of 2-D embeddings, and the tables of every layer. All else is
    returned unchanged. `source` is the beginning of an error's sentence.

    Raises:
        UserError: if a table is of no square grid, or if the embeddings are relative. A 1-D offset has no place in the
            image to interpolate, as it mixes both directions: one row down equals G columns across.
    """
    wanted, side = model.state_dict(), grid_side(model)
    vit: Any = model
    result = dict(state)
    for key, value in state.items():
        target = wanted.get(key)
        if target is None or value.shape == target.shape or value.ndim != target.ndim:
            continue
        if value.shape[-1] != target.shape[-1]:
            continue  # another variant, which `files.check_shapes` refuses later
        if _OFFSETS.fullmatch(key):
            raise UserError(f"{source} is of another image size, and 1-D relative embeddings cannot be interpolated.")
        if side is not None and _GRID.fullmatch(key):
            before = 0 if vit.no_embed_class else vit.num_prefix_tokens
            result[key] = _resize_tokens(key, value, before, side, source)
        elif _LINE.fullmatch(key):
            result[key] = resize_line(value, len(target))
    return result


def grid_side(model: nn.Module) -> int | None:
    """Returns G of a ViT or hybrid, ours or timm's, with a square grid of patches; None for any other model."""
    if not isinstance(model, VisionTransformer):
        return None
    across, down = model.patch_embed.grid_size
    return int(across) if across == down else None
