"""Network in Network (Lin et al. 2014): `nin[x<width>][-bottleneck<r>][-relu]`.

Each block is a k x k convolution followed by 1x1 convolutions, a small perceptron that slides over the map (mlpconv).
There is no fully connected layer: the last 1x1 convolution gives one map for each class, and its mean over the pixels
is the logit. Up to 64 pixels it is the paper's network for CIFAR (192-160-96, 192-192-192, 192-192-K), above 64 pixels
the authors' network for ImageNet (96-96-96, 256-256-256, 384-384-384, 1024-1024-K). `<width>` multiplies all channels.
`-bottleneck<r>` adds a 1x1 convolution to 1/r of the channels before each k x k convolution except the first. It is not
in the paper; the lecture slides show this saving on GoogLeNet.

The last 1x1 convolution is the final linear layer here. The mean of a linear function is the function of the mean, so
the layer is applied once, to the mean of the map; this mean is the features.

Deviation: no ReLU on the class maps, so that the mean can come first. The authors' code has one, which forbids negative
logits and gives no gradient to a class whose map is 0; `-relu` has it.
Deviation: the k x k convolutions start with He's initialisation (`plain.py`) and the 1x1 convolutions after them as
identities, so that a block starts as its k x k convolution alone. The authors draw all layers with one standard
deviation (0.05; on ImageNet 0.01 or 0.05). With He's initialisation in all layers a small network learned nothing from
150 batches of upsampled digits: after nine layers the mean maps of all images are nearly parallel.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import NamedTuple

from torch import Tensor, nn

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

PATTERN = re.compile(rf"nin{WIDTH_PATTERN}(?:-bottleneck(?P<reduction>[1-9]\d*))?(?P<relu>-relu)?")
FAMILIES = ("nin",)
EXAMPLES = ("nin", "ninx0.25", "nin-relu", "nin-bottleneck4")
SMALL = (("ninx0.25", 8), ("ninx0.25-bottleneck4", 8), ("ninx0.25", 32))
PUBLISHED = (
    Published("nin", 32, 1_158_056, None, "mavenlin/cuda-convnet, NIN/cifar-10_def (sum of its layers)"),
    Published("nin", 224, 7_595_176, None, "mavenlin, nin_imagenet for Caffe (a snapshot of 29 MB)"),
)


class Block(NamedTuple):
    """Channels of a k x k convolution and of the 1x1 convolutions after it, and whether pooling and dropout follow."""

    channels: tuple[int, ...]
    kernel: int
    stride: int = 1
    padding: int = 0
    pool: bool = True
    dropout: bool = False


CIFAR = (
    Block((192, 160, 96), 5, padding=2, dropout=True),
    Block((192, 192, 192), 5, padding=2, dropout=True),
    Block((192, 192), 3, padding=1, pool=False),
)
IMAGENET = (
    Block((96, 96, 96), 11, stride=4),
    Block((256, 256, 256), 5, padding=2),
    Block((384, 384, 384), 3, padding=1, dropout=True),
    Block((1024, 1024), 3, padding=1, pool=False),
)


class NetworkInNetwork(Plain):
    """A `Plain` network whose neck is a mean, with or without the ReLU on the class maps."""

    def __init__(self, features: nn.Module, head: nn.Linear, relu: bool) -> None:
        super().__init__(features, Mean(), head)
        self.relu = relu

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Returns logits `[B, K]` of a feature map, or with `pre_logits` its mean `[B, D]`."""
        if pre_logits or not self.relu:
            return super().forward_head(features, pre_logits)
        class_maps: Tensor = self.head(features.permute(0, 2, 3, 1))
        return class_maps.relu().mean((1, 2))


def _features(blocks: tuple[Block, ...], width: float, reduction: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()

    def add(key: str, convolution: nn.Module) -> None:
        layers[f"conv{key}"], layers[f"relu{key}"] = convolution, nn.ReLU(inplace=True)

    inputs = 3
    for number, block in enumerate(blocks, start=1):
        if reduction and number > 1:
            add(f"{number}_reduce", nn.Conv2d(inputs, scaled(inputs, 1 / reduction), 1))
            inputs = scaled(inputs, 1 / reduction)
        for index, count in enumerate(block.channels, start=1):
            outputs = scaled(count, width)
            shape = (block.kernel, block.stride, block.padding) if index == 1 else (1,)
            add(f"{number}_{index}", nn.Conv2d(inputs, outputs, *shape))
            inputs = outputs
        if block.pool:
            layers[f"pool{number}"] = nn.MaxPool2d(3, 2, ceil_mode=True)
        if block.dropout:
            layers[f"drop{number}"] = nn.Dropout(0.5)
    return nn.Sequential(layers)


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the network `name`; its features are the mean of the last map before the class maps.

    Raises:
        UserError: if the width is 0, or the images are too small for the poolings.
    """
    match = PATTERN.fullmatch(name)
    assert match is not None
    require_size(name, image_size, 4)
    blocks, width = (CIFAR if image_size <= 64 else IMAGENET), width_factor(match["width"])
    features = _features(blocks, width, int(match["reduction"] or 0))
    head = nn.Linear(scaled(blocks[-1].channels[-1], width), classes)
    model = NetworkInNetwork(features, head, match["relu"] is not None)
    initialise_he(model, head)
    for key, layer in features.named_children():
        if isinstance(layer, nn.Conv2d) and not key.endswith(("_1", "_reduce")):
            nn.init.dirac_(layer.weight)
    return model
