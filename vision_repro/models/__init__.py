"""Architectures by name, one file each. A new architecture is a new file here, with nothing to register.

A file is an architecture if it defines

    PATTERN     regular expression of its names
    EXAMPLES    names that it builds, for people
    FAMILIES    the families of its names (`families.py`); empty if any
    PUBLISHED   the sizes that its sources print (`published.py`)
    SMALL       pairs of a name and an image size [pixels] that a test can train
    build(name, *, image_size, classes)    returns a plain module from float images `[B, 3, H, W]` to logits `[B, K]`

The module has timm's `forward_features`, `forward_head(features, pre_logits=...)` and `get_classifier`. If it has
auxiliary classifiers, it returns `outputs.WithAuxiliary` in training.
Legend: B images, H and W pixels, K classes, D features. torch and timm load with the first call, not with the import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vision_repro import catalogue
from vision_repro.config import UserError, nearest
from vision_repro.models.published import Published

if TYPE_CHECKING:
    from torch import Tensor, nn


def names() -> list[str]:
    """Returns example names of every architecture; many more are built, see each file's grammar."""
    return sorted(name for module in catalogue.architectures() for name in module.EXAMPLES)


def published() -> list[Published]:
    """Returns the published sizes of all architectures, file by file."""
    return [item for module in catalogue.architectures() for item in module.PUBLISHED]


def small() -> list[tuple[str, int]]:
    """Returns (name, image size [pixels]) of small versions of every architecture, for tests."""
    return [item for module in catalogue.architectures() for item in module.SMALL]


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the architecture `name`, with weights drawn from torch's global generator.

    Raises:
        UserError: if no architecture has this name, or if it cannot take square images of `image_size` pixels.
    """
    if classes < 1 or image_size < 1:
        raise UserError(f"A model needs at least 1 class and 1 pixel, not {classes} and {image_size}.")
    for module in catalogue.architectures():
        if module.PATTERN.fullmatch(name):
            model: nn.Module = module.build(name, image_size=image_size, classes=classes)
            return model
    some = ", ".join(sorted(module.EXAMPLES[0] for module in catalogue.architectures()))
    raise UserError(f'Model "{name}" is unknown: expected a name such as {some}.{nearest(name, names())}')


def features(model: nn.Module, images: Tensor) -> Tensor:
    """Returns the input of the final linear layer `[B, D]` for images `[B, 3, H, W]`.

    This is the class token after the last norm (ViT, Eq. 4), or the pooled feature map (a CNN). The caller chooses
    training or evaluation mode and whether gradients are kept: a probe calls `model.eval()` and works under
    `torch.inference_mode()`.
    """
    timm_model: Any = model
    found: Tensor = timm_model.forward_head(timm_model.forward_features(images), pre_logits=True)
    return found.flatten(1)


def parameters(model: nn.Module) -> int:
    """Returns the number of parameters, trainable and frozen, including the final linear layer."""
    return sum(item.numel() for item in model.parameters())


def use_explicit_attention(model: nn.Module, explicit: bool) -> None:
    """Makes every attention layer compute its softmax matrix (`explicit`), or use torch's fused kernel.

    Both give the same logits up to rounding. Each layer is set here, because timm reads its global switch only when it
    builds a layer. A model without attention does not change.
    """
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            vars(module)["fused_attn"] = not explicit
