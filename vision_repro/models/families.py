"""The family of a model, by its name: the one definition. No torch here."""

from __future__ import annotations

import re

from vision_repro.config import UserError

TITLES = {
    "lenet": "LeNet-5",
    "alexnet": "AlexNet",
    "vgg": "VGG",
    "googlenet": "GoogLeNet",
    "resnet": "ResNet",
    "bit": "BiT",
    "vit": "ViT",
    "hybrid": "hybrid",
    "swin": "Swin",
}
"""Families that experiments compare -> the name in text."""
CNNS = ("alexnet", "vgg", "googlenet", "resnet", "bit")
"""The group "CNNs" of an experiment; LeNet-5, which sees grey images only, is none of it."""

_OTHERS = ("efficientnet", "kernels", "nin", "plain")
# a family's name ends where a size, an option or a width (`x0.25`) begins: `vitamin` is no ViT
_BEGINNING = re.compile(rf"({'|'.join((*TITLES, *_OTHERS))})(?=x[\d.]|[\W\d_]|$)")


def family(model: str) -> str:
    """Returns the family of a model, ours or timm's, such as `vit`; a ViT behind a ResNet is `hybrid`; empty if none.

    `resnet20` is a `resnet`; timm's `resnetv2_50x1_bit` is a `bit`.
    """
    name = model.lower().removeprefix("timm:")
    if "+vit" in name or re.match(r"vit_\w*_r\d+_s\d+_", name):
        return "hybrid"
    if re.match(r"resnetv2_\w*_bit\b", name):
        return "bit"
    match = _BEGINNING.match(name)
    return match[1] if match else ""


def title(model: str) -> str:
    """Returns the name in text of the family of a model that experiments compare.

    Raises:
        UserError: if it is of none of these families.
    """
    found = TITLES.get(family(model))
    if found is None:
        known = ", ".join(TITLES.values())
        raise UserError(f'--model="{model}" is of no family that is compared here: expected one of {known}.')
    return found
