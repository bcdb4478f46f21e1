"""The family of a model, by its name alone: `vit`, `bit`, `hybrid`, `resnet`, `swin`, ... No torch here.

A name begins with its family, in our grammars, in timm's and in papers: `swin-t`, `swinv2_tiny_window8_256` and
`Swin-T` are `swin`. A new architecture whose names follow this rule needs no entry here. The exceptions are hybrids,
whose names begin with their ResNet; BiT, which papers and timm call a ResNet; and `kernels-...`, which is `kernel_net`.
Each architecture file states its `FAMILIES`, and a test compares them with what `family` returns.
"""

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

_PREFIX = re.compile(r"^(?:timm:|test_|tf_|legacy_|wide_|noisy student |preact )+")
_HYBRID = re.compile(r".*\+vit-|vit_\w+_r(?:\d*_s|esnet)\d+")
# The papers write BiT as `ResNet50x1` and `R50x1`, with capitals; a small `resnet20x0.5` is a ResNet of half the width.
_BIT_OF_PAPERS = re.compile(r"R(?:esNet)?\d+x\d")
_BIT_OF_TIMM = re.compile(r"resnetv2_\d+x\d_bit")
# Letters up to a digit, a factor (x0.25) or a version (v2); digits inside a word belong to it, as in `res2net50`.
_FIRST_WORD = re.compile(r"[a-z]+?(?:\d[a-z]{3,})?(?=[xv]?\d|[^a-z\d]|$)")
_NAMED_OTHERWISE = {"kernels": "kernel_net"}


def family(name: str) -> str:
    """Returns the family of a model, for a name of ours, `timm:<model>[.<tag>]`, a timm name or a paper's name.

    Names are not checked: an unknown one has its first word as its family, and the whole name if it has no letters.
    """
    short = _PREFIX.sub("", name.lower())
    if _HYBRID.match(short):
        return "hybrid"
    if _BIT_OF_PAPERS.match(name) or _BIT_OF_TIMM.match(short):
        return "bit"
    word = _FIRST_WORD.match(short)
    return _NAMED_OTHERWISE.get(word[0], word[0]) if word else short


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
