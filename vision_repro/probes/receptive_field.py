"""Effective receptive field of a CNN: how far the pixels that influence a unit are from it [pixels] (Luo et al., 2016).

A gradient of 1 at the centre unit of a feature map, in all channels, is propagated back to the input. The field is its
absolute value, summed over colours and averaged over images. There is one field for each resolution of the network,
from the last map of this resolution. Its mean distance corresponds to the mean attention distance of a ViT.

Distances are measured from the field's centre of mass. The middle of a unit's square of pixels is not its centre: each
convolution of stride 2 with one pixel of padding shifts it by half a stride, in total by 15.5 pixels in the last maps
of a ResNet.
Unspecified in the paper: how gradients of different signs are combined. Here absolute values are summed, so that signs
do not cancel.

Legend: N images, B of a batch, C channels, S image side [pixels], h side of a map.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vision_repro.config import UserError
from vision_repro.probes.attention import evaluating, layers_of, plain

IMAGES, BATCH = 128, 8
"""Number of images in total, and of those whose activations are held at once."""


class Field(NamedTuple):
    """One stage: the module that returns the map, the stride of the map [pixels], and the field `[S, S]`, of sum 1."""

    module: str
    stride: float
    weights: Tensor

    @property
    def distance(self) -> float:
        """The mean distance of the field's pixels from its centre [pixels]."""
        along = torch.arange(self.weights.shape[0], dtype=torch.float64)
        down, right = along @ self.weights.sum(1), along @ self.weights.sum(0)
        return float((self.weights * torch.hypot(along[:, None] - down, along[None] - right)).sum())


def receptive_fields(
    model: nn.Module, images: Tensor, *, normalise: Callable[[Tensor], Tensor] | None = None
) -> list[Field]:
    """Returns the field of each resolution of a CNN, from the first to the last, on the CPU in float64.

    Leaves out maps of a single unit. Images are `[N, 3, S, S]`; `normalise` maps them to the model's input, on its
    device. The model is not changed.

    Raises:
        UserError: if there are no images, they are not square, or the model has attention or no feature map.
        ValueError: if the gradient at the images is 0 or not finite.
    """
    if images.ndim != 4 or images.shape[2] != images.shape[3] or not len(images):
        raise UserError(
            f"Images of shape {list(images.shape)} do not fit: expected [N, 3, S, S] with at least one image."
        )
    inner, size = plain(model), images.shape[-1]
    _refuse_attention(inner)
    device, sums = next(model.parameters()).device, torch.zeros(1)
    # a caller may use inference mode, which computes no gradients
    with evaluating(model), torch.inference_mode(False), torch.enable_grad():
        for start in range(0, len(images), BATCH):
            moved = images[start : start + BATCH].to(device)
            inputs = (moved if normalise is None else normalise(moved)).detach().clone().requires_grad_()
            if start == 0:
                stages = _stages(inner, inputs[:1].detach())
                sums = torch.zeros(len(stages), size, size, dtype=torch.float64)
            sums += _gradients(inner, inputs, list(stages))
    totals = sums.sum((1, 2))
    if not (totals.isfinite() & (totals > 0)).all():
        raise ValueError("No finite gradient reaches the images: the model has diverged, or its units are dead.")
    fields = sums / totals[:, None, None]
    return [Field(name, size / side, field) for (name, side), field in zip(stages.items(), fields, strict=True)]


def _hooked(model: nn.Module, names: list[str], inputs: Tensor, look: Callable[[str, Any], None]) -> None:
    """Runs the model up to its features, and calls `look` with the name and output of each named module."""

    def hook(name: str, _: nn.Module, __: Any, output: Any) -> None:
        look(name, output)

    with ExitStack() as stack:
        for name in names:
            handle = model.get_submodule(name).register_forward_hook(partial(hook, name))
            stack.callback(handle.remove)
        features: Any = model
        features.forward_features(inputs)


def _stages(model: nn.Module, inputs: Tensor) -> dict[str, int]:
    """Returns the last module whose output is a map of side h, and h, for each h above 1, from large to small."""
    last: dict[int, str] = {}

    def look(name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
            last[output.shape[2]] = name

    with torch.no_grad():
        _hooked(model, [name for name, _ in model.named_modules() if name], inputs, look)
    if not last:
        raise UserError(f"{type(model).__name__} has no feature map of more than one unit: expected a CNN.")
    return {last[side]: side for side in sorted(last, reverse=True)}


def _gradients(model: nn.Module, inputs: Tensor, names: list[str]) -> Tensor:
    """Returns the absolute gradients of each stage's centre unit, summed over images and colours, `[stages, S, S]`."""
    centres: dict[str, Tensor] = {}

    def look(name: str, output: Tensor) -> None:
        centre = output.shape[2] // 2
        centres[name] = output[:, :, centre, centre].sum()

    _hooked(model, names, inputs, look)
    found = [torch.autograd.grad(centres[name], inputs, retain_graph=name != names[-1])[0] for name in names]
    return torch.stack([gradient.abs().sum((0, 1)).double().cpu() for gradient in found])


def _refuse_attention(model: nn.Module) -> None:
    if layers_of(model):
        raise UserError(f"{type(model).__name__} has attention and no receptive field: measure its attention distance.")


def check(model: nn.Module, image_size: int) -> None:
    """Raises UserError for a model that has attention or no feature map; the model may be on the meta device."""
    inner = plain(model)
    _refuse_attention(inner)
    with evaluating(inner):
        _stages(inner, torch.zeros(1, 3, image_size, image_size, device=next(inner.parameters()).device))


def measure(model: nn.Module, images: Tensor, normalise: Callable[[Tensor], Tensor]) -> dict[str, tuple[float, str]]:
    """Returns `receptive_field_s<stage>`, the mean distance in pixels, of uint8 images `[N, 3, S, S]`.

    Uses the first 128. Raises the errors of `receptive_fields`.
    """
    found = receptive_fields(model, images[:IMAGES], normalise=normalise)
    return {f"receptive_field_s{stage:02}": (field.distance, "pixels") for stage, field in enumerate(found)}
