"""A model's attention as the numbers of a page: quantised, packed, and as much of it as fits.

A block is the attention of one layer on one image. It holds, little-endian and deflated: the step of each row, float32
`[H, T]`; the mean attention distance of each patch [pixels], float32 `[H, N]`; and the weights in steps, uint8
`[H, T, T]`. A step is 1/255 of the largest weight of its row, so that no weight is off by more than 1/510 of that.
Distances are computed before quantising.

Legend: I images, L layers, H heads, T tokens, N patches, P = T - N prefix tokens (class token), G = sqrt(N).
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vision_repro.config import UserError
from vision_repro.explorer.pictures import Pictures
from vision_repro.probes import attention
from vision_repro.probes.attention import Geometry
from vision_repro.probes.rollout import rollout

STEPS = 255
MOST_PATCHES = 1024
"""Above it the attention of one layer on one image, for all heads, would fill the page or more."""
_DIGITS = 5


class Found(NamedTuple):
    """The attention of a model on some images."""

    geometry: Geometry
    blocks: list[list[bytes]]
    """`[L][I]`, see above."""
    distances: Tensor
    """Mean over images and patches `[L, H]` [pixels]."""
    uniform: float
    """The same, if each patch attended to all patches equally [pixels]."""
    error: float
    """Largest difference between a weight and its quantised form, a fraction."""
    rollout: Tensor
    """Rollout over the patches `[I, N]`, a fraction of what the head reads."""
    reads_class: bool
    """Whether the head reads the class token, not the mean of the patches."""
    logits: Tensor
    """`[I, K]`."""


def check(geometry: Geometry, image_size: int, kept: Sequence[int]) -> None:
    """Raises UserError if no page can show this attention: in windows, over too many patches, or of other layers."""
    if any(windows != 1 for windows in geometry.windows):
        raise UserError(
            "This model attends within windows, and the page shows global attention: expected a ViT or a hybrid."
        )
    if geometry.grid**2 > MOST_PATCHES:
        raise UserError(
            f"--image_size={image_size} gives {geometry.grid} x {geometry.grid} patches: expected at most "
            f"{MOST_PATCHES}, or the page would be too large; choose smaller images or larger patches."
        )
    if kept and max(kept) >= geometry.layers:
        raise UserError(f"--layers: there is no layer {max(kept) + 1}: expected 1 to {geometry.layers}.")


def look(model: nn.Module, inputs: Tensor, image_size: int) -> Found:
    """Returns the attention of a model on inputs `[I, 3, S, S]`.

    Raises:
        UserError: if the model has no attention, one that is not finite, or an output read from elsewhere.
    """
    where = attention.geometry(model, image_size)
    centres = where.centres[0][0]
    apart = (centres[:, None] - centres[None]).norm(dim=-1)
    blocks: list[list[bytes]] = []
    means: list[Tensor] = []
    errors: list[float] = []

    def visit(layer: int, weights: Tensor) -> None:
        if not weights.isfinite().all():
            raise UserError(f"The attention of layer {layer + 1} is not finite: these weights have diverged.")
        far = _distances(where.between_patches(layer, weights)[:, 0], apart)
        means.append(far.mean((0, 2)))
        made = [pack(one, far[index]) for index, one in enumerate(weights.float())]
        blocks.append([block for block, _ in made])
        errors.extend(error for _, error in made)

    logits = attention.each_attention(model, inputs, visit)
    rows = rollout(model, inputs).flatten(1)
    reads_class = getattr(attention.plain(model), "global_pool", "avg") == "token"
    return Found(where, blocks, torch.stack(means), float(apart.mean()), max(errors), rows, reads_class, logits)


def _distances(weights: Tensor, apart: Tensor) -> Tensor:
    """Returns the mean attention distance `[I, H, N]` [pixels] of each patch for weights `[I, H, N, N]`.

    Prefix tokens are left out as queries and as keys, and rows are not renormalised (the authors' code).
    """
    return torch.einsum("ihqk,qk->ihq", weights.double(), apart)


def pack(weights: Tensor, distances: Tensor) -> tuple[bytes, float]:
    """Returns the block of rows `[H, T, T]` and distances `[H, N]`, and its largest error."""
    steps = (weights.amax(-1) / STEPS).clamp(min=torch.finfo(torch.float32).tiny)
    codes = (weights / steps[..., None]).round().clamp(0, STEPS)
    error = float((codes * steps[..., None] - weights).abs().max())
    parts = (
        steps.numpy().astype("<f4").tobytes(),
        distances.numpy().astype("<f4").tobytes(),
        codes.to(torch.uint8).numpy().tobytes(),
    )
    return zlib.compress(b"".join(parts), 6), error


def fitted(found: Found, kept: Sequence[int], room: int) -> dict[str, Any]:
    """Returns the attention as JSON values of at most `room` bytes: of the layers `kept`, else of as many as fit.

    Layers that are left out are spread evenly; the last one stays.

    Raises:
        UserError: if that is not even one, or not those that were asked for.
    """
    sizes = [sum(4 * -(-len(block) // 3) + 3 for block in layer) for layer in found.blocks]
    chosen = list(kept) or _spread(sizes, room)
    total = sum(sizes[layer] for layer in chosen)
    if total > room or not chosen:
        what = f"{len(found.blocks[0])} images in {f'{len(chosen)} layers' if len(chosen) > 1 else 'one layer'}"
        raise UserError(
            f"The attention of {what} takes {(total or sizes[-1]) / 1e6:.1f} MB of the {room / 1e6:.1f} MB there are: "
            "choose fewer --images or --layers."
        )
    return {
        "grid": found.geometry.grid,
        "patch": found.geometry.patch,
        "prefix": found.geometry.prefix,
        "reads_class": found.reads_class,
        "heads": list(found.geometry.heads),
        "kept": chosen,
        "blocks": [[base64.b64encode(block).decode() for block in found.blocks[layer]] for layer in chosen],
        "distances": _rounded(found.distances),
        "uniform": round(found.uniform, _DIGITS),
        "error": found.error,
    }


def _spread(sizes: Sequence[int], room: int) -> list[int]:
    """Returns the most layers, evenly spread up to the last, that have room together; perhaps none."""
    for count in range(len(sizes), 0, -1):
        first = 0 if count > 1 else len(sizes) - 1
        chosen: list[int] = np.linspace(first, len(sizes) - 1, count).round().astype(int).tolist()
        if sum(sizes[layer] for layer in chosen) <= room:
            return chosen
    return []


def described(pictures: Pictures, found: Found, *, predicted: bool) -> list[dict[str, Any]]:
    """Returns for each image its picture, name, class, rollout and, if the model has its own head, the prediction."""
    said: list[Any] = [None] * len(pictures.names)
    if predicted and found.logits.shape[1] == len(pictures.classes):
        likely = found.logits.double().softmax(1).max(1)
        said = [
            {"label": pictures.classes[label], "probability": round(value, _DIGITS)}
            for value, label in zip(likely.values.tolist(), likely.indices.tolist(), strict=True)
        ]
    rows = zip(pictures.uris, pictures.names, pictures.labels, said, _rounded(found.rollout, 7), strict=True)
    return [
        {"picture": uri, "name": name, "label": label, "predicted": guess, "rollout": rollout}
        for uri, name, label, guess, rollout in rows
    ]


def _rounded(values: Tensor, digits: int = _DIGITS) -> list[list[float]]:
    return [[round(value, digits) for value in row] for row in values.tolist()]
