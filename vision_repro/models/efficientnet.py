"""EfficientNet: `efficientnet-<size>[x<width>][-drop]`, as in `efficientnet-l2` or `efficientnet-b0x0.25`.

`<size>` is b0 to b7 (EfficientNet, Table 2) or l2, the largest network of Noisy Student (its appendix). `<width>` is a
further factor on the channels of that size, which are rounded to multiples of 8. `-drop` adds the regularisation of
training on ImageNet: dropout before the head and stochastic depth of 0.2 (EfficientNet, section 5.2).

The network is timm's `tf_efficientnet_*`, to which released weights fit: it has the padding ("same", uneven where the
stride is 2) and the BatchNorm epsilon of the released code. timm's `efficientnet_*` pad evenly.

Deviation: BatchNorm's running statistics have momentum 0.9 instead of 0.99; the released value needs thousands of
steps, and a run here may have a hundred.
Deviation: no dropout and no stochastic depth without `-drop`, as in the other architectures here.
Deviation: stride 1 instead of 2 in the first convolution up to 64 pixels; a 32-pixel image would end as one pixel.
Deviation: `<width>` can make networks smaller, the paper only scales up; small data sets need small models.
"""

from __future__ import annotations

import re
from functools import partial
from typing import NamedTuple

from timm.models.efficientnet import EfficientNet, decode_arch_def, round_channels
from torch import nn

from vision_repro.config import UserError, nearest
from vision_repro.models.published import Published

PATTERN = re.compile(r"efficientnet-(?P<size>[a-z]+\d*)(?:x(?P<width>\d+(?:\.\d+)?))?(?P<drop>-drop)?")
FAMILIES = ("efficientnet",)
EXAMPLES = ("efficientnet-b0x0.25", "efficientnet-b0", "efficientnet-b4", "efficientnet-b7", "efficientnet-l2")
SMALL = (("efficientnet-b0x0.25", 8), ("efficientnet-b0x0.25-drop", 32), ("efficientnet-b0x0.25", 64))

STAGES = (
    ["ds_r1_k3_s1_e1_c16_se0.25"],
    ["ir_r2_k3_s2_e6_c24_se0.25"],
    ["ir_r2_k5_s2_e6_c40_se0.25"],
    ["ir_r3_k3_s2_e6_c80_se0.25"],
    ["ir_r3_k5_s1_e6_c112_se0.25"],
    ["ir_r4_k5_s2_e6_c192_se0.25"],
    ["ir_r1_k3_s1_e6_c320_se0.25"],
)
"""The stages of B0 (EfficientNet, Table 1) in timm's notation: kind of block, repeats, kernel, stride, expansion,
channels, squeeze-and-excitation ratio."""


class Size(NamedTuple):
    """Factors on B0's channels and blocks, and the dropout before the head (released `efficientnet_params`)."""

    width: float
    depth: float
    dropout: float


SIZES = {
    "b0": Size(1.0, 1.0, 0.2),
    "b1": Size(1.0, 1.1, 0.2),
    "b2": Size(1.1, 1.2, 0.3),
    "b3": Size(1.2, 1.4, 0.3),
    "b4": Size(1.4, 1.8, 0.4),
    "b5": Size(1.6, 2.2, 0.4),
    "b6": Size(1.8, 2.6, 0.5),
    "b7": Size(2.0, 3.1, 0.5),
    "l2": Size(4.3, 5.3, 0.5),
}
_TABLE_2 = "EfficientNet, Table 2; exact counts: timm"
PUBLISHED = (
    Published("efficientnet-b0", 224, 5_288_548, 0.39, _TABLE_2),
    Published("efficientnet-b1", 240, 7_794_184, 0.70, _TABLE_2),
    Published("efficientnet-b2", 260, 9_109_994, 1.0, _TABLE_2),
    Published("efficientnet-b3", 300, 12_233_232, 1.8, _TABLE_2),
    Published("efficientnet-b4", 380, 19_341_616, 4.2, _TABLE_2),
    Published("efficientnet-b5", 456, 30_389_784, 9.9, _TABLE_2),
    Published("efficientnet-b6", 528, 43_040_704, 19.0, _TABLE_2),
    Published("efficientnet-b7", 600, 66_347_960, 37.0, _TABLE_2),
    Published("efficientnet-l2", 475, 480_309_308, None, "Noisy Student, appendix; exact count: timm"),
)


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the EfficientNet `name`, which takes any image size.

    Raises:
        UserError: if the size is unknown or the width is not above 0.
    """
    match = PATTERN.fullmatch(name)
    assert match is not None
    if match["size"] not in SIZES:
        known = ", ".join(SIZES)
        raise UserError(f"{name}: size is unknown: expected one of {known}.{nearest(match['size'], SIZES)}")
    size, factor = SIZES[match["size"]], float(match["width"] or 1)
    if factor <= 0:
        raise UserError(f"{name}: width {factor} is not a width: expected a number above 0, such as 0.25.")
    scaled = partial(round_channels, multiplier=size.width * factor)
    model = EfficientNet(
        decode_arch_def(STAGES, size.depth),
        num_classes=classes,
        num_features=scaled(1280),
        round_chs_fn=scaled,
        pad_type="same",
        act_layer=nn.SiLU,
        norm_layer=partial(nn.BatchNorm2d, eps=1e-3),
        drop_rate=size.dropout if match["drop"] else 0.0,
        drop_path_rate=0.2 if match["drop"] else 0.0,
    )
    if image_size <= 64:
        model.conv_stem.stride = (1, 1)  # the layer computes its "same" padding from the stride at each call
    whole: nn.Module = model
    return whole
