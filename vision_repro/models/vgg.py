"""VGG: `vgg<depth>[x<width>][-bn][-fc<hidden>][-drop<rate>]`, as in `vgg16`, `vgg11x0.25-bn` or `vgg16-bn-fc4096`.

`<depth>` counts the layers with weights: 11, 13, 16 or 19, the columns A, B, D and E of Table 1 of the paper (arXiv
1409.1556). All convolutions are 3x3 with stride 1 and padding 1. Five 2x2 max-poolings halve the map; after each the
channels double, up to 512. `-bn` adds batch norm after each convolution (torchvision; not in the paper). `<width>`
multiplies all channels and the default units. `<hidden>` is the width of fc6 and fc7 [units]; `-fc0` leaves both out.
`<rate>` is the fraction of the units of fc6 and fc7 that dropout sets to zero in training: 0.5 by default (section
3.1), 0 is no dropout.

Deviation: up to 64 pixels fc6 and fc7 have 512 units instead of 4096 (`-fc4096`), which would be most of the network
after a last map of 1x1 (32 pixels) or 2x2.
Deviation: below 32 pixels the first poolings are left out, so that the last stages still have a map.
Deviation: fc6 takes the map without pooling it; torchvision first pools to 7x7, which is no change at 224 pixels.
Deviation: He's initialisation (`plain.py`) at all depths; the paper trains the 11-layer network first, from weights of
standard deviation 0.1, and starts the deeper ones from its weights (section 3.1).
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict

from torch import nn

from vision_repro.config import UserError, nearest
from vision_repro.models.layers.plain import WIDTH_PATTERN, Plain, initialise_he, require_size, scaled, width_factor
from vision_repro.models.published import Published

PATTERN = re.compile(
    rf"vgg(?P<depth>\d+){WIDTH_PATTERN}(?P<norm>-bn)?(?:-fc(?P<hidden>\d+))?(?:-drop(?P<rate>\d+(?:\.\d+)?))?"
)
FAMILIES = ("vgg",)
EXAMPLES = ("vgg11", "vgg13", "vgg16", "vgg19", "vgg16-bn", "vgg11x0.25-bn", "vgg16-bn-fc4096", "vgg16-bn-fc0",
            "vgg16-drop0")  # fmt: skip
SMALL = (("vgg11x0.125-bn", 8), ("vgg16x0.125", 32), ("vgg11x0.125-bn", 64))
PUBLISHED = (
    Published("vgg11", 224, 132_863_336, 7.609, "torchvision, VGG11_Weights.IMAGENET1K_V1"),
    Published("vgg13", 224, 133_047_848, 11.308, "torchvision, VGG13_Weights.IMAGENET1K_V1"),
    Published("vgg16", 224, 138_357_544, 15.47, "torchvision, VGG16_Weights.IMAGENET1K_V1; lecture slides"),
    Published("vgg19", 224, 143_667_240, 19.632, "torchvision, VGG19_Weights.IMAGENET1K_V1"),
    Published("vgg11-bn", 224, 132_868_840, 7.609, "torchvision, VGG11_BN_Weights.IMAGENET1K_V1"),
    Published("vgg13-bn", 224, 133_053_736, 11.308, "torchvision, VGG13_BN_Weights.IMAGENET1K_V1"),
    Published("vgg16-bn", 224, 138_365_992, 15.47, "torchvision, VGG16_BN_Weights.IMAGENET1K_V1"),
    Published("vgg19-bn", 224, 143_678_248, 19.632, "torchvision, VGG19_BN_Weights.IMAGENET1K_V1"),
)
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)


def _convolutions(depth: str) -> tuple[int, ...]:
    """Returns the number of convolutions of each stage of the network with `depth` layers.

    Raises:
        UserError: if no network has this depth.
    """
    if int(depth) not in CONVOLUTIONS:
        known = ", ".join(map(str, CONVOLUTIONS))
        hint = nearest(depth, map(str, CONVOLUTIONS))
        raise UserError(f"VGG depth {depth} is unknown: expected one of {known}.{hint}")
    return CONVOLUTIONS[int(depth)]


def _features(counts: tuple[int, ...], channels: list[int], poolings: int, norm: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = 3
    for stage, (count, outputs) in enumerate(zip(counts, channels, strict=True), start=1):
        for index in range(1, count + 1):
            key = f"{stage}_{index}"
            layers[f"conv{key}"] = nn.Conv2d(inputs, outputs, 3, padding=1)
            if norm:
                layers[f"norm{key}"] = nn.BatchNorm2d(outputs)
            layers[f"relu{key}"] = nn.ReLU(inplace=True)
            inputs = outputs
        if stage > len(counts) - poolings:
            layers[f"pool{stage}"] = nn.MaxPool2d(2)
    return nn.Sequential(layers)


def _dropout(name: str, rate: str | None, hidden: int) -> float:
    """Returns the fraction of units that dropout sets to zero.

    Raises:
        UserError: if it is not below 1, or there are no units.
    """
    if rate is None:
        return 0.5
    if not hidden or float(rate) >= 1:
        wanted = "a rate below 1" if hidden else "no -drop, as -fc0 leaves out the layers that it is for"
        raise UserError(f'"{name}" has no units to drop {rate} of: expected {wanted}.')
    return float(rate)


def _neck(inputs: int, hidden: int, dropout: float) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for index, width in ((6, inputs), (7, hidden)) if hidden else ():
        layers[f"fc{index}"] = nn.Linear(width, hidden)
        layers[f"relu{index}"] = nn.ReLU(inplace=True)
        layers[f"drop{index}"] = nn.Dropout(dropout)
    return nn.Sequential(layers)


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the VGG `name`; its features are the units of fc7, or with `-fc0` the flattened map.

    Raises:
        UserError: if the depth is unknown, the width is 0, no unit is left, or no pooling fits into the images.
    """
    match = PATTERN.fullmatch(name)
    assert match is not None
    counts, width = _convolutions(match["depth"]), width_factor(match["width"])
    require_size(name, image_size, 2)
    poolings = min(len(counts), int(math.log2(image_size)))
    side = image_size >> poolings
    channels = [scaled(count, width) for count in CHANNELS]
    units = scaled(512 if image_size <= 64 else 4096, width) if match["hidden"] is None else int(match["hidden"])
    inputs = channels[-1] * side**2
    features = _features(counts, channels, poolings, match["norm"] is not None)
    neck = _neck(inputs, units, _dropout(name, match["rate"], units))
    model = Plain(features, neck, nn.Linear(units or inputs, classes))
    initialise_he(model, model.head)
    return model
