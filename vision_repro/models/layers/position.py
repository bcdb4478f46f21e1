"""Position embeddings of a ViT, and the layers to which they are added (ViT, sections 3.1 and D.4).

Legend: B images, N = G x G patches in raster order, T tokens (the N patches, after the class token if there is one),
D features, H heads of D / H features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Attention
from torch import Tensor, nn

STD = 0.02
"""Standard deviation of all embeddings at the start (`vit_jax/models_vit.py`)."""


def _learned(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.normal_(torch.empty(shape), std=STD))


class Table(nn.Module):
    """1-D: a learned row for each token in raster order; the default of the paper."""

    def __init__(self, side: int, width: int, class_token: bool) -> None:
        """Takes G, D and whether token 0 is a class token."""
        super().__init__()
        self.table = _learned(1, side**2 + class_token, width)

    def forward(self) -> Tensor:
        """Returns the embedding `[1, T, D]`."""
        return self.table


class TwoTables(nn.Module):
    """2-D: the concatenation of a vector of D / 2 for the column of a patch and one of D / 2 for its row.

    Deviation: the class token has its own vector of width D; the paper does not say which embedding it has.
    """

    def __init__(self, side: int, width: int, class_token: bool) -> None:
        """Takes G, an even D and whether token 0 is a class token."""
        super().__init__()
        self.columns = _learned(side, width // 2)
        self.rows = _learned(side, width // 2)
        self.class_row = _learned(1, width) if class_token else None

    def forward(self) -> Tensor:
        """Returns the embedding `[1, T, D]`."""
        side = len(self.rows)
        across, down = self.columns.expand(side, -1, -1), self.rows[:, None].expand(-1, side, -1)
        patches = torch.cat((across, down), 2).flatten(0, 1)
        tokens = patches if self.class_row is None else torch.cat((self.class_row, patches))
        return tokens[None]


class Positions(nn.Module):
    """Position embeddings that are added to the input of the first layer (`stem`) or of all layers.

    With `every` each layer has its own table, with `shared` all layers have the same one.
    """

    def __init__(
        self, kind: type[Table] | type[TwoTables], placement: str, depth: int, side: int, width: int, class_token: bool
    ) -> None:
        """Takes the kind of table, the placement, the number of layers, G, D and whether there is a class token."""
        super().__init__()
        count = depth if placement == "every" else 1
        self.tables = nn.ModuleList(kind(side, width, class_token) for _ in range(count))
        self.repeated = placement != "stem"

    def forward(self, layer: int) -> Tensor:
        """Returns the embedding `[1, T, D]` that is added to the input of `layer`, counted from 0."""
        found: Tensor = self.tables[min(layer, len(self.tables) - 1)]()
        return found


def relative_logits(query: Tensor, offsets: Tensor) -> Tensor:
    """Returns logits `[B, H, T, T]` of queries `[B, H, T, D / H]` with embeddings `[H, 2T - 1, D / H]` as keys.

    Row j of `offsets` is the embedding of p_query - p_key = T - 1 - j, so entry (q, k) of the result uses row
    k - q + T - 1. All products are computed first, as lines of 2T - 1. Padding each line to 2T and reading them again
    in lines of 2T - 1 moves every line one place further than the line before, which aligns the entries.
    """
    tokens = query.shape[2]
    products = F.pad(query @ offsets.mT, (0, 1)).flatten(2)
    moved = products[..., tokens - 1 : tokens - 1 + tokens * (2 * tokens - 1)]
    return moved.reshape(*query.shape[:2], tokens, 2 * tokens - 1)[..., :tokens]


class RelativeAttention(Attention):  # type: ignore[misc]  # timm is untyped
    """1-D relative attention: each offset p_query - p_key has an embedding, which the query sees as a further key.

    The logits of these keys are added to those of the content before the softmax (ViT, section D.4).
    Deviation: each layer has its own embeddings of width D, split into heads and scaled like the keys, and the class
    token has position 0, before the first patch; the paper states neither.
    """

    def add_offsets(self, tokens: int) -> None:
        """Draws the embeddings `[2T - 1, D]` for sequences of `tokens`; call it once, before the first forward pass."""
        self.offsets = _learned(2 * tokens - 1, self.attn_dim)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Returns tokens `[B, T, D]` after attention by content and offset.

        timm's blocks pass the arguments of a mask; no ViT here has one.

        Raises:
            NotImplementedError: for a mask.
        """
        if attn_mask is not None or is_causal:
            raise NotImplementedError("relative attention takes no mask")
        batch, tokens, _ = x.shape
        joint = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim)
        query, key, value = joint.permute(2, 0, 3, 1, 4)
        offsets = self.offsets.reshape(-1, self.num_heads, self.head_dim).transpose(0, 1)
        bias = self.scale * relative_logits(query, offsets)
        if self.fused_attn:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        else:
            mixed = self.attn_drop((self.scale * query @ key.mT + bias).softmax(-1)) @ value
        output: Tensor = self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2)))
        return output
