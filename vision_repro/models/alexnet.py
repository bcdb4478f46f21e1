"""AlexNet: `alexnet[x<width>][-grouped][-nolrn][-gaussian]` or `alexnet-64[x<width>][-lrn][-gaussian]`.

`alexnet` has the paper's 96, 256, 384, 384 and 256 maps in one tower. `-grouped` has the paper's two halves, which are
connected only in conv3 and in the fully connected layers (section 3.2). Both have local response normalisation
(section 3.3) unless the name has `-nolrn`. `alexnet-64` is the later network of torchvision and of the lecture slides:
one tower of 64, 192, 384, 256 and 256 maps, without normalisation unless the name has `-lrn`. `<width>` multiplies all
channels and the 4096 units; the products are rounded to multiples of 2. All networks have overlapping pooling, 3x3 with
stride 2, and dropout 0.5 after fc6 and fc7.

Deviation: the paper says 224 pixels, but its maps of 55 pixels need 227 pixels (or padding, which it does not mention).
`alexnet` takes 227 pixels and pads smaller images by 2, so that 224 also gives 55. `alexnet-64` pads by 2 at any size:
56 at 227 pixels, as on the slides, and 55 at 224.
Deviation: fc6 takes the map without pooling it; torchvision first pools to 6x6, which is no change at 224 and 227
pixels.
Deviation: He's initialisation (`plain.py`) instead of the paper's, which hardly trains on small data; `-gaussian` is
the paper's: standard deviation 0.01, biases 1 in conv2, conv4, conv5, fc6 and fc7 (section 5).
Deviation: conv1 is 5x5 instead of 11x11 with stride 4: with stride 1 up to 32 pixels, with stride 2 up to 64 pixels.
Where three poolings do not fit (below 15 pixels), the first ones are left out. Small images would leave no map.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
from torch import nn

from vision_repro.models.layers.plain import WIDTH_PATTERN, Plain, initialise_he, require_size, scaled, width_factor
from vision_repro.models.layers.response_norm import ResponseNorm
from vision_repro.models.published import Published

PATTERN = re.compile(
    rf"alexnet(?P<slim>-64)?{WIDTH_PATTERN}(?(slim)(?P<lrn>-lrn)?|(?P<grouped>-grouped)?(?P<nolrn>-nolrn)?)"
    r"(?P<gaussian>-gaussian)?"
)
FAMILIES = ("alexnet",)
EXAMPLES = ("alexnet", "alexnet-grouped", "alexnet-nolrn", "alexnet-64", "alexnet-64x0.25", "alexnetx0.125")
SMALL = (("alexnetx0.125", 32), ("alexnetx0.125-grouped", 64), ("alexnet-64x0.125", 32))
PUBLISHED = (
    Published("alexnet", 227, 62_378_344, None, "lecture slides, the table with 96 maps (sum of its rows)"),
    Published("alexnet-grouped", 227, 60_965_224, None, "AlexNet, 3.5: kernels 5x5x48, 3x3x192 (60 million printed)"),
    Published("alexnet-64", 227, 61_100_840, None, "lecture slides, the table with 64 maps (sum of its rows)"),
    Published("alexnet-64", 224, 61_100_840, 0.714, "torchvision, AlexNet_Weights.IMAGENET1K_V1"),
)
WIDE = (96, 256, 384, 384, 256)
SLIM = (64, 192, 384, 256, 256)
HIDDEN = 4096
POOLED_AFTER = (1, 2, 5)


def _stem(image_size: int, slim: bool) -> tuple[int, int, int]:
    """Returns kernel, stride and padding of conv1."""
    if image_size > 64:
        return 11, 4, 2 if slim or image_size < 227 else 0
    return 5, 1 if image_size <= 32 else 2, 2


def _pooled(side: int) -> tuple[tuple[int, ...], int]:
    """Returns the convolutions after which a map of `side` pixels is pooled, and the side after the last pooling."""
    for first in range(len(POOLED_AFTER)):
        left = side
        for _ in POOLED_AFTER[first:]:
            left = (left - 3) // 2 + 1
        if left >= 1:
            return POOLED_AFTER[first:], left
    raise AssertionError(f"a map of {side} pixels cannot be pooled")


def _features(
    channels: tuple[int, ...], stem: tuple[int, int, int], poolings: tuple[int, ...], groups: int, norm: bool
) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = 3
    for index, outputs in enumerate(channels, start=1):
        if index == 1:
            layers["conv1"] = nn.Conv2d(inputs, outputs, *stem)
        else:
            kernel, parts = (5 if index == 2 else 3), (1 if index == 3 else groups)
            layers[f"conv{index}"] = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=parts)
        layers[f"relu{index}"] = nn.ReLU(inplace=True)
        if norm and index <= 2:
            layers[f"norm{index}"] = ResponseNorm()
        if index in poolings:
            layers[f"pool{index}"] = nn.MaxPool2d(3, 2)
        inputs = outputs
    return nn.Sequential(layers)


def _neck(inputs: int, hidden: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for index, width in ((6, inputs), (7, hidden)):
        layers[f"fc{index}"] = nn.Linear(width, hidden)
        layers[f"relu{index}"] = nn.ReLU(inplace=True)
        layers[f"drop{index}"] = nn.Dropout(0.5)
    return nn.Sequential(layers)


@torch.no_grad()
def _initialise_2012(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            assert module.bias is not None
            nn.init.constant_(module.bias, float(name.endswith(("conv2", "conv4", "conv5", "fc6", "fc7"))))


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the AlexNet `name`; its features are the units of fc7.

    Raises:
        UserError: if the width is 0, or no pooling fits into the images.
    """
    match = PATTERN.fullmatch(name)
    assert match is not None
    require_size(name, image_size, 3)
    slim, width = match["slim"] is not None, width_factor(match["width"])
    channels = tuple(scaled(count, width, 2) for count in (SLIM if slim else WIDE))
    hidden = scaled(HIDDEN, width, 2)
    kernel, stride, padding = stem = _stem(image_size, slim)
    poolings, side = _pooled((image_size + 2 * padding - kernel) // stride + 1)
    norm = match["lrn"] is not None if slim else match["nolrn"] is None
    features = _features(channels, stem, poolings, 2 if match["grouped"] else 1, norm)
    model = Plain(features, _neck(channels[-1] * side**2, hidden), nn.Linear(hidden, classes))
    if match["gaussian"]:
        _initialise_2012(model)
    else:
        initialise_he(model, model.head)
    return model
