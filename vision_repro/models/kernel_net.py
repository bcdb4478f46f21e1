"""Networks with one large kernel or a stack of small ones in a stage: `kernels-<stack>[-linear][-norm][-s2][<width>]`.

As in `kernels-5`, `kernels-3.3x0.5`, `kernels-3.3-linear-c8.16.32`, `kernels-7-s2-c18.36`, `kernels-3.3.3-norm`.
`<stack>` lists the sides of the kernels of each stage, odd numbers, first to last. Two stacks have the same receptive
field if their sums of (side - 1) are equal: `5` and `3.3`, `7` and `3.3.3` (VGG, arXiv 1409.1556, section 2.3).
`<width>` is `x<factor>` on the channels 16, 32 and 64, or `-c<channels of each stage>`, one number for each stage.

The rest is the same in all networks: a stem, a 3x3 convolution to the C of the first stage, with stride 2 for `-s2`;
before each further stage a 2x2 max-pooling and a 1x1 convolution to the C of that stage; the mean over the last map; a
linear layer. The convolutions of a stack have stride 1, zero padding and C maps in and out, so a stage has exactly the
sum of side^2 C^2 weights, for example 25 C^2 against 18 C^2, and 2 H W FLOPs a weight.

Each stem, 1x1 convolution and stack ends with one batch norm and one ReLU. Between the kernels of a stack there is a
ReLU; `-linear` leaves it out and changes nothing else. `-norm` adds a batch norm between the kernels (before the ReLU),
as is usual today.

Deviation: one batch norm a stack, while VGG has none; VGG trained for weeks, its deeper networks from weights of the
11-layer one. A norm after every kernel would give stacks more norms than single kernels have, and its effect could not
be separated from that of the ReLU.
Deviation: only the head has biases; after most convolutions the norm would remove them, and the numbers of weights are
then exactly the formulas. A ReLU inside a stack therefore has its threshold at 0.
Deviation: one stack a stage, and a mean over the map before one linear layer, instead of up to four layers a stage and
fc6 to fc8; the weights of fc6 to fc8 would outnumber those of the kernels.

Weights are normal with variance g / fan-in. g is 2 after a ReLU and for the images (He et al. 2015); it is 1 after
another kernel of a linear stack, where no ReLU halves the variance.
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
    """A parsed name: kernel sides of a stage, channels of each stage, `-linear`, `-norm`, and the stem's stride."""

    kernels: tuple[int, ...]
    channels: tuple[int, ...]
    linear: bool
    norm: bool
    stride: int


def parse(name: str) -> Layout:
    """Returns the layout of a name that `PATTERN` matches.

    Raises:
        UserError: if a side is even, an option needs several kernels and there is one, or a stage has no channel.
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
    """Returns a convolution, a batch norm and a ReLU: the end of each part of the network."""
    return OrderedDict([(f"conv{key}", conv), ("norm", nn.BatchNorm2d(conv.out_channels)), ("relu", nn.ReLU())])


def stack(layout: Layout, channels: int) -> nn.Sequential:
    """Returns the kernels of one stage, from maps `[B, C, H, W]` to maps of the same shape."""
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
    """Draws the kernels of a linear stack, except its first, with variance 1 / fan-in."""
    for conv in [part for part in linear.children() if isinstance(part, nn.Conv2d)][1:]:
        nn.init.normal_(conv.weight, std=1 / math.sqrt(conv.weight[0].numel()))


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the network `name`; its features are the means of the last stage's maps.

    Raises:
        UserError: if the name is not in the grammar, or the images are too small for the poolings.
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
