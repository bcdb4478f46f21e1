"""Attention rollout: the share of each patch in the output of a ViT, through the attention of all layers.

Let W be the attention of a layer averaged over heads. A = 0.5 W + 0.5 I models the layer and its shortcut, and
R = A_L ... A_2 A_1 the whole network (Abnar and Zuidema, section 3; ViT, section D.8 and Figures 6 and 14). The map is
the row of R for the class token, without the entry of the class token itself. If the head reads the mean of the patch
tokens instead, the map is the mean of their rows.

Computing one row of R needs no product of matrices: a vector is multiplied by the layers from the last to the first.

Legend: B images, L layers, T tokens, P prefix tokens, G x G patches, S image side [pixels].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from vision_repro.config import UserError
from vision_repro.probes.attention import Geometry, each_attention, geometry, plain

BATCH = 32
"""Number of images whose matrices, one per layer, are held at once."""


def joint(means: Sequence[Tensor]) -> Tensor:
    """Returns the product R `[B, T, T]`, given the head-averaged attention `[B, T, T]` of each layer, first to last."""
    whole = torch.eye(means[0].shape[-1], dtype=means[0].dtype, device=means[0].device).expand_as(means[0])
    for mean in means:
        whole = 0.5 * (mean @ whole) + 0.5 * whole
    return whole


def joint_row(means: Sequence[Tensor], start: Tensor) -> Tensor:
    """Returns `start @ R` `[B, T]`, where `start` `[T]` holds the weights of the rows; `means` as for `joint`."""
    row = start.to(means[0]).expand(len(means[0]), 1, -1)
    for mean in reversed(means):
        row = 0.5 * (row @ mean) + 0.5 * row
    return row[:, 0]


def head_means(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Returns each layer's attention averaged over heads, at least float32 `[B, T, T]`, for inputs `[B, 3, S, S]`.

    Raises:
        UserError: if the model has no attention.
    """
    means: list[Tensor] = []

    def keep(_: int, weights: Tensor) -> None:
        means.append(weights.mean(1, dtype=torch.promote_types(weights.dtype, torch.float32)))

    each_attention(model, inputs, keep)
    return means


def rollout(model: nn.Module, images: Tensor, *, normalise: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Returns maps `[B, G, G]` over patches: fractions of the output; with those of prefix tokens they sum to 1.

    Images are `[B, 3, S, S]`; `normalise` maps them to the model's input, on its device. The model is not changed.

    Raises:
        UserError: if there are no images, they have the wrong size, the layers have different tokens (Swin), or the
            head reads neither a class token nor the mean of patches.
    """
    if images.ndim != 4 or not len(images):
        raise UserError(
            f"Images of shape {list(images.shape)} do not fit: expected [B, 3, S, S] with at least one image."
        )
    places, device = geometry(model, images.shape[-1]), next(model.parameters()).device
    if any(centres.shape != (1, places.grid**2, 2) for centres in places.centres):
        raise UserError(
            "Attention rollout needs the same tokens in all layers, but in this model they are in windows or merged."
        )
    start = _read(plain(model), places).to(device)
    maps = []
    for first in range(0, len(images), BATCH):
        moved = images[first : first + BATCH].to(device)
        means = head_means(model, moved if normalise is None else normalise(moved))
        if means[0].shape[-1] != len(start):
            raise UserError(f"The model has {means[0].shape[-1]} tokens, not {len(start)}: their places are unknown.")
        maps.append(joint_row(means, start)[:, places.prefix :].reshape(-1, places.grid, places.grid))
    return torch.cat(maps)


def _read(model: Any, places: Geometry) -> Tensor:
    """Returns the weight of each token in the input of the head, `[T]`: 1 for the class token, or 1 / G^2 per patch."""
    pooling = getattr(model, "global_pool", "avg")
    weights = torch.zeros(places.prefix + places.grid**2, dtype=torch.float64)
    if pooling == "token" and places.prefix:
        weights[0] = 1
    elif pooling == "avg":
        weights[places.prefix :] = 1 / places.grid**2
    else:
        raise UserError(f'Output read by "{pooling}" has no row to roll out: expected a class token or the mean (gap).')
    return weights


def overlay(image: Tensor, heat: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Returns the image uint8 `[3, H, W]` as uint8 `[H, W, 3]`, dark where the map `heat` `[G, G]` is low.

    The map is resized with Lanczos' filter, blurred with a Gaussian of one patch, and shifted and scaled to [0, 1]. It
    is then the opacity of the image over black (google-research/vision_transformer, issue 27). A constant map shows the
    whole image. Do not compare values between pictures: shift and scale differ from image to image.
    Deviation: no division by the maximum before scaling; the last scaling cancels it.
    Deviation: an exact Gaussian instead of Pillow's three boxes; it is the filter that the boxes approximate.
    Unspecified in the thread: the colour behind the image. Here it is black.

    Raises:
        UserError: if the image or the map has the wrong shape or type.
    """
    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8 or heat.ndim != 2:
        shapes = f"{image.dtype} {list(image.shape)} and {list(heat.shape)}"
        raise UserError(f"Image and map are {shapes}: expected torch.uint8 [3, H, W] and [G, G].")
    height, width = image.shape[1:]
    small = Image.fromarray(heat.cpu().numpy().astype(np.float32))
    large = np.asarray(small.resize((width, height), Image.Resampling.LANCZOS), dtype=np.float64)
    blurred = gaussian_filter(large, (height / heat.shape[0], width / heat.shape[1]), mode="nearest")
    low, high = blurred.min(), blurred.max()
    # after the filters, a constant map is constant only up to rounding
    flat = high - low <= 1e-5 * abs(high)
    opacity = np.ones_like(blurred) if flat else (blurred - low) / (high - low)
    pixels = image.permute(1, 2, 0).cpu().numpy()
    shown: np.ndarray[Any, np.dtype[np.uint8]] = np.rint(pixels * opacity[..., None]).astype(np.uint8)
    return shown
