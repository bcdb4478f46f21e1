"""What the name of a ViT or hybrid, ours or timm's, says of its patches, and of which ViT a hybrid is."""

from __future__ import annotations

import re

from vision_repro.analysis.judges.attention import uniform_distance
from vision_repro.models.families import family

_OUR_PATCH = re.compile(r"(?:r[^+]*\+)?vit-[^/]+/(\d+)(?:-.*)?")
_TIMM_PATCH = re.compile(r"timm:(?:vit|deit)\w*?_(?:patch|r\d+_s)(\d+)_.*")


def uniform(model: str, image_size: int) -> float | None:
    """Returns the distance of uniform attention [pixels] in a model; None if its name tells no grid of patches."""
    match = _OUR_PATCH.fullmatch(model) or _TIMM_PATCH.fullmatch(model)
    if match is None or not int(match[1]) or image_size % int(match[1]):
        return None
    return uniform_distance(image_size // int(match[1]), int(match[1]))


def counterpart(model: str) -> str:
    """Returns the ViT of which `model` is the hybrid, without tag of weights; a ViT is its own."""
    return re.sub(r"_r\d+_s(\d+)_", r"_patch\1_", model.rpartition("+")[2]).partition(".")[0]


def is_hybrid(model: str) -> bool:
    """Returns whether a ResNet comes before the ViT."""
    return family(model) == "hybrid"
