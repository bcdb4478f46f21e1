"""Texture against shape: which class does a model predict if shape and texture come from images of two classes?

An image is cut into patches. Its shape is defined as the mean colour of each patch, in place. Its texture is defined as
the differences of the pixels from that mean, with the patches in random order. The shape of one test image plus the
texture of a test image of another class gives an image with two classes. As in Geirhos et al. (ImageNet-trained CNNs
are biased towards texture, ICLR 2019), `shape_share` is the fraction of predictions of the shape's class among the
predictions of one of the two classes. Brendel and Bethge (BagNets, ICLR 2019) shuffle patches to keep texture and lose
shape; Oliva, Torralba and Schyns (Hybrid images, SIGGRAPH 2006) add low frequencies of one image to high frequencies of
another.

Deviation: patch means instead of the style transfer of Geirhos et al., which needs a trained network and objects on a
    white background; so all models see the same images.
Limits: the share depends on the side of the patch (about the square root of the image's side) and on the contrast of
the
    data. So it compares models on the same images and has no meaning alone; read it together with the accuracy on each
    cue by itself. Shape includes colours. Sums are clipped to the range of a pixel; on a black background this removes
    half of the texture. Digits have almost no texture.

Legend: N images, S their side, P the side of a patch [pixels], T patches, C channels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from vision_repro.config import UserError
from vision_repro.probes.decisions import IMAGES, decide, share
from vision_repro.probes.images import first_images
from vision_repro.probes.patch_shuffle import cut, join, orders, reordered

GREY = 127.5
"""The mean colour where there is no shape."""


def patch_side(size: int) -> int:
    """Returns the largest power of two [pixels], up to the root of `size`, that divides it; 1 if it is odd."""
    side = 1
    while 4 * side * side <= size and size % (2 * side) == 0:
        side *= 2
    return side


def check(model: nn.Module, image_size: int) -> None:
    """Raises UserError for images whose patches would have one pixel and so no texture."""
    if patch_side(image_size) < 2:
        raise UserError(
            f"--image_size={image_size} gives patches without texture: expected an even side of at least 4 pixels."
        )


def partners(labels: Tensor) -> Tensor:
    """Returns the index of the next image (circularly) of another class, int64 `[N]`, for images with labels `[N]`.

    Raises:
        UserError: if all images have the same class.
    """
    classes: list[int] = labels.tolist()
    if len(set(classes)) < 2:
        raise UserError("Texture against shape needs test images of at least two classes, but these have one.")
    count = len(classes)
    ahead = [
        next(step for step in range(1, count) if classes[(place + step) % count] != classes[place])
        for place in range(count)
    ]
    return (torch.arange(count) + torch.tensor(ahead)) % count


def parts(images: Tensor) -> tuple[Tensor, Tensor]:
    """Returns shape `[N, T, C, 1, 1]` and texture `[N, T, C, P, P]`, float32, of images `[N, C, S, S]`.

    The texture's patches are in the order of `patch_shuffle.orders`.
    """
    grid = images.shape[-1] // patch_side(images.shape[-1])
    patches = cut(images, grid).float()
    means = patches.mean((3, 4), keepdim=True)
    return means, reordered(patches - means, orders(len(images), grid**2))


def pictures(patches: Tensor) -> Tensor:
    """Returns patches `[N, T, C, P, P]` as images uint8 `[N, C, S, S]`, rounded and clipped."""
    return join(patches, math.isqrt(patches.shape[1])).round().clamp(0, 255).to(torch.uint8)


def measure_task(task: Any, module: Any) -> dict[str, tuple[float, str]]:
    """Returns `shape_share`, `cue_share`, `shape_only_accuracy` and `texture_only_accuracy`, all fractions.

    `cue_share` is the fraction of images for which one of their two classes is predicted; `shape_share` is missing if
    there are none. `shape_only_accuracy` is on patch means without texture, `texture_only_accuracy` on shuffled texture
    around grey.
    """
    images, labels = first_images(module, "test", IMAGES)
    other = partners(labels)
    shape, texture = parts(images)
    decided = decide(task, pictures(shape + texture[other]))
    of_shape, of_texture = decided == labels, decided == labels[other]
    found = {
        "cue_share": share(of_shape | of_texture),
        "shape_only_accuracy": share(decide(task, pictures(shape.expand_as(texture))) == labels),
        "texture_only_accuracy": share(decide(task, pictures(texture + GREY)) == labels),
    }
    if found["cue_share"]:
        found["shape_share"] = int(of_shape.sum()) / int((of_shape | of_texture).sum())
    return {name: (value, "fraction") for name, value in found.items()}
