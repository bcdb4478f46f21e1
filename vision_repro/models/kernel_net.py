"""Networks with one large kernel or a stack of small ones in a stage: `kernels-<stack>[-linear][-norm][-s2][<width>]`.

As in `kernels-5`, `kernels-3.3x0.5`, `kernels-3.3-linear-c8.16.32`, `kernels-7-s2-c18.36`, `kernels-3.3.3-norm`.
`<stack>` lists the sides of the kernels of each stage, odd numbers in the order in which they come. Receptive fields
are equal where the sums of (side - 1) are: `5` and `3.3`, `7` and `3.3.3` (VGG, arXiv 1409.1556, section 2.3).
`<width>` is `x<factor>` on the channels 16, 32 and 64, or `-c<channels of each stage>`, as many stages as numbers.

All networks share the rest: a 3x3 convolution to the C of the first stage (stem), of stride 2 with `-s2`; before each
further stage a 2x2 max-pooling and a 1x1 convolution to its C; the mean over the last map; a linear layer. Convolutions
in stacks keep the map (stride 1, zero padding) and have C maps in and out, so a stage has exactly the sum of side^2 C^2
weights, 25 C^2 against 18 C^2, and 2 H W FLOPs a weight.

Each stem, widening and stack ends in one batch norm and one ReLU, whatever is in the stack. Between the kernels of a
stack there is a ReLU; with `-linear` there is none, and this is all in which the two differ. `-norm` puts a batch norm
between them too (before the ReLU), as is usual today.

Deviation: one batch norm a stack, where VGG has none; it was trained for weeks, its deeper nets from weights of the
11-layer one. A norm behind every kernel would give stacks more norms than single kernels have, and what it does could
not be told from what the ReLU does.
Deviation: no biases but the head's: behind most convolutions the norm would remove them, and weights then are the
formulas, exactly. A ReLU inside a stack therefore bends at 0.
Deviation: a stage is one stack and the mean over the map comes before one linear layer, instead of up to four layers a
stage and fc6 to fc8, which would hide the kernels' weights.

Weights are normal with variance g / fan-in: g = 2 behind a ReLU or at the images (He et al. 2015), 1 behind another
kernel of a linear stack, which keeps the variance where no ReLU halves it.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from itertools import pairwise
from typing import NamedTuple

from torch import nn

from vision_repro.config import UserError
from vision_repro.models.layers.plain import (
    WIDTH_PATTERN,
    Mean,
    Plain,
    initialise_he,
    require_size,
    scaled,
    width_factor,
)
from vision_repro.models.published import Published

PATTERN = re.compile(
    r"kernels-(?P<stack>\d+(?:\.\d+)*)(?P<linear>-linear)?(?P<norm>-norm)?(?P<stride>-s2)?"
    rf"(?:{WIDTH_PATTERN}|-c(?P<channels>\d+(?:\.\d+)*))"
)
FAMILIES = ("kernel_net",)
EXAMPLES = ("kernels-5", "kernels-3.3", "kernels-3.3-linear", "kernels-7", "kernels-3.3.3x0.5", "kernels-3.3-s2-c18.36")
SMALL = (
    ("kernels-5-c4.8", 8),
    ("kernels-3.3-c4.8", 8),
    ("kernels-3.3-linear-c4.8", 8),
    ("kernels-3.3.3-norm-c4.8", 8),
    ("kernels-3.3-s2x0.25", 32),
)
PUBLISHED: tuple[Published, ...] = ()
CHANNELS = (16, 32, 64)


class Layout(NamedTuple):
    """What a name says: sides of a stage's kernels, channels of the stages, what is between kernels, stem's stride."""

    kernels: tuple[int, ...]
    channels: tuple[int, ...]
    linear: bool
    norm: bool
    stride: int


def parse(name: str) -> Layout:
    """Returns the layout of a name that `PATTERN` matches.

    Raises:
        UserError: if a kernel has no centre, nothing is between two kernels, or a stage has no channel.
    """
    match = PATTERN.fullmatch(name)
    assert match is not None
    kernels = tuple(int(side) for side in match["stack"].split("."))
    if any(side % 2 == 0 for side in kernels):
        raise UserError(f"{name}: a kernel has an even side and would shift the map; expected odd ones, such as 3.3.")
    if len(kernels) == 1 and (match["linear"] or match["norm"]):
        raise UserError(
            f"{name}: -linear and -norm say what is between two kernels; expected a stack of several, such as 3.3."
        )
    if match["channels"]:
        channels = tuple(int(count) for count in match["channels"].split("."))
    else:
        width = width_factor(match["width"])
        channels = tuple(scaled(count, width) for count in CHANNELS)
    if 0 in channels:
        raise UserError(f"{name}: a stage has no channel; expected numbers above 0, such as -c8.16.32.")
    stride = 2 if match["stride"] else 1
    return Layout(kernels, channels, match["linear"] is not None, match["norm"] is not None, stride)


def _ended(key: str, conv: nn.Conv2d) -> OrderedDict[str, nn.Module]:
    """Returns a convolution with what ends each part of the network: a batch norm and a ReLU."""
    return OrderedDict([(f"conv{key}", conv), ("norm", nn.BatchNorm2d(conv.out_channels)), ("relu", nn.ReLU())])


def stack(layout: Layout, channels: int) -> nn.Sequential:
    """Returns the kernels of one stage, maps `[B, C, H, W]` to maps of the same shape."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    *inner, last = (nn.Conv2d(channels, channels, side, padding=side // 2, bias=False) for side in layout.kernels)
    for index, conv in enumerate(inner, start=1):
        layers[f"conv{index}"] = conv
        if layout.norm:
            layers[f"norm{index}"] = nn.BatchNorm2d(channels)
        if not layout.linear:
            layers[f"relu{index}"] = nn.ReLU()
    layers.update(_ended(str(len(layout.kernels)), last))
    return nn.Sequential(layers)


def _keep_variance(linear: nn.Module) -> None:
    """Draws the kernels of a linear stack behind its first one with variance 1 / fan-in."""
    for conv in [part for part in linear.children() if isinstance(part, nn.Conv2d)][1:]:
        nn.init.normal_(conv.weight, std=1 / math.sqrt(conv.weight[0].numel()))


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the network `name`; its features are the means of the last stage's maps.

    Raises:
        UserError: if the name is not one of the grammar, or the images are too small for its poolings.
    """
    layout = parse(name)
    require_size(name, image_size, layout.stride * 2 ** (len(layout.channels) - 1))
    first, head = layout.channels[0], nn.Linear(layout.channels[-1], classes)
    stem = nn.Conv2d(3, first, 3, layout.stride, padding=1, bias=False)
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(_ended("", stem)), stage1=stack(layout, first))
    for stage, (inputs, channels) in enumerate(pairwise(layout.channels), start=2):
        parts[f"pool{stage - 1}"] = nn.MaxPool2d(2)
        parts[f"widen{stage}"] = nn.Sequential(_ended("", nn.Conv2d(inputs, channels, 1, bias=False)))
        parts[f"stage{stage}"] = stack(layout, channels)
    model = Plain(nn.Sequential(parts), Mean(), head)
    initialise_he(model, head)
    for key, part in parts.items():
        if layout.linear and key.startswith("stage"):
            _keep_variance(part)
    return model
