"""Chooses which patches of an image are corrupted, and how: a function of (seed, pass, position of the image in it).

So the masks are the same on one process and on many, on every device, and in a resumed run.

Legend: B images, N patches of an image, M of them corrupted, K kept (N - M).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vision_repro.config import UserError

TRAIN, VAL, PICTURE = 0, 1, 2
"""The passes; their masks are independent."""
MASKED, OTHER = 0.8, 0.1
"""The shares of corrupted patches that the mask embedding and another patch replace (ViT, section B.1.2)."""

_WORD = 2**64
_PATCH, _IMAGE, _SEED = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95, 0x2545F4914F6CDD1D
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def count(patches: int, share: float, *, least: int = 0) -> int:
    """Returns M: `share` of the N `patches`, rounded, at least 1, and with at least `least` patches left.

    Unspecified in the paper: whether exactly half of the patches are corrupted, or each with probability 1/2. Here the
    number is the same for each image, so that all shapes of a run are fixed.

    Raises:
        UserError: if an image has too few patches.
    """
    chosen = max(1, round(share * patches))
    if patches < 2 or chosen > patches - least:
        raise UserError(
            f"--corrupted={share} takes {chosen} of the {patches} patches of an image, but {least} must be left: "
            "expected a smaller share, a smaller patch or a larger image."
        )
    return chosen


def _signed(word: int) -> int:
    word %= _WORD
    return word - _WORD if word >= _WORD // 2 else word


def _scramble(words: Tensor) -> Tensor:
    """Returns int64 words; each bit depends on all bits of the given word (the finalizer of SplitMix64)."""
    words = (words ^ ((words >> 30) & (2**34 - 1))) * _signed(_FIRST)
    words = (words ^ ((words >> 27) & (2**37 - 1))) * _signed(_SECOND)
    return words ^ ((words >> 31) & (2**33 - 1))


def noise(seed: int, which: int, positions: Tensor, draws: int, patches: int) -> Tensor:
    """Returns `draws` independent uniform numbers in [0, 1) for every patch, float32 `[draws, B, N]`.

    `positions` int64 `[B]` are those of the images in the pass `which`; batch and process do not matter.
    """
    images = _scramble(positions * _signed(_IMAGE) + _signed((seed * 4 + which + 1) * _SEED))
    cells = torch.arange(1, draws * patches + 1, device=positions.device) * _signed(_PATCH)
    words = _scramble(images[:, None] + cells)
    uniform = ((words >> 40) & (2**24 - 1)).to(torch.float32) * 2.0**-24
    return uniform.view(len(positions), draws, patches).movedim(1, 0)


def shuffled(uniform: Tensor) -> Tensor:
    """Returns a random order of the patches int64 `[B, N]`, given random numbers `[B, N]`."""
    return uniform.argsort(dim=1, stable=True)


class Corruption(NamedTuple):
    """How the patch embeddings of a batch are corrupted."""

    where: Tensor
    """int64 `[B, M]`: the corrupted patches, in random order."""
    masked: Tensor
    """bool `[B, N]`: the patches that the mask embedding replaces."""
    source: Tensor
    """int64 `[B, N]`: for each other patch, the patch of the same image whose embedding is used."""


def corruption(seed: int, which: int, positions: Tensor, patches: int, corrupted: int) -> Corruption:
    """Returns how `corrupted` of the `patches` of the images at `positions` int64 `[B]` are corrupted.

    Independently, each corrupted patch is replaced by the mask embedding (80 %) or by another patch (10 %), or stays
    (10 %).
    Unspecified in the paper: where the "random other" embedding comes from. Here it is the embedding of any other patch
    of the same image before corruption, so that the result for an image does not depend on its batch.
    """
    order, kind, far = noise(seed, which, positions, 3, patches)
    where = shuffled(order)[:, :corrupted]
    kind, far = kind.gather(1, where), far.gather(1, where)
    # the product can round up to N - 1, which would select the patch itself
    step = 1 + (far * (patches - 1)).long().clamp(max=patches - 2)
    swapped = (kind >= MASKED) & (kind < MASKED + OTHER)
    source = torch.arange(patches, device=positions.device).expand(len(positions), -1)
    source = source.scatter(1, where, torch.where(swapped, (where + step) % patches, where))
    masked = torch.zeros(source.shape, dtype=torch.bool, device=positions.device).scatter(1, where, kind < MASKED)
    return Corruption(where, masked, source)


def pick(rows: Tensor, places: Tensor) -> Tensor:
    """Returns the rows `[B, M, ...]` of `rows` `[B, N, ...]` at the places int64 `[B, M]` of each image."""
    starts = torch.arange(len(rows), device=rows.device)[:, None] * rows.shape[1]
    # One index for the whole batch: its gradient is twice as fast as that of `gather`, whose index is as large as its
    # result.
    found = rows.flatten(0, 1).index_select(0, (places + starts).flatten())
    return found.view(*places.shape, *rows.shape[2:])
