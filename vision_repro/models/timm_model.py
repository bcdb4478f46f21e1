"""Any classifier of timm: `timm:<model>[.<tag>]`, as in `timm:resnet18` or `timm:vit_base_patch16_224.augreg_in21k`.

The model gets new weights, drawn by timm. The tag names the pretrained weights that `weights.load` can put in, and how
their images are normalised (`model.pretrained_cfg["mean"]` and `["std"]`). A model of a fixed image size is built for
the requested size.
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
    """Checks that timm has this model, and the model this tag.

    Raises:
        UserError: with the nearest name, if not.
    """
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
    """Returns the settings with which timm builds the model for square images of `image_size` [pixels]."""
    fixed = timm.get_pretrained_cfg(tag).fixed_input_size
    return {"img_size": image_size} if fixed else {}


def _try(tag: str, image_size: int, classes: int) -> None:
    """Builds the model without storage and checks its shapes.

    Raises:
        ValueError: if it is not a classifier with features and logits. timm's own errors are of any type.
    """
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
    """Returns timm's model, with `classes` outputs and newly drawn weights.

    Raises:
        UserError: if timm has no such model, or it is no classifier, or it does not take the image size.
    """
    match = PATTERN.fullmatch(name)
    assert match is not None
    tag = match["tag"]
    check_tag(tag)
    try:
        _try(tag, image_size, classes)
    except Exception as error:  # the models of timm raise errors of any type
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{name} is no classifier of {image_size}-pixel images: {why}") from error
    model: nn.Module = timm.create_model(tag, num_classes=classes, **settings(tag, image_size))
    return model
