"""Hybrid: `r<depth>[x<width>][/<stem>]+vit-<size>/<stride>`, as in `r50+vit-b/16` or `r8x0.25+vit-64x3/2`.

A ViT over the feature map of a ResNet, each pixel of the map one token (ViT, sections 3.1 and 4.1). The ResNet part is
named as in `bit.py`, the size as in `vit.py`. `<stride>` is the down-sampling of the ResNet and sets how many of its
stages there are; blocks of the stages beyond move into the last one that stays, as in the paper's R50+ViT-B/16.

The ResNet is the post-activation one of the released code (`vit_jax/models_resnet.py`): GroupNorm, weight
standardisation, "same" padding, and the last GroupNorm of each block starts at zero.
Deviation: 1e-8 is added to the variance of a filter, not 1e-5 to its standard deviation; timm's value, for the same
purpose.
Deviation: no dropout (0.1 in some released hybrids), as for the ViT here.
Deviation: small names (stems of stride 1 and 2, depths below 26, widths below 1) as in `bit.py`.
"""

from __future__ import annotations

import re
from functools import partial

from timm.layers import HybridEmbed, StdConv2dSame
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vision_repro.config import UserError
from vision_repro.models import bit, vit

PATTERN = re.compile(rf"{bit.BODY_PATTERN}\+vit-{vit.SIZE_PATTERN}/(?P<stride>\d+)")
EXAMPLES = ("r8x0.25+vit-64x3/2", "r50+vit-b/16", "r50+vit-b/32", "r50+vit-l/16", "r50+vit-l/32", "r26+vit-s/32")


def stages(blocks: tuple[int, ...], stem: int, stride: int) -> tuple[int, ...]:
    """Returns the blocks of each stage of a ResNet that down-samples by `stride`, its stem by `stem`.

    All blocks are kept: (3, 4, 6, 3) at stem 4 and stride 16 is (3, 4, 9).

    Raises:
        UserError: if these blocks cannot reach the stride.
    """
    reachable = [stem * 2**index for index in range(len(blocks))]
    if stride not in reachable:
        raise UserError(f"A ResNet of {len(blocks)} stages and stem stride {stem} reaches {reachable}, not {stride}.")
    kept = reachable.index(stride)
    return (*blocks[:kept], sum(blocks[kept:]))


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the hybrid `name`, with a head of zeros.

    Raises:
        UserError: if a part of the name is unknown or the stride does not divide the image.
    """
    match = PATTERN.fullmatch(name)
    assert match is not None
    size, stride = vit.parse_size(match["size"]), int(match["stride"])
    stem = bit.stem_stride(match["stem"], image_size)
    layers = stages(bit.blocks(match["depth"]), stem, stride)
    if image_size % stride:
        raise UserError(f"{name}: {image_size}-pixel images do not divide by the stride {stride}.")
    backbone = bit.resnet(
        layers,
        float(match["width"] or 1),
        stem,
        conv=partial(StdConv2dSame, eps=1e-8),
        num_classes=0,
        global_pool="",
        preact=False,
        stem_type="same",
        zero_init_last=True,
    )
    model = VisionTransformer(
        img_size=image_size,
        num_classes=classes,
        embed_dim=size.width,
        depth=size.depth,
        num_heads=size.heads,
        embed_layer=partial(HybridEmbed, backbone=backbone),
        patch_size=1,
        weight_init="jax",
    )
    return vit.initialise(model)
