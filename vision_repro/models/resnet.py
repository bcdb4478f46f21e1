"""ResNet: `resnet<depth>[x<width>][-<option>...]`, and its plain twin without shortcuts, `plain<depth>...`.

As in `resnet50`, `resnet20`, `plain56`, `resnet18x0.25-allproj`. `<depth>` counts the layers with weights, except
those of shortcuts:

- 18, 34, 50, 101, 152: the ImageNet networks (ResNet, Table 1), with bottlenecks from 50 on and shortcuts of type B.
- any other 6n + 2, such as 8, 20, 56, 110: the CIFAR networks (section 4.2), with three stages of 16, 32 and 64
  channels and shortcuts of type A. With `-bottleneck` the depth is 9n + 2, such as 11, 29, 110, 164, and a block
  returns 4 times the channels.

`<width>` multiplies all channels. Options:

- `-identity` (A: no parameters, zeros in new channels), `-projection` (B: 1x1 convolutions where the shape changes),
  `-allproj` (C: 1x1 convolutions in all blocks): the shortcuts of Table 3.
- `-bottleneck`: as above; the depth of an ImageNet network already decides it.
- `-v1`: the paper's bottleneck, which halves the map in its first 1x1 convolution.

Deviation: a bottleneck halves the map in its 3x3 convolution instead of its first 1x1 convolution, unless `-v1`; the
1x1 convolution would skip three of four pixels, and torchvision, timm, released weights and later work use the 3x3. A
ResNet-50 has 6 % more multiply-adds with it.
Deviation: up to 64 pixels the ImageNet networks start with a 3x3 convolution of stride 1 and no pooling instead of the
7x7 root, which would leave one pixel of a 32-pixel image.
Deviation: `-bottleneck` for CIFAR networks and widths other than 1, which are not in this paper; the first is in its
sequel (Identity Mappings in Deep Residual Networks, section 4), the widths are for small data sets.
Deviation: kernels are drawn by fan-out, as in torchvision; the paper's reference allows fan-in and fan-out. Biases and
head start as torch's layers do. The last norm of a block starts at one, as in the paper; zero came later (Goyal et al.
2017).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.functional import pad

from vision_repro.config import UserError, nearest
from vision_repro.models.published import Published

PATTERN = re.compile(r"(?P<kind>resnet|plain)(?P<depth>\d+)(?:x(?P<width>\d+(?:\.\d+)?))?(?P<options>(?:-[a-z0-9]+)*)")
FAMILIES = ("resnet", "plain")
EXAMPLES = ("resnet8", "resnet20", "plain20", "resnet56", "resnet18x0.25", "resnet18", "plain34", "resnet50")
SMALL = (
    ("resnet8", 8),
    ("plain8x0.5", 8),
    ("resnet20", 32),
    ("resnet11x0.5-bottleneck-allproj", 32),
    ("resnet18x0.125", 32),
    ("resnet50x0.0625-v1", 64),
    ("resnet18x0.125-identity", 64),
)
IMAGENET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Depth -> blocks of each stage."""

SHORTCUTS = ("identity", "projection", "allproj")
OPTIONS = (*SHORTCUTS, "bottleneck", "v1")
EXPANSION = 4
"""Output channels of a bottleneck, divided by those of its 3x3 convolution."""

_TABLE_1 = "ResNet, Table 1; exact counts: torchvision"
_META = "torchvision, `_ops` and `num_params` of its weights"
PUBLISHED = (
    Published("resnet18", 224, 11_689_512, 1.8, _TABLE_1),
    Published("resnet34", 224, 21_797_672, 3.6, _TABLE_1),
    Published("resnet50-v1", 224, 25_557_032, 3.8, _TABLE_1),
    Published("resnet101-v1", 224, 44_549_160, 7.6, _TABLE_1),
    Published("resnet152-v1", 224, 60_192_808, 11.3, _TABLE_1),
    Published("resnet50", 224, 25_557_032, 4.089, _META),
    Published("resnet101", 224, 44_549_160, 7.801, _META),
    Published("resnet152", 224, 60_192_808, 11.514, _META),
)


class Layout(NamedTuple):
    """A parsed name: blocks of each stage, channels of the first stage, kind of block and of shortcut (None: plain)."""

    blocks: tuple[int, ...]
    channels: int
    bottleneck: bool
    shortcut: str | None
    stride_first: bool
    imagenet: bool


class Widened(nn.Module):
    """Shortcut A: every `stride`-th pixel, and zeros in the channels that the block adds (ResNet, section 3.3)."""

    def __init__(self, added: int, stride: int) -> None:
        super().__init__()
        self.added, self.stride = added, stride

    def forward(self, images: Tensor) -> Tensor:
        """Returns `[B, C + added, H / stride, W / stride]`, with sides rounded up, for `[B, C, H, W]`."""
        return pad(images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))


def shortcut(kind: str | None, inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """Returns the shortcut of a block, of type A, B or C (see the grammar above); None in a plain network."""
    if kind is None:
        return None
    if kind != "allproj" and stride == 1 and inputs == outputs:
        return nn.Identity()
    if kind == "identity":
        return Widened(outputs - inputs, stride)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two 3x3 convolutions, or a 1x1, a 3x3 and a 1x1, each with a BatchNorm; a shortcut; a ReLU after the sum.

    Parameters are named as in torchvision, so that both can load each other's weights.
    """

    def __init__(self, inputs: int, channels: int, stride: int, layout: Layout) -> None:
        super().__init__()
        outputs = channels * (EXPANSION if layout.bottleneck else 1)
        kernels = (1, 3, 1) if layout.bottleneck else (3, 3)
        strided = 1 if layout.bottleneck and not layout.stride_first else 0
        sizes = [inputs, *[channels] * (len(kernels) - 1), outputs]
        for index, kernel in enumerate(kernels):
            step = stride if index == strided else 1
            conv = nn.Conv2d(sizes[index], sizes[index + 1], kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{index + 1}", conv)
            self.add_module(f"bn{index + 1}", nn.BatchNorm2d(sizes[index + 1]))
        self.layers = len(kernels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(layout.shortcut, inputs, outputs, stride)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the output of the block for a map `[B, C, H, W]`."""
        out = images
        for index in range(1, self.layers + 1):
            out = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(out))
            if index < self.layers:
                out = self.relu(out)
        if self.downsample is not None:
            out = out + self.downsample(images)
        activated: Tensor = self.relu(out)
        return activated


class ResNet(nn.Module):
    """Stem, stages of blocks (each stage but the first halves the map), mean over the map, linear layer."""

    def __init__(self, layout: Layout, *, large: bool, classes: int) -> None:
        super().__init__()
        inputs = layout.channels
        self.conv1 = nn.Conv2d(3, inputs, 7 if large else 3, 2 if large else 1, 3 if large else 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.stages = len(layout.blocks)
        for stage, count in enumerate(layout.blocks):
            channels, blocks = layout.channels * 2**stage, []
            for index in range(count):
                blocks.append(Block(inputs, channels, 2 if stage and not index else 1, layout))
                inputs = channels * (EXPANSION if layout.bottleneck else 1)
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Tensor) -> Tensor:
        """Returns the last map `[B, D, H / s, W / s]` of images `[B, 3, H, W]`; s is the stride of the network."""
        out: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in range(1, self.stages + 1):
            out = getattr(self, f"layer{stage}")(out)
        return out

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Returns logits `[B, K]`, or with `pre_logits` the mean over the map `[B, D]`, for features `[B, D, H, W]`."""
        pooled = features.mean((2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits `[B, K]` for images `[B, 3, H, W]`."""
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        """Returns the final linear layer."""
        return self.fc


def parse(name: str) -> Layout:
    """Returns the layout of a name that `PATTERN` matches.

    Raises:
        UserError: if the depth, the width or an option is not in the grammar, or options contradict each other.
    """
    match = PATTERN.fullmatch(name)
    assert match is not None
    plain, depth, width = match["kind"] == "plain", int(match["depth"]), float(match["width"] or 1)
    options = match["options"].split("-")[1:]
    for word in options:
        if word not in OPTIONS:
            known = ", ".join(OPTIONS)
            raise UserError(f'{name}: option "{word}" is unknown: expected some of {known}.{nearest(word, OPTIONS)}')
    chosen = [word for word in options if word in SHORTCUTS]
    if len(set(options)) < len(options) or len(chosen) > 1 or (plain and chosen):
        raise UserError(f"{name}: expected each option once, and {'no' if plain else 'at most one'} kind of shortcut.")
    imagenet = depth in IMAGENET and "bottleneck" not in options
    bottleneck = "bottleneck" in options or (imagenet and depth >= 50)
    if "v1" in options and not bottleneck:
        raise UserError(f"{name}: -v1 places the stride of bottlenecks, and this network has none; leave it out.")
    channels = round((64 if imagenet else 16) * width)
    if channels < 1:
        raise UserError(f"{name}: width {width} leaves no channel; expected a larger one, such as 0.25.")
    kind = None if plain else chosen[0] if chosen else "projection" if imagenet else "identity"
    return Layout(_blocks(name, depth, bottleneck, imagenet), channels, bottleneck, kind, "v1" in options, imagenet)


def _blocks(name: str, depth: int, bottleneck: bool, imagenet: bool) -> tuple[int, ...]:
    """Returns the number of blocks of each stage.

    Raises:
        UserError: if no layout has this depth.
    """
    if imagenet:
        return IMAGENET[depth]
    count, rest = divmod(depth - 2, 9 if bottleneck else 6)
    if count < 1 or rest:
        known = "9n + 2 (11, 20, 29, ...)" if bottleneck else "18, 34, 50, 101, 152 or 6n + 2 (8, 14, 20, 26, 32, ...)"
        raise UserError(f"{name}: no such network has {depth} layers; expected a depth of {known}.")
    return (count,) * 3


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the network `name`, which takes any image size.

    Raises:
        UserError: if the name is not in the grammar.
    """
    layout = parse(name)
    return ResNet(layout, large=layout.imagenet and image_size > 64, classes=classes)
