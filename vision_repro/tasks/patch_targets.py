"""The prediction targets of a patch: colours in 512 classes, or its pixels (ViT, section B.1.2).

Targets are computed from RGB after augmentation and before normalisation, on the device, for a whole batch. For uint8
images the classes are exact: rounding never puts a colour on the border of two bins into the lower one.

Legend: B images of H x H pixels, G x G patches of P x P pixels (N = G^2, in raster order), C cells of a patch, M
predicted patches, E predicted numbers per patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vision_repro.config import UserError, nearest

BINS = 8
"""Bins per channel: 3 bits."""
COLOURS = BINS**3
KINDS = ("mean-colour", "downsized", "pixels")
CELLS = 4
"""Number of cells along a side of a downsized patch."""
EPSILON = 1e-6
"""Added to the variance of a patch (MAE, `models_mae.py`)."""


def to_patches(images: Tensor, side: int) -> Tensor:
    """Returns the pixels `[B, N, 3 P^2]` of images `[B, 3, H, H]`, channel by channel; `side` is P [pixels]."""
    batch, channels, height, width = images.shape
    grid = images.reshape(batch, channels, height // side, side, width // side, side)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * side * side)


def to_images(patches: Tensor, side: int) -> Tensor:
    """Returns the images `[B, 3, H, H]` of square grids of patches `[B, N, 3 P^2]`."""
    batch, number, size = patches.shape
    grid = round(number**0.5)
    parts = patches.reshape(batch, grid, grid, size // side**2, side, side)
    return parts.permute(0, 3, 1, 4, 2, 5).reshape(batch, -1, grid * side, grid * side)


def colour_classes(images: Tensor, side: int, cells: int = 1) -> Tensor:
    """Returns the class int64 `[B, N, C]`, 0 to 511, of the mean colour of each of `cells` x `cells` cells of a patch.

    `images` are uint8 or float in [0, 255], `[B, 3, H, H]`. A class is 64 r + 8 g + b.
    Unspecified in the paper: range, edges and order of the bins. Here bin i of a channel is [i / 8, (i + 1) / 8) of
    [0, 1], and the last bin includes 1.
    """
    batch, channels, height, width = images.shape
    part = side // cells
    dtype = torch.float32 if images.dtype.is_floating_point else torch.int32
    values = images.to(dtype)
    rows = values.reshape(batch, channels, height, width // part, part).sum(4, dtype=dtype)
    sums = rows.reshape(batch, channels, height // side, cells, part, width // side, cells).sum(4, dtype=dtype)
    bins = torch.div(sums * BINS, 255 * part * part, rounding_mode="floor").long().clamp_(0, BINS - 1)
    red, green, blue = bins.unbind(1)
    return ((red * BINS + green) * BINS + blue).permute(0, 1, 3, 2, 4).reshape(batch, -1, cells * cells)


def colour_of(classes: Tensor) -> Tensor:
    """Returns the middle of the bins of classes `[...]` as RGB in [0, 1], float32 `[..., 3]`."""
    bins = torch.stack((classes // BINS**2, classes // BINS % BINS, classes % BINS), -1)
    return (bins.to(torch.float32) + 0.5) / BINS


def entropy(counts: Tensor) -> float:
    """Returns the entropy [nats] of the distribution with these counts `[K]`; 0 if all counts are 0."""
    shares = counts.double() / counts.sum().clamp(min=1)
    return -float(torch.special.xlogy(shares, shares).sum())


@dataclass(frozen=True)
class Colours:
    """The colours of `cells` x `cells` cells of a patch of `side` pixels, each one of 512 classes.

    Unspecified in the paper: how the 16 losses of a downsized patch are weighted. Here the mean is used.
    """

    side: int
    cells: int
    start = 0.0  # the prediction before training: the same logit for all colours

    @property
    def outputs(self) -> int:
        """E: 512 logits for each cell."""
        return COLOURS * self.cells**2

    def of(self, images: Tensor) -> Tensor:
        """Returns classes int64 `[B, N, C]`."""
        return colour_classes(images, self.side, self.cells)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean cross-entropy `[B, M]` [nats] over the cells of a patch."""
        logits = outputs.float().reshape(-1, COLOURS)
        return F.cross_entropy(logits, targets.flatten(), reduction="none").view_as(targets).mean(-1)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns the fraction `[B, M]` of the cells of a patch whose most likely colour is the target."""
        return (outputs.view(*targets.shape, COLOURS).argmax(-1) == targets).double().mean(-1)

    def pixels(self, outputs: Tensor) -> Tensor:
        """Returns patches `[B, M, 3 P^2]` of the most likely colours."""
        likeliest = outputs.view(*outputs.shape[:2], self.cells, self.cells, COLOURS).argmax(-1)
        part = self.side // self.cells
        colours = colour_of(likeliest).movedim(-1, 2)
        return colours.repeat_interleave(part, 3).repeat_interleave(part, 4).flatten(2)


@dataclass(frozen=True)
class Pixels:
    """All pixels of a patch of `side` pixels, in [0, 1].

    Deviation: the mean over the numbers of a patch instead of the sum of L2; a constant factor, which affects only
    gradient clipping.
    Deviation: predictions start at mid-grey instead of black; the loss then starts lower.
    """

    side: int
    start = 0.5

    @property
    def outputs(self) -> int:
        """E: one number for each channel of each pixel."""
        return 3 * self.side**2

    def of(self, images: Tensor) -> Tensor:
        """Returns pixels float32 `[B, N, 3 P^2]`."""
        return to_patches(images, self.side).to(torch.float32) / 255

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean squared error `[B, M]`."""
        return (outputs.float() - targets).square().mean(-1)

    def pixels(self, outputs: Tensor) -> Tensor:
        """Returns the predicted patches themselves."""
        return outputs.float()


Target = Colours | Pixels


def target(kind: str, side: int) -> Target:
    """Returns the target `kind` of patches of `side` pixels.

    Deviation: for patches of less than 4 pixels a side, one colour per pixel instead of 4 x 4 colours; the small
    presets have patches of 2 x 2.

    Raises:
        UserError: for an unknown kind, or patches that do not divide into 4 x 4 cells.
    """
    if kind == "mean-colour":
        return Colours(side, 1)
    if kind == "pixels":
        return Pixels(side)
    if kind != "downsized":
        raise UserError(f'--objective="{kind}" is unknown: expected one of {", ".join(KINDS)}.{nearest(kind, KINDS)}')
    if side > CELLS and side % CELLS:
        raise UserError(f"--objective=downsized divides a patch into 4 x 4 cells: {side} pixels do not divide by 4.")
    return Colours(side, min(side, CELLS))


def normalised(patches: Tensor) -> Tensor:
    """Returns patches `[B, N, E]`, each normalised to mean 0 and variance 1 (MAE, section 3, `norm_pix_loss`)."""
    mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    return (patches - mean) / (variance + EPSILON).sqrt()


def restored(values: Tensor, patches: Tensor) -> Tensor:
    """Returns `values` `[B, M, E]` with the mean and variance of the true patches: the inverse of `normalised`."""
    mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    return values * (variance + EPSILON).sqrt() + mean
