"""Shuffled patches: how accurate is a model when the patches of an image are in random order?

Images are cut into g x g patches and the patches are shuffled. The order depends on g and on the index of the image in
the test set, so that all models and seeds see the same images. Shuffling keeps the content of each patch and loses
their arrangement. A ViT without position embeddings that averages its patch tokens gives the same output (ViT, section
D.4: it sees a bag of patches). The probe uses the first 500 test images.

The images are those of Naseer et al. (Intriguing Properties of Vision Transformers, NeurIPS 2021), and similar to the
scrambled images of Brendel and Bethge (BagNets, ICLR 2019). Limits: the edges between patches are new and belong to no
class; 1 in (g x g)! orders does not change the image, which for 2 x 2 is 1 in 24.

Legend: N images, S their side, P the side of a patch [pixels], T = g x g patches, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vision_repro.config import UserError
from vision_repro.probes.decisions import IMAGES, decide, share
from vision_repro.probes.images import first_images

GRIDS = (2, 4, 7, 8, 14, 16)
"""Patches along a side; 14 is the grid of ViT-B/16 at 224 pixels."""
SEED = 20201022


def grids(size: int) -> tuple[int, ...]:
    """Returns the grids that divide images of side `size` into patches of at least 2 x 2 pixels."""
    return tuple(grid for grid in GRIDS if size % grid == 0 and size // grid >= 2)


def orders(count: int, tiles: int) -> Tensor:
    """Returns int64 `[count, tiles]`: row i is the order of image i and does not depend on `count`."""
    generator = torch.Generator().manual_seed(SEED + tiles)
    return torch.stack([torch.randperm(tiles, generator=generator) for _ in range(count)])


def cut(images: Tensor, grid: int) -> Tensor:
    """Returns the patches `[N, T, C, P, P]`, row by row, of images `[N, C, S, S]`; `grid` divides S."""
    count, channels, size, _ = images.shape
    side = size // grid
    blocks = images.reshape(count, channels, grid, side, grid, side)
    return blocks.permute(0, 2, 4, 1, 3, 5).reshape(count, grid**2, channels, side, side)


def join(patches: Tensor, grid: int) -> Tensor:
    """Returns the images `[N, C, S, S]` of patches `[N, T, C, P, P]`; the inverse of `cut`."""
    count, _, channels, side, _ = patches.shape
    blocks = patches.reshape(count, grid, grid, channels, side, side)
    return blocks.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, grid * side, grid * side)


def reordered(patches: Tensor, order: Tensor) -> Tensor:
    """Returns patches `[N, T, C, P, P]` with patch `order[n, t]` of image n at place t; `order` is `[N, T]`."""
    return patches[torch.arange(len(patches))[:, None], order]


def shuffled(images: Tensor, grid: int) -> Tensor:
    """Returns images `[N, C, S, S]` with g x g shuffled patches; each image has its own order."""
    patches = cut(images, grid)
    return join(reordered(patches, orders(len(images), grid**2)), grid)


def check(model: nn.Module, image_size: int) -> None:
    """Raises UserError for images that no grid divides."""
    if not grids(image_size):
        raise UserError(
            f"--image_size={image_size} cannot be shuffled: expected a side that 2 or 7 divides, of 4 pixels or more."
        )


def measure_task(task: Any, module: Any) -> dict[str, tuple[float, str]]:
    """Returns `shuffled_accuracy_<g>` (fraction) for grids of g x g patches; 01 is the unchanged image."""
    images, labels = first_images(module, "test", IMAGES)
    found = {1: share(decide(task, images) == labels)}
    for grid in grids(images.shape[-1]):
        found[grid] = share(decide(task, shuffled(images, grid)) == labels)
    return {f"shuffled_accuracy_{grid:02}": (value, "fraction") for grid, value in found.items()}
