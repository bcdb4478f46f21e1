"""The head of a model: its final linear layer, and the layers that are trained and dropped together with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

BESIDE = ("pre_logits.", "auxiliary.")
"""The hidden layer of a ViT's pre-training head, and the auxiliary classifiers of a CNN."""


def head_layer(model: nn.Module) -> nn.Module:
    """Returns the final linear layer of a model."""
    timm_model: Any = model
    layer: nn.Module = timm_model.get_classifier()
    return layer


def head_keys(keys: Iterable[str], model: nn.Module) -> set[str]:
    """Returns the parameter names among `keys` that belong to the head of `model`."""
    layer = head_layer(model)
    name = next(name for name, item in model.named_modules() if item is layer)
    return {key for key in keys if key.startswith((f"{name}.", *BESIDE))}


def with_head(state: Mapping[str, Tensor], model: nn.Module, keep: bool) -> tuple[dict[str, Tensor], bool]:
    """Returns the state dict with its own head or with the head of `model`, and whether it is its own.

    With `keep` its own head is kept if all its layers fit the model. A final layer is never kept without the hidden
    layer with which it was trained, or together with another one.
    """
    own = model.state_dict()
    theirs, ours = head_keys(state, model), head_keys(own, model)
    if keep and theirs == ours and all(state[key].shape == own[key].shape for key in ours):
        return dict(state), True
    body = {key: value for key, value in state.items() if key not in theirs}
    return {**body, **{key: own[key] for key in ours}}, False


def zero_head(model: nn.Module) -> None:
    """Sets the final layer to zero, so that training starts from equal logits (ViT, B.1.1; BiT, section 3.3)."""
    for value in head_layer(model).parameters():
        nn.init.zeros_(value)
