"""Big Transfer (BiT): `bit-r<depth>x<width>[/<stem>]`, as in `bit-r152x4`, `bit-r50x1` or `bit-r11x0.25/2`.

A pre-activation ResNet with GroupNorm and weight-standardised convolutions (BiT, section 3.3; blocks and shapes of
`bit_pytorch/models.py`). `<depth>` counts layers: the stem, three for each bottleneck block, the head. `<width>`
multiplies all channels, which are rounded to multiples of 8. `<stem>` is the stride before the first stage. Stride 4
is the published root, a 7x7 convolution and a pooling, and the default above 64 pixels. Strides 1 and 2 are one 3x3
convolution; 1 is the default up to 64 pixels.

Deviation: stems of stride 1 and 2 instead of the paper's, which enlarges small images to 128 pixels; here small images
keep their size, and the root of stride 4 would leave almost no map.
Deviation: depths 8 to 26 and widths below 1, which the paper does not have; small data sets need small models.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import partial
from typing import Any

from timm.layers import GroupNormAct, StdConv2d
from timm.models.resnetv2 import ResNetV2
from torch import nn

from vision_repro.config import UserError, nearest
from vision_repro.models.published import Published

BODY_PATTERN = r"(?:x(?P<width>\d+(?:\.\d+)?))?(?:/(?P<stem>\d+))?"
PATTERN = re.compile(rf"bit-r(?P<depth>\d+){BODY_PATTERN}")
FAMILIES = ("bit",)
EXAMPLES = ("bit-r11x0.25", "bit-r14x0.25/2", "bit-r50x1", "bit-r101x3", "bit-r152x4", "bit-r200x3")
_RELEASE = "google-research/big_transfer, bit_pytorch/models.py; counted"
PUBLISHED = (  # the paper's 928 million are R152x4 without its head
    Published("bit-r50x1", 224, 25_549_352, None, _RELEASE),
    Published("bit-r50x2", 224, 97_988_712, None, "ViT, Table 6; counted"),
    Published("bit-r50x3", 224, 217_319_080, None, _RELEASE),
    Published("bit-r101x1", 224, 44_541_480, None, _RELEASE),
    Published("bit-r101x3", 224, 387_934_888, None, _RELEASE),
    Published("bit-r152x1", 224, 60_185_128, None, "ViT, Table 6; counted"),
    Published("bit-r152x2", 224, 236_335_208, None, _RELEASE),
    Published("bit-r152x4", 224, 936_533_224, None, _RELEASE),
    Published("bit-r200x3", 224, 568_633_000, None, "ViT, Table 6; big_vision, big_vision/models/bit.py; counted"),
)
SMALL = (("bit-r11x0.25", 8), ("bit-r11x0.25/2", 32), ("bit-r14x0.25/4", 64))
BLOCKS = {
    8: (1, 1),
    11: (1, 1, 1),
    14: (1, 1, 1, 1),
    20: (2, 2, 2),
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
CHANNELS = (256, 512, 1024, 2048)


def norm_groups(channels: int) -> int:
    """Returns the number of GroupNorm groups: the largest up to the published 32 with at least two channels a group.

    Deviation: fewer than 32 groups where a layer has fewer than 64 channels; groups of one channel would be
    InstanceNorm, which returns zeros on a map of one pixel.
    """
    return next(count for count in range(min(32, channels // 2), 0, -1) if channels % count == 0)


def group_norm(channels: int, **options: Any) -> GroupNormAct:
    """Returns GroupNorm and ReLU over `norm_groups(channels)` groups."""
    return GroupNormAct(channels, norm_groups(channels), **options)


def blocks(depth: str) -> tuple[int, ...]:
    """Returns the number of bottleneck blocks of each stage of a network with `depth` layers.

    Raises:
        UserError: if no layout has this depth.
    """
    if int(depth) not in BLOCKS:
        known = ", ".join(map(str, BLOCKS))
        raise UserError(f"ResNet depth {depth} is unknown: expected one of {known}.{nearest(depth, map(str, BLOCKS))}")
    return BLOCKS[int(depth)]


def stem_stride(text: str | None, image_size: int) -> int:
    """Returns the stride of the stem; if `text` is None, 4 above 64 pixels and 1 otherwise.

    Raises:
        UserError: if it is not 1, 2 or 4.
    """
    stride = int(text) if text is not None else 4 if image_size > 64 else 1
    if stride not in (1, 2, 4):
        raise UserError(f"ResNet stem stride {stride} is unknown: expected 1, 2 or 4.")
    return stride


def resnet(layers: tuple[int, ...], width: float, stem: int, *, conv: Any, **options: Any) -> ResNetV2:
    """Returns timm's ResNet with `width` times the published channels and a stem of stride `stem`.

    Raises:
        UserError: if the width is not above 0.
    """
    if width <= 0:
        raise UserError(f"ResNet width {width} is not a width: expected a number above 0, such as 1 or 0.25.")
    model = ResNetV2(
        layers, CHANNELS[: len(layers)], width_factor=width, conv_layer=conv, norm_layer=group_norm, **options
    )
    if stem < 4:
        channels = model.stem.conv.out_channels
        parts: OrderedDict[str, nn.Module] = OrderedDict(conv=conv(3, channels, kernel_size=3, stride=stem))
        if hasattr(model.stem, "norm"):
            parts["norm"] = group_norm(channels)
        model.stem = nn.Sequential(parts)
        model.init_weights(zero_init_last=options.get("zero_init_last", False))
    return model


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the BiT `name`, with a head of zeros like the ViT (`big_vision/models/bit_paper.py`).

    Raises:
        UserError: if the depth, the width or the stem is not in the grammar.
    """
    match = PATTERN.fullmatch(name)
    assert match is not None
    stem = stem_stride(match["stem"], image_size)
    # As in `bit_pytorch/models.py`: epsilon 1e-10, and "fixed", a zero padding of 1 before the max-pooling.
    conv = partial(StdConv2d, eps=1e-10)
    model: nn.Module = resnet(
        blocks(match["depth"]), float(match["width"] or 1), stem, conv=conv, num_classes=classes, stem_type="fixed"
    )
    nn.init.zeros_(model.get_parameter("head.fc.weight"))
    return model
