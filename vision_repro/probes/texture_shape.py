"""Texture against shape: whose class does a model see in an image with the shape of one and the texture of another?

An image is cut into patches. Its shape here is the mean colour of each patch, in place; its texture is what the pixels
of a patch differ from that mean, patches in another order. Shape of one test image plus texture of another one, of
another class, is an image with two classes. As in Geirhos et al. (ImageNet-trained CNNs are biased towards texture,
ICLR 2019), `shape_share` is the fraction of decisions for the class of the shape among those for one of the two
classes. That shuffling patches keeps texture and loses shape is Brendel and Bethge's (BagNets, ICLR 2019), and Oliva,
Torralba and Schyns (Hybrid images, SIGGRAPH 2006) add low frequencies of one image to high ones of another.

Deviation: no style transfer as in Geirhos et al., which needs a trained network and objects on a white background;
    patch means split an image without one, and all models see the same images.
Limits: the share depends on the patch (about as many pixels a side as there are patches a side) and on the contrast of
    the data, so it compares models on the same images and says nothing alone: how well a model reads each cue by itself
    stands beside it. Shape includes colours. Sums are clipped to what a pixel can be, which where the background is
    black takes half of the texture. Digits hardly have a texture.

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
    """Raises UserError for images whose patches would be of one pixel, without a texture."""
    if patch_side(image_size) < 2:
        raise UserError(
            f"--image_size={image_size} has no texture to take: expected an even side of at least 4 pixels."
        )


def partners(labels: Tensor) -> Tensor:
    """Returns for each image the next one, in a circle, that has another class: int64 `[N]` of labels `[N]`.

    Raises:
        UserError: if all images are of one class.
    """
    classes: list[int] = labels.tolist()
    if len(set(classes)) < 2:
        raise UserError("Texture against shape needs test images of two classes or more, and these have one.")
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
    """Returns `shape_share`, and `cue_share`, the fraction of the images that it is taken of, all fractions.

    `shape_only_accuracy` is on patch means without texture, `texture_only_accuracy` on shuffled texture around grey.
    `shape_share` is missing where no image is given one of its two classes.
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
