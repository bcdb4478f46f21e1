"""What the first layer of a ViT has learned: the filters of the patch embedding, and which positions are similar.

ViT, section 4.5: Figure 7 left (filters of ViT-L/32), Figure 7 centre and Figure 10 (position embeddings).

Legend: D features, p side of a patch [pixels], G x G patches, N = G^2, T tokens, K components.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vision_repro.config import UserError
from vision_repro.models.layers.position import Positions, RelativeAttention
from vision_repro.probes.attention import plain

COMPONENTS = 28
"""Number of principal components in Figure 7."""


@torch.no_grad()
def filters(model: nn.Module, components: int = COMPONENTS) -> Tensor:
    """Returns the first principal components of the D filters as RGB tiles `[K, 3, p, p]` in [0, 1].

    K is `components`, or less if there are fewer filters or weights in a filter. Unspecified in the paper: how filters
    are prepared. Here the mean filter is subtracted, as usual for principal components; each component is divided by
    twice its weight of largest magnitude, so that 0 is mid-grey, and its sign makes this weight positive.

    Raises:
        UserError: if the model has no patch embedding of RGB pixels, or `components` is below 1.
    """
    inner: Any = plain(model)
    layer: Any = getattr(getattr(inner, "patch_embed", None), "proj", None)
    if not isinstance(layer, nn.Conv2d) or hasattr(inner.patch_embed, "backbone"):
        raise UserError(f"{type(inner).__name__} does not embed patches of RGB pixels: expected a ViT or a Swin.")
    if components < 1:
        raise UserError(f"{components} components give no picture: expected at least 1.")
    weights: Tensor = layer.weight.double().cpu()
    rows = weights.flatten(1)
    found: Tensor = torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh[:components]
    largest = found.gather(1, found.abs().argmax(1, keepdim=True))
    tiles = 0.5 + 0.5 * found / largest
    return tiles.float().reshape(-1, *weights.shape[1:])


@torch.no_grad()
def position_similarity(model: nn.Module, layer: int = 0) -> Tensor:
    """Returns cosine similarities of position embeddings `[G, G, G, G]` in [-1, 1].

    Tile (r, c) holds the similarities of the patch in row r and column c to all patches. The class token is left out.
    `layer`, from 0, matters only if each layer has its own table (`-every`).

    Raises:
        UserError: if the model adds no embedding of absolute positions to the patches.
    """
    inner: Any = plain(model)
    table, grid = _table(inner, layer), tuple(inner.patch_embed.grid_size)
    patches = F.normalize(table[-grid[0] * grid[1] :].double().cpu(), dim=1)
    return (patches @ patches.T).clamp(-1, 1).float().reshape(*grid, *grid)


def _table(model: Any, layer: int) -> Tensor:
    """Returns the table `[T, D]` or `[N, D]` that is added to the tokens; patches are last, in raster order."""
    positions = getattr(model, "positions", None)
    if isinstance(positions, Positions):
        depth = len(positions.tables) if positions.repeated else 1
        if len(positions.tables) > 1 and not 0 <= layer < depth:
            raise UserError(f"Layer {layer} has no position embedding: expected 0 to {depth - 1}.")
        added: Tensor = positions(layer)[0]
        return added
    for name in ("pos_embed", "absolute_pos_embed"):
        if isinstance(found := getattr(model, name, None), Tensor) and hasattr(model, "patch_embed"):
            return found.flatten(1, -2)[0]
    kind = type(model).__name__
    if any(isinstance(part, RelativeAttention) or _has_bias_table(part) for part in model.modules()):
        raise UserError(f"{kind} has relative positions only: there is no embedding of a position to compare.")
    raise UserError(f"{kind} has no position embedding: expected a ViT with 1-D or 2-D embeddings.")


def _has_bias_table(part: nn.Module) -> bool:
    return isinstance(getattr(part, "relative_position_bias_table", None), Tensor)
