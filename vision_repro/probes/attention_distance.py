"""Mean attention distance of each head [pixels]: how far a query patch looks (ViT, 4.5 and D.7, Figures 7 and 11).

The definition is that of the authors' code (google-research/vision_transformer, issue 162): for each query patch, sum
attention times the Euclidean distance between patch centres over the key patches; then take the mean over queries, then
over images. The class token is neither query nor key, and rows are not renormalised. The distance of a patch to itself,
0, is included. With windows (Swin), queries and keys are in the same window, at their true places in the image.

Legend: N images, B of a batch, H heads of a layer, R windows, T tokens of patches, S image side [pixels].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vision_repro.config import UserError
from vision_repro.probes.attention import Geometry, each_attention, geometry

IMAGES = 128
"""Images that the paper averages over."""
BATCH, BYTES = 32, 2**28
"""Maximum number of images, and approximate maximum memory of their matrices of one layer [bytes], held at once."""


def mean_distances(
    model: nn.Module, images: Tensor, *, normalise: Callable[[Tensor], Tensor] | None = None, batch: int | None = None
) -> list[Tensor]:
    """Returns the mean attention distance of each head [pixels], float64 `[H]` for each layer.

    Images are `[N, 3, S, S]`; `normalise` maps `batch` of them at a time to the model's input, on its device. The model
    is not changed. Memory does not grow with N: only the matrix of one layer and one batch is held at a time.

    Raises:
        UserError: if there are no images, they are not square or have the wrong size, or the model has no attention.
        ValueError: if an attention weight is not finite.
    """
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise UserError(f"Images of shape {list(images.shape)} do not fit: expected [N, 3, S, S], one view of each.")
    if not len(images):
        raise UserError("There are no images to measure the attention distance on: expected at least 1.")
    places, device = geometry(model, images.shape[-1]), next(model.parameters()).device
    apart = _apart(places, device)
    sums = [torch.zeros(heads, dtype=torch.float64, device=device) for heads in places.heads]

    def add(layer: int, weights: Tensor) -> None:
        # Sum over images first: one pass over the matrix, and the result is small enough for float64
        wide = torch.promote_types(weights.dtype, torch.float32)
        summed = places.between_patches(layer, weights).sum(0, dtype=wide)
        sums[layer] += (summed.double() * apart[layer]).sum((0, 2, 3))

    batch = batch or _batch(places)
    for start in range(0, len(images), batch):
        moved = images[start : start + batch].to(device)
        each_attention(model, moved if normalise is None else normalise(moved), add)
    queries = [windows.shape[0] * windows.shape[1] for windows in places.centres]
    found = [(total / (len(images) * count)).cpu() for total, count in zip(sums, queries, strict=True)]
    if not all(distances.isfinite().all() for distances in found):
        raise ValueError("The attention holds values that are not finite: the model has diverged.")
    return found


def _apart(places: Geometry, device: torch.device) -> list[Tensor]:
    """Returns distances between the tokens of each layer [pixels], float64 `[R, 1, T, T]`; equal ones are shared."""
    found: dict[int, Tensor] = {}
    for centres in places.centres:
        if id(centres) not in found:  # not `cdist`: its matrix product adds rounding errors
            found[id(centres)] = (centres[:, :, None] - centres[:, None]).norm(dim=-1)[:, None].to(device)
    return [found[id(centres)] for centres in places.centres]


def _batch(places: Geometry) -> int:
    """Returns the number of images of a batch."""
    sizes = [centres.shape[0] * (centres.shape[1] + places.prefix) ** 2 for centres in places.centres]
    largest = max(4 * heads * size for heads, size in zip(places.heads, sizes, strict=True))
    return max(1, min(BATCH, BYTES // largest))


def measure(model: nn.Module, images: Tensor, normalise: Callable[[Tensor], Tensor]) -> dict[str, tuple[float, str]]:
    """Returns `attention_distance_l<layer>_h<head>`, both counted from 0, in pixels, of uint8 images `[N, 3, S, S]`.

    Uses the first 128. Raises the errors of `mean_distances`.
    """
    found = mean_distances(model, images[:IMAGES], normalise=normalise)
    return {
        f"attention_distance_l{layer:02}_h{head:02}": (value, "pixels")
        for layer, distances in enumerate(found)
        for head, value in enumerate(distances.tolist())
    }


def check(model: nn.Module, image_size: int) -> None:
    """Raises UserError for a model that `measure` cannot measure; the model may be on the meta device."""
    geometry(model, image_size)
