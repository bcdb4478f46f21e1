"""Vision Transformer: `vit-<size>/<patch>`, as in `vit-b/16` or `vit-64x4/2`.

`<size>` is a published one (ViT, Table 1; ti, s, m and mu are of the authors' code; b-half is the ViT-b of Figure 4) or
`<width>x<depth>` with an MLP of 4 x width; `<patch>` is the side of a patch [pixels].
Heads of a `<width>x<depth>` are 16 wide up to width 64, 32 wide up to width 256 and 64 wide above, like the published.

Deviation: no hidden tanh layer before the head in pre-training; the released fine-tuning has none, and one architecture
then serves training, transfer and probes.
Deviation: GELU is the exact one, not the tanh approximation of the released code; they differ by less than 1e-3.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vision_repro.config import UserError, nearest

SIZE_PATTERN = r"(?P<size>[a-z][a-z-]*|\d+x\d+)"
PATTERN = re.compile(rf"vit-{SIZE_PATTERN}/(?P<patch>\d+)")
EXAMPLES = ("vit-32x4/2", "vit-64x4/2", "vit-64x4/4", "vit-128x6/4", "vit-s/16", "vit-b/16", "vit-l/16", "vit-h/14")


class Size(NamedTuple):
    """Width D, number of blocks and attention heads of a Transformer; the MLP is 4 x D wide."""

    width: int
    depth: int
    heads: int


SIZES = {
    "mu": Size(32, 1, 2),
    "ti": Size(192, 12, 3),
    "s": Size(384, 12, 6),
    # Deviation: 6 heads; the paper does not say how many its ViT-b has, and all other sizes but H have 64-wide heads.
    "b-half": Size(384, 12, 6),
    "m": Size(512, 12, 8),
    "b": Size(768, 12, 12),
    "l": Size(1024, 24, 16),
    "h": Size(1280, 32, 16),
}


def parse_size(text: str) -> Size:
    """Returns the `Size` of a published name or of `<width>x<depth>`.

    Raises:
        UserError: if the name is unknown or the width does not divide into heads.
    """
    if text in SIZES:
        return SIZES[text]
    if not text[0].isdigit():
        known = ", ".join(SIZES)
        raise UserError(f'ViT size "{text}" is unknown: expected {known} or <width>x<depth>.{nearest(text, SIZES)}')
    width, depth = (int(part) for part in text.split("x"))
    head_width = 16 if width <= 64 else 32 if width <= 256 else 64
    if width == 0 or depth == 0 or width % head_width:
        raise UserError(f"ViT size {text}: expected a width that {head_width} divides and at least one block.")
    return Size(width, depth, width // head_width)


@torch.no_grad()
def initialise(model: VisionTransformer) -> nn.Module:
    """Returns timm's `weight_init="jax"` model as the released code initialises it (`vit_jax/models_vit.py`).

    timm draws the joint query-key-value matrix as one Xavier matrix, whose bound is smaller by sqrt(2) than that of the
    three matrices it stands for, and starts the class token at 1e-6 instead of zero.
    """
    model.cls_token.zero_()
    for block in model.blocks:
        for part in block.attn.qkv.weight.chunk(3):
            nn.init.xavier_uniform_(part)
    whole: nn.Module = model
    return whole


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the ViT `name`, with a head of zeros.

    Raises:
        UserError: if the size is unknown or the patch does not divide the image.
    """
    match = PATTERN.fullmatch(name)
    assert match is not None
    size, patch = parse_size(match["size"]), int(match["patch"])
    if patch == 0 or image_size % patch:
        raise UserError(f"{name}: {image_size}-pixel images do not divide into patches of {patch} pixels.")
    model = VisionTransformer(
        img_size=image_size,
        patch_size=patch,
        num_classes=classes,
        embed_dim=size.width,
        depth=size.depth,
        num_heads=size.heads,
        weight_init="jax",
    )
    return initialise(model)
