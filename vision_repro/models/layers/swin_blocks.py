"""Blocks of the Swin Transformer: attention in windows with cyclic shift, mask and relative bias; merging of patches.

Legend: B images, H x W tokens of a map, M x M = N tokens of a window, R = H W / N windows, C channels, A heads,
D = C / A.
"""

from __future__ import annotations

import math

import torch
from timm.layers import DropPath, Mlp
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

BARRIER = -100.0
"""Added to the logits of two tokens that are in the same window only because of the cyclic shift."""


def partition(tokens: Tensor, window: int) -> Tensor:
    """Returns the windows `[B, R, N, C]` of a map `[B, H, W, C]`, row by row; `window` must divide H and W."""
    batch, height, width, channels = tokens.shape
    grid = tokens.reshape(batch, height // window, window, width // window, window, channels)
    return grid.transpose(2, 3).reshape(batch, -1, window * window, channels)


def merge(windows: Tensor, height: int, width: int) -> Tensor:
    """Returns the map `[B, H, W, C]` of windows `[B, R, N, C]`; the inverse of `partition`."""
    batch, _, area, channels = windows.shape
    side = math.isqrt(area)
    grid = windows.reshape(batch, height // side, width // side, side, side, channels)
    return grid.transpose(2, 3).reshape(batch, height, width, channels)


def relative_index(window: int) -> Tensor:
    """Returns for each query and key their row in the bias table, `[N, N]`, from 0 to (2M - 1)^2 - 1.

    Rows are in the order of the released code: by the vertical, then the horizontal offset of the query from the key.
    """
    row, column = torch.arange(window).repeat_interleave(window), torch.arange(window).repeat(window)
    down = row[:, None] - row[None, :] + window - 1
    right = column[:, None] - column[None, :] + window - 1
    return down * (2 * window - 1) + right


def shift_mask(side: int, window: int, shift: int) -> Tensor:
    """Returns the mask `[R, N, N]` of 0 and `BARRIER` for the logits of a square map that is rolled by `-shift`.

    The last `shift` rows and columns come from the opposite edge. In a window with both kinds of rows or columns the
    two kinds do not attend to each other.
    """
    rolled = (torch.arange(side) >= side - shift).long()
    region = 2 * rolled[:, None] + rolled[None, :]
    windows = partition(region[None, :, :, None], window)[0, :, :, 0]
    return torch.where(windows[:, :, None] == windows[:, None, :], 0.0, BARRIER)


class WindowAttention(nn.Module):
    """Multi-head self-attention within each window of a square map (Swin, Eq. 3 and 4).

    With `fused_attn` torch's fused kernel computes it. Without, the softmax matrix `[B, R, A, N, N]` is computed and
    passes through `attn_drop`, where a hook can read it. Parameters are named as in timm and in the released code.
    """

    def __init__(self, channels: int, heads: int, *, side: int, window: int, shift: int, relative: bool) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.fused_attn = True
        self.qkv = nn.Linear(channels, 3 * channels)
        self.attn_drop = nn.Identity()
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table: nn.Parameter | None = None
        if relative:
            self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
            nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.relative_position_index: Tensor | None
        self.attn_mask: Tensor | None
        self.register_buffer("relative_position_index", relative_index(window) if relative else None, persistent=False)
        self.register_buffer("attn_mask", shift_mask(side, window, shift) if shift else None, persistent=False)

    def bias(self) -> Tensor | None:
        """Returns bias and mask of the logits: `[R or 1, A, N, N]`, `[R, 1, N, N]` without relative bias, or None."""
        barrier = None if self.attn_mask is None else self.attn_mask[:, None]
        if self.relative_position_bias_table is None or self.relative_position_index is None:
            return barrier
        index = self.relative_position_index
        bias = self.relative_position_bias_table[index.flatten()].reshape(*index.shape, -1).permute(2, 0, 1)[None]
        return bias if barrier is None else bias + barrier

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns tokens `[B, H, W, C]` after attention."""
        height, width = tokens.shape[1:3]
        if self.shift:
            tokens = tokens.roll((-self.shift, -self.shift), (1, 2))
        windows = partition(tokens, self.window)
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        attend = self._fused if self.fused_attn else self._explicit
        mixed = attend(*qkv.unbind(0)).transpose(2, 3).flatten(3)
        out = merge(self.proj(mixed), height, width)
        return out.roll((self.shift, self.shift), (1, 2)) if self.shift else out

    def _explicit(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Returns `[B, R, A, N, D]` for queries, keys and values of this shape; computes the softmax matrix."""
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        bias = self.bias()
        logits = logits if bias is None else logits + bias
        mixed: Tensor = self.attn_drop(logits.softmax(-1)) @ value
        return mixed

    def _fused(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Returns the same as `_explicit`, by torch's fused kernel.

        The kernel takes four axes and one bias for all images. Windows are folded into heads, so that the bias, which
        differs between windows, is not copied for each image.
        """
        bias = self.bias()
        if bias is not None:
            bias = bias.expand(query.shape[1], self.heads, -1, -1).flatten(0, 1).contiguous()
        query_, key_, value_ = (part.flatten(1, 2) for part in (query, key, value))
        return scaled_dot_product_attention(query_, key_, value_, attn_mask=bias).reshape(query.shape)


class Block(nn.Module):
    """Attention in windows, then an MLP, each after a LayerNorm and with a shortcut (Swin, Eq. 3)."""

    def __init__(self, channels: int, attention: WindowAttention, drop_path: float) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(channels), attention
        self.norm2, self.mlp = nn.LayerNorm(channels), Mlp(channels, 4 * channels)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the output `[B, H, W, C]` of the block for tokens `[B, H, W, C]`."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        out: Tensor = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return out


class PatchMerging(nn.Module):
    """Merges 2x2 tokens into one with twice the channels: LayerNorm of all four, then a linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns tokens `[B, H / 2, W / 2, 2C]` for tokens `[B, H, W, C]`."""
        # Down, then right, as in the released code: the weights depend on this order.
        corners = [tokens[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        merged: Tensor = self.reduction(self.norm(torch.cat(corners, -1)))
        return merged
