"""Plain networks: a sequence of layers, a neck that turns the map into one vector, and a final linear layer.

Legend: B images, C channels, H x W pixels, D features, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vision_repro.config import UserError

WIDTH_PATTERN = r"(?:x(?P<width>\d+(?:\.\d+)?))?"


class Mean(nn.Module):
    """Global average pooling of maps `[B, C, H, W]` to `[B, C]`.

    It is a mean over axes because the backward pass of adaptive pooling is not deterministic on CUDA.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Returns the mean over the pixels of each channel."""
        return maps.mean((2, 3))


class Plain(nn.Module):
    """`features` (images `[B, 3, H, W]` to a map), `neck` (a map to vectors `[B, D]`), `head` (to logits `[B, K]`)."""

    def __init__(self, features: nn.Module, neck: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.features = features
        self.neck = neck
        self.head = head

    def forward_features(self, images: Tensor) -> Tensor:
        """Returns the last feature map `[B, C, H, W]`."""
        maps: Tensor = self.features(images)
        return maps

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Returns logits `[B, K]` of a feature map, or with `pre_logits` the input of the final layer `[B, D]`."""
        vectors: Tensor = self.neck(features)
        if pre_logits:
            return vectors
        logits: Tensor = self.head(vectors)
        return logits

    def get_classifier(self) -> nn.Module:
        """Returns the final linear layer."""
        return self.head

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits `[B, K]`."""
        return self.forward_head(self.forward_features(images))


@torch.no_grad()
def initialise_he(model: nn.Module, *heads: nn.Linear) -> None:
    """Draws kernels and matrices as He et al. 2015, Eq. 10: normal with variance 2 / fan-in; biases start at 0.

    The final layers `heads` are normal with a standard deviation of 0.64 / sqrt(fan-in). For AlexNet's 4096 inputs this
    is its 0.01 (section 5); for any width the first logits are smaller than the features.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for head in heads:
        nn.init.normal_(head.weight, std=0.64 / math.sqrt(head.in_features))


def width_factor(text: str | None) -> float:
    """Returns the factor on all channels from its text in a name; 1 if `text` is None.

    Raises:
        UserError: if it is 0.
    """
    factor = 1.0 if text is None else float(text)
    if factor <= 0:
        raise UserError(f"Width x{text} is not a width: expected a number above 0, such as x0.25.")
    return factor


def scaled(channels: int, factor: float, multiple: int = 1) -> int:
    """Returns `factor` times the channels, rounded to a multiple of `multiple`, at least one multiple."""
    return multiple * max(1, round(channels * factor / multiple))


def require_size(name: str, image_size: int, least: int) -> None:
    """Checks that the images are not too small for the poolings of a network.

    Raises:
        UserError: if the images have fewer than `least` pixels a side.
    """
    if image_size < least:
        raise UserError(f"{name} cannot take {image_size}-pixel images: expected at least {least} pixels a side.")
