"""Swin Transformer: `swin-<size>[/<patch>][-<option>...]`, as in `swin-t`, `swin-t-noshift` or `swin-32x2.2/2`.

`<size>` is t, s, b or l (Swin, section 3.3) or `<width>x<depths>`: the channels C of the first stage, and the blocks of
each stage, separated by points. Each stage has twice the channels of the one before. `<patch>` is the side of a patch
[pixels], 4 by default. Heads are 32 channels wide; the MLP has 4 times the channels.

The window is as wide as the last map, 7 tokens at 224 pixels and 12 at 384, as published; up to 64 pixels it is 4.
Where a map is not wider than the window, the window is the whole map and is not shifted, as in the released code.
Options:

- `-w<M>`: windows of M tokens; M must divide every map that is wider than M.
- `-noshift`: no shifted windows. `-nobias`: no relative position bias. `-abspos`: an absolute position embedding is
  added to the patches. These are the rows of Table 4; its "abs. pos." is `-nobias-abspos`.
- `-global`: the window is the whole map in each stage, so attention is global in the same pyramid (Eq. 1, not Eq. 2).
- `-droppath<rate>`: stochastic depth, linear from 0 at the first block to this rate at the last; `-droppath` alone has
  the rate with which the variant was trained on ImageNet-1K.

Deviation: no stochastic depth without `-droppath`; the published rates are for 300 epochs on ImageNet.
Deviation: below C = 96, the smallest published, heads are 16 channels wide instead of 32, so that a small network has
several, and linear layers are drawn by Xavier's rule, as in the ViT, instead of with a standard deviation of 0.02. That
is too small there: 100 steps on 8-pixel digits reach a test accuracy of 0.39 instead of 0.75.
Deviation: windows of 4 instead of 7 up to 64 pixels; 7 divides none of the maps there.
"""

from __future__ import annotations

import re

import torch
from timm.layers import ClassifierHead, PatchEmbed
from torch import Tensor, nn

from vision_repro.models.layers.swin_blocks import Block, PatchMerging, WindowAttention
from vision_repro.models.layers.swin_plan import NAME_PATTERN, SMALLEST, Plan, plan
from vision_repro.models.published import Published

PATTERN = re.compile(NAME_PATTERN)
FAMILIES = ("swin",)
EXAMPLES = ("swin-32x2.2/1", "swin-32x2.2/2", "swin-32x2.2.2/4", "swin-t", "swin-t-noshift", "swin-b", "swin-l")
SMALL = (
    ("swin-32x2.2/1", 8),
    ("swin-32x2.2/1-nobias-abspos", 8),
    ("swin-32x2.2/2", 32),
    ("swin-32x2.2/4-global", 32),
    ("swin-32x2.2.2/4-droppath0.1", 64),
)
_SOURCE = "Swin, Table 1 and README of the released code; exact counts: independent"
PUBLISHED = (
    Published("swin-t", 224, 28_288_354, 4.5, _SOURCE),
    Published("swin-s", 224, 49_606_258, 8.7, _SOURCE),
    Published("swin-b", 224, 87_768_224, 15.4, _SOURCE),
    Published("swin-b", 384, 87_903_584, 47.0, _SOURCE),
    Published("swin-l", 224, 196_532_476, 34.5, _SOURCE),
    Published("swin-l", 384, 196_735_516, 103.9, _SOURCE),
)


def msa_macs(height: int, width: int, channels: int) -> int:
    """Returns the multiply-adds of global self-attention over a map, 4hwC^2 + 2(hw)^2 C (Swin, Eq. 1; no softmax)."""
    return 4 * height * width * channels**2 + 2 * (height * width) ** 2 * channels


def wmsa_macs(height: int, width: int, channels: int, window: int) -> int:
    """Returns the multiply-adds of self-attention in windows, 4hwC^2 + 2M^2 hwC (Swin, Eq. 2; no softmax)."""
    return 4 * height * width * channels**2 + 2 * window**2 * height * width * channels


class Swin(nn.Module):
    """Patches, stages of blocks (each but the first begins with a merging), LayerNorm, mean over the map, linear layer.

    Parameters are named as in timm, so that both can load each other's weights.
    """

    def __init__(self, plan: Plan, *, image_size: int, classes: int) -> None:
        super().__init__()
        width, depths = plan.size.width, plan.size.depths
        self.patch_embed = PatchEmbed(image_size, plan.patch, 3, width, norm_layer=nn.LayerNorm, output_fmt="NHWC")
        self.absolute_pos_embed: nn.Parameter | None = None
        if plan.absolute:
            self.absolute_pos_embed = nn.Parameter(torch.empty(1, plan.sides[0], plan.sides[0], width))
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        total = sum(depths)
        rates = [plan.drop_path * index / max(total - 1, 1) for index in range(total)]
        self.layers = nn.Sequential()
        for stage, depth in enumerate(depths):
            ahead = sum(depths[:stage])
            self.layers.append(_stage(plan, stage, rates[ahead : ahead + depth]))
        features = width * 2 ** (len(depths) - 1)
        self.norm = nn.LayerNorm(features)
        self.head = ClassifierHead(features, classes, pool_type="avg", input_fmt="NHWC")
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _draw(module, published=width >= SMALLEST)

    def forward_features(self, images: Tensor) -> Tensor:
        """Returns the last map `[B, H / s, W / s, D]` after the norm, of images `[B, 3, H, W]`; s is its stride."""
        tokens: Tensor = self.patch_embed(images)
        if self.absolute_pos_embed is not None:
            tokens = tokens + self.absolute_pos_embed
        out: Tensor = self.norm(self.layers(tokens))
        return out

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Returns logits `[B, K]`, or with `pre_logits` the mean over the map `[B, D]`, for features `[B, H, W, D]`."""
        out: Tensor = self.head(features, pre_logits=pre_logits)
        return out

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits `[B, K]` for images `[B, 3, H, W]`."""
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        """Returns the final linear layer."""
        layer: nn.Module = self.head.fc
        return layer

    def no_weight_decay(self) -> set[str]:
        """Returns the names of the bias tables and of the absolute position embedding (released code)."""
        kinds = ("relative_position_bias_table", "absolute_pos_embed")
        return {name for name, _ in self.named_parameters() if name.endswith(kinds)}


def _draw(layer: nn.Linear, *, published: bool) -> None:
    """Draws a linear layer as the released code does if `published`, else by Xavier's rule; biases are zero."""
    if published:
        nn.init.trunc_normal_(layer.weight, std=0.02)
    else:
        nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _stage(plan: Plan, stage: int, rates: list[float]) -> nn.Module:
    """Returns a stage: a merging (except in the first stage) and blocks, every second one with shifted windows."""
    channels, side, window = plan.size.width * 2**stage, plan.sides[stage], plan.windows[stage]
    heads = channels // (32 if plan.size.width >= SMALLEST else 16)
    blocks = nn.Sequential()
    for index, rate in enumerate(rates):
        shift = window // 2 if plan.shifted and index % 2 and window < side else 0
        attention = WindowAttention(channels, heads, side=side, window=window, shift=shift, relative=plan.relative)
        blocks.append(Block(channels, attention, rate))
    whole = nn.Sequential()
    whole.add_module("downsample", PatchMerging(channels // 2) if stage else nn.Identity())
    whole.add_module("blocks", blocks)
    return whole


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the Swin Transformer `name`.

    Raises:
        UserError: if a part of the name is unknown, or the patches, mergings or windows do not divide the image.
    """
    return Swin(plan(name, image_size), image_size=image_size, classes=classes)
