"""Inception blocks, four parallel branches of convolutions, and auxiliary classifiers (arXiv 1409.4842).

Legend: B images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vision_repro.models.layers.plain import scaled


class Widths(NamedTuple):
    """Channels of the four branches of a block (Table 1)."""

    one: int
    reduce3: int
    three: int
    reduce5: int
    five: int
    pool: int


def unit(inputs: int, outputs: int, kernel: int, norm: bool, stride: int = 1) -> nn.Sequential:
    """Returns a convolution that keeps the side or divides it by `stride`, with batch norm or a bias, and a ReLU."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=not norm)
    if norm:
        layers["norm"] = nn.BatchNorm2d(outputs, eps=1e-3)
    layers["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


def halving_pool() -> nn.MaxPool2d:
    """Returns a 3x3 max-pooling with stride 2 that rounds up: S pixels become S // 2."""
    return nn.MaxPool2d(3, 2, ceil_mode=True)


class Inception(nn.Module):
    """Four parallel branches: Figure 2b, or if not `reduced` Figure 2a with a 1x1 convolution after its pooling."""

    def __init__(self, inputs: int, widths: Widths, norm: bool, reduced: bool) -> None:
        super().__init__()
        self.one = unit(inputs, widths.one, 1, norm)
        self.three, self.five = nn.Sequential(), nn.Sequential()
        for branch, kernel, reduce, outputs in (
            (self.three, 3, widths.reduce3, widths.three),
            (self.five, 5, widths.reduce5, widths.five),
        ):
            if reduced:
                branch.append(unit(inputs, reduce, 1, norm))
            branch.append(unit(reduce if reduced else inputs, outputs, kernel, norm))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), unit(inputs, widths.pool, 1, norm))
        self.channels = widths.one + widths.three + widths.five + widths.pool

    def forward(self, maps: Tensor) -> Tensor:
        """Returns the concatenated maps of the four branches, `[B, channels, H, W]`."""
        return torch.cat((self.one(maps), self.three(maps), self.five(maps), self.pool(maps)), 1)


def auxiliary_classifier(inputs: int, side: int, width: float, norm: bool, classes: int) -> nn.Sequential:
    """Returns an auxiliary classifier over a map of `side` pixels (section 5)."""
    kernel, maps, units = min(5, side), scaled(128, width), scaled(1024, width)
    pixels = ((side - kernel) // 3 + 1) ** 2
    layers: OrderedDict[str, nn.Module] = OrderedDict(pool=nn.AvgPool2d(kernel, 3))
    layers["conv"] = unit(inputs, maps, 1, norm)
    layers["flatten"], layers["fc"] = nn.Flatten(), nn.Linear(maps * pixels, units)
    layers["relu"], layers["drop"] = nn.ReLU(inplace=True), nn.Dropout(0.7)
    layers["head"] = nn.Linear(units, classes)
    return nn.Sequential(layers)
