"""Any classifier of timm: `timm:<model>[.<tag>]`, as in `timm:resnet18` or `timm:vit_base_patch16_224.augreg_in21k`.

The weights are fresh, as timm draws them; a tag says which pretrained ones `weights.load` may put in, and which pixels
they expect (`model.pretrained_cfg["mean"]` and `["std"]`). Models of a fixed image size are built for the size given.
"""

from __future__ import annotations

import re
from typing import Any

import timm
import torch
from torch import nn

from vision_repro.config import UserError, nearest
from vision_repro.models.published import Published

PATTERN = re.compile(r"timm:(?P<tag>.+)")
FAMILIES = ()  # any: what `families.family` reads from timm's name
EXAMPLES = ("timm:resnet18", "timm:vit_base_patch16_224.augreg_in21k")
PUBLISHED: tuple[Published, ...] = ()
SMALL = (("timm:test_vit", 32), ("timm:test_resnet", 64))


def check_tag(tag: str) -> None:
    """Raises UserError, with the nearest name, if timm has no such model, or the model has no such tag."""
    model, _, weights = tag.partition(".")
    if model in timm.models.get_deprecated_models():
        new = timm.models.get_deprecated_models()[model]
        raise UserError(f'timm has renamed or removed "{model}"' + (f': expected "timm:{new}".' if new else "."))
    if not timm.is_model(model):
        known = timm.list_models()
        raise UserError(f'timm {timm.__version__} has no model "{model}".{nearest(model, known)}')
    known = [name.partition(".")[2] for name in timm.list_models(f"{model}.*", include_tags=True)]
    if weights and weights not in known:
        listed = ", ".join(known) or "none"
        raise UserError(f'timm\'s "{model}" has no weights "{weights}": expected {listed}.{nearest(weights, known)}')


def settings(tag: str, image_size: int) -> dict[str, Any]:
    """Returns timm's settings that build the model for square images of `image_size` [pixels]."""
    fixed = timm.get_pretrained_cfg(tag).fixed_input_size
    return {"img_size": image_size} if fixed else {}


def _try(tag: str, image_size: int, classes: int) -> None:
    """Builds the model without storage and looks at its shapes; raises whatever timm does, or ValueError."""
    with torch.device("meta"), torch.no_grad():
        model = timm.create_model(tag, num_classes=classes, **settings(tag, image_size)).eval()
        if not isinstance(model.get_classifier(), nn.Module):
            raise ValueError("it has not one classifier")
        tokens = model.forward_features(torch.empty(2, 3, image_size, image_size))
        logits, features = model.forward_head(tokens), model.forward_head(tokens, pre_logits=True)
    if logits.shape != (2, classes):
        raise ValueError(f"its output has shape {list(logits.shape)}")
    if features.shape[0] != 2:
        raise ValueError(f"its features have shape {list(features.shape)}")


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns timm's model, with `classes` outputs and fresh weights.

    Raises:
        UserError: if timm does not know it, if it is no classifier, or if it does not take the image size.
    """
    match = PATTERN.fullmatch(name)
    assert match is not None
    tag = match["tag"]
    check_tag(tag)
    try:
        _try(tag, image_size, classes)
    except Exception as error:  # timm raises whatever the model's code stumbles over
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{name} is no classifier of {image_size}-pixel images: {why}") from error
    model: nn.Module = timm.create_model(tag, num_classes=classes, **settings(tag, image_size))
    return model
