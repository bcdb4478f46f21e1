"""Hybrid: `r<depth>[x<width>][/<stem>]+vit-<size>/<stride>[-<option>]...`, as in `r50+vit-b/16`.

A ViT over the feature map of a ResNet: each pixel of the map is a token (ViT, sections 3.1 and 4.1). The ResNet is
named as in `bit.py`, the size and the options as in `vit.py`. `<stride>` is the down-sampling of the ResNet and decides
how many stages it has. The blocks of the stages that are left out are added to the last stage, as in the paper's
R50+ViT-B/16. Without `<depth>` the ResNet is its stem alone, and a token is a patch of the stem's map: `r+vit-ti/32`
has patches of 8x8 on a map of stride 4. The release calls it R+ViT-Ti/16, although its tokens are 32 pixels apart.

The ResNet is the post-activation one of the released code (`vit_jax/models_resnet.py`): GroupNorm, weight
standardisation, "same" padding, and zero for the scale of the last GroupNorm of each block at the start.

Deviation: weight standardisation adds 1e-8 to the variance of a filter instead of 1e-5 to its standard deviation;
this is timm's layer, and both only prevent a division by zero.
Deviation: no dropout without -drop<rate>; the released R50+ViT-B/16 and R50+ViT-L/32 have -drop0.1.
Deviation: stems of stride 1 and 2, depths below 26 and widths below 1, as in `bit.py`.
"""

from __future__ import annotations

import re
from functools import partial

from timm.layers import HybridEmbed, StdConv2dSame
from torch import nn

from vision_repro.config import UserError
from vision_repro.models import bit
from vision_repro.models.published import Published
from vision_repro.models.variants import OPTIONS_PATTERN, SIZE_PATTERN, parse_options, parse_size
from vision_repro.models.vit import ViT

PATTERN = re.compile(rf"r(?P<depth>\d*){bit.BODY_PATTERN}\+vit-{SIZE_PATTERN}/(?P<stride>\d+){OPTIONS_PATTERN}")
FAMILIES = ("hybrid",)
EXAMPLES = ("r8x0.25+vit-64x3/2", "r50+vit-b/16", "r50+vit-b/32", "r50+vit-l/16", "r50+vit-l/32", "r26+vit-s/32")
_RELEASE = "google-research/vision_transformer, vit_jax/configs/models.py; counted"
PUBLISHED = (
    Published("r50+vit-b/32", 224, 110_945_832, None, "ViT, Table 6, as R50+ViT-L/32; counted"),
    Published("r50+vit-b/16", 224, 98_659_112, None, _RELEASE),
    Published("r50+vit-l/32", 224, 328_994_856, None, _RELEASE),
    Published("r50+vit-l/16", 224, 316_483_624, None, "ViT, Table 6, as R50+ViT-B/16; counted"),
    Published("r26+vit-s/32", 224, 36_431_912, None, _RELEASE),
    Published("r26+vit-b/32", 224, 101_383_976, None, _RELEASE),
    Published("r+vit-ti/32", 224, 6_337_704, None, _RELEASE),
)
SMALL = (
    ("r8x0.25+vit-64x2/2", 8), ("r8x0.25/2+vit-64x2/4", 32), ("r11x0.125/4+vit-64x2/16", 64),
    ("rx0.25+vit-32x2/2", 8), ("r/4+vit-32x2/8-drop0.1", 32), ("r8x0.125+vit-32x2/2-gap-pos2d-shared-tanh", 8),
)  # fmt: skip


def stages(blocks: tuple[int, ...], stem: int, stride: int) -> tuple[int, ...]:
    """Returns the number of blocks of each stage of a ResNet that down-samples by `stride`, its stem by `stem`.

    All blocks are kept: (3, 4, 6, 3) becomes (3, 4, 9) with a stem of 4 and a stride of 16.

    Raises:
        UserError: if the stages cannot reach the stride.
    """
    reachable = [stem * 2**index for index in range(len(blocks))]
    if stride not in reachable:
        raise UserError(f"A ResNet of {len(blocks)} stages and stem stride {stem} reaches {reachable}, not {stride}.")
    kept = reachable.index(stride)
    return (*blocks[:kept], sum(blocks[kept:]))


def _backbone(depth: str, width: float, stem: int, stride: int) -> tuple[nn.Module, int]:
    """Returns the ResNet, or its stem if there is no depth, and the side of a token [pixels of the map].

    Raises:
        UserError: if the depth is unknown, or the stem and the stages cannot reach the stride.
    """
    if not depth and (stride == 0 or stride % stem):
        raise UserError(f"A stem of stride {stem} has no patches {stride} pixels apart: expected a multiple of {stem}.")
    model = bit.resnet(
        stages(bit.blocks(depth), stem, stride) if depth else (),
        width,
        stem,
        conv=partial(StdConv2dSame, eps=1e-8),
        num_classes=0,
        global_pool="",
        preact=False,
        stem_type="same",
        zero_init_last=True,
    )
    return (model, 1) if depth else (model.stem, stride // stem)


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the hybrid `name`, with a head of zeros.

    Raises:
        UserError: if a part of the name is unknown or the stride does not divide the image.
    """
    match = PATTERN.fullmatch(name)
    assert match is not None
    size, options, stride = parse_size(match["size"]), parse_options(match["options"]), int(match["stride"])
    stem = bit.stem_stride(match["stem"], image_size)
    backbone, patch = _backbone(match["depth"], float(match["width"] or 1), stem, stride)
    if image_size % stride:
        raise UserError(f"{name}: {image_size}-pixel images do not divide by the stride {stride}.")
    embed = partial(HybridEmbed, backbone=backbone)
    model: nn.Module = ViT(size, options, img_size=image_size, patch_size=patch, num_classes=classes, embed_layer=embed)
    return model
