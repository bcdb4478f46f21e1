"""Masked autoencoder (MAE, He et al. 2021, arXiv 2111.06377), to compare with the masked patches of the ViT paper.

The encoder gets a quarter of the patches, and a light decoder predicts the pixels of the others; the pixels of each
patch are normalised to mean 0 and variance 1. From `facebookresearch/mae`, `models_mae.py`: the decoder has 2-D sine
and cosine positions, gets the class token too, and its weights are initialised as there.

Deviation: learned positions in the encoder instead of fixed ones; the encoder is a ViT of this suite, so that it can be
compared with the ViT paper's objective.
Deviation: 0.999 for AdamW's second beta instead of 0.95; all objectives of this suite use one optimizer.

Legend: B images of H x H pixels, N patches of P x P pixels, K of them kept and M masked, D features, W of the decoder.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vision_repro.config import UserError
from vision_repro.models.layers.position import STD, RelativeAttention
from vision_repro.models.vit import ViT
from vision_repro.tasks import masking
from vision_repro.tasks.masked import MaskedPatches
from vision_repro.tasks.masking import pick
from vision_repro.tasks.patch_targets import normalised, restored, to_patches
from vision_repro.tasks.reconstruction import GREY, Reconstruction, as_pictures, placed

DEPTH, WIDTH, HEAD = 8, 512, 32
"""Blocks, width and width of a head of MAE's decoder; its encoder has at least 12 blocks."""
PUBLISHED_DEPTH = 12


class Parts(NamedTuple):
    """Indices int64 of the patches that the encoder gets `[B, K]`, and of the masked ones `[B, M]`."""

    kept: Tensor
    masked: Tensor


def encode_kept(model: ViT, embeddings: Tensor, kept: Tensor) -> Tensor:
    """Returns tokens `[B, K, D]`, or `[B, K + 1, D]` with a class token first, after the last norm.

    Selects from the patch embeddings `[B, N, D]` those with indices `kept` int64 `[B, K]`, and passes them with their
    position embeddings through the blocks.
    """
    prefix: int = model.num_prefix_tokens
    tokens = model._pos_embed(embeddings)
    tokens = torch.cat((tokens[:, :prefix], pick(tokens[:, prefix:], kept)), 1)
    for block in model.blocks:
        tokens = checkpoint(block, tokens, use_reentrant=False) if model.grad_checkpointing else block(tokens)
    encoded: Tensor = model.norm(tokens)
    return encoded


def sines(grid: int, width: int, prefix: int) -> Tensor:
    """Returns position embeddings `[1, prefix + G^2, W]` (MAE, `util/pos_embed.py`).

    Half of W encodes the column of a patch and half its row, each with sines and then cosines; prefix tokens have 0.
    """
    rates = 10_000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * rates
    line = torch.cat((angles.sin(), angles.cos()), 1)
    across, down = line.expand(grid, -1, -1), line[:, None].expand(-1, grid, -1)
    places = torch.cat((across, down), 2).flatten(0, 1)
    return torch.cat((torch.zeros(prefix, width), places.to(torch.float32)))[None]


class Decoder(nn.Module):
    """Predicts the pixels of the masked patches with blocks over all N patches.

    It has 8 blocks of width 512, as published, for encoders of at least 12 blocks.
    Deviation: for a smaller encoder a third of its blocks and at most 2 / 3 of its width, instead of 8 blocks of width
    512, so that the decoder stays light.
    """

    places: Tensor

    def __init__(self, width: int, depth: int, grid: int, prefix: int, outputs: int) -> None:
        """Takes D, the blocks of the encoder, the side of the grid, the number of class tokens and 3 P^2."""
        super().__init__()
        blocks = DEPTH if depth >= PUBLISHED_DEPTH else max(1, depth // 3)
        inner = min(WIDTH, max(HEAD, width * 2 // 3 // HEAD * HEAD))
        heads = inner // (HEAD if inner > 2 * HEAD else HEAD // 2)
        self.embed = nn.Linear(width, inner)
        self.mask_token = nn.Parameter(torch.empty(inner).normal_(std=STD))
        self.register_buffer("places", sines(grid, inner, prefix), persistent=False)
        self.blocks = nn.Sequential(*(Block(inner, heads, qkv_bias=True) for _ in range(blocks)))
        self.norm = nn.LayerNorm(inner)
        self.predictor = nn.Linear(inner, outputs)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, parts: Parts) -> Tensor:
        """Returns predictions `[B, M, 3 P^2]`, given tokens of the encoder `[B, K, D]` or `[B, K + 1, D]`."""
        tokens = self.embed(tokens)
        prefix = tokens.shape[1] - parts.kept.shape[1]
        masks = self.mask_token.to(tokens.dtype).expand(*parts.masked.shape, -1)
        # kept and masked patches together are all patches: restore the order of the image
        back = torch.cat((parts.kept, parts.masked), 1).argsort(1)
        patches = pick(torch.cat((tokens[:, prefix:], masks), 1), back)
        tokens = self.blocks(torch.cat((tokens[:, :prefix], patches), 1) + self.places)
        predicted: Tensor = self.predictor(self.norm(pick(tokens[:, prefix:], parts.masked)))
        return predicted


class MaskedAutoencoder(MaskedPatches):
    """Predicts the pixels of masked patches from the others."""

    def __init__(self, model: nn.Module, *, masked: float = 0.75, **settings: Any) -> None:
        """Takes a ViT, the share of masked patches, and the arguments of `MaskedPatches`.

        Raises:
            UserError: if the model is not a ViT, needs the positions of all patches in each layer, or has too few
                patches.
        """
        super().__init__(model, **settings)
        _check_positions(self.model)
        self.masked = masking.count(self.patches, masked, least=1)
        self.decoder = Decoder(
            self.model.embed_dim,
            len(self.model.blocks),
            self.model.patch_embed.grid_size[0],
            self.model.num_prefix_tokens,
            3 * self.side**2,
        )

    def draw(self, seed: int, which: int, positions: Tensor) -> Parts:
        """Returns which patches of the images at `positions` int64 `[B]` are kept and which are masked."""
        order = masking.shuffled(masking.noise(seed, which, positions, 1, self.patches)[0])
        return Parts(order[:, self.masked :], order[:, : self.masked])

    def predict(self, images: Tensor, drawn: Parts) -> Tensor:
        """Returns the predicted normalised pixels of the masked patches, `[B, M, 3 P^2]`."""
        embeddings = self.model.patch_embed(self.normalise(images))
        predicted: Tensor = self.decoder(encode_kept(self.model, embeddings, drawn.kept), drawn)
        return predicted

    def losses(self, images: Tensor, drawn: Parts) -> tuple[Tensor, None]:
        """Returns the mean squared error `[B]` over the masked patches of each image; predicting grey gives about 1."""
        patches = pick(to_patches(images, self.side), drawn.masked).to(torch.float32) / 255
        errors = (self.predict(images, drawn).float() - normalised(patches)).square()
        return errors.mean((1, 2)), None

    def pictured(self, images: Tensor, drawn: Parts) -> Reconstruction:
        """Returns the images, their visible patches, and the images with predictions in place of the masked patches.

        Predictions have mean 0 and variance 1; the pictures show them with the mean and variance of the true patches.
        """
        patches = to_patches(images, self.side).to(torch.float32) / 255
        predicted = restored(self.predict(images, drawn).float(), pick(patches, drawn.masked))
        given = placed(patches, drawn.masked, torch.full_like(predicted, GREY))
        return Reconstruction(
            images.cpu(),
            as_pictures(given, self.side),
            as_pictures(placed(patches, drawn.masked, predicted), self.side),
        )


def _check_positions(model: ViT) -> None:
    if model.positions is not None and model.positions.repeated:
        raise UserError(
            "--objective=mae: the encoder gets only some patches, but -every and -shared add the positions of all "
            "patches at every layer: expected a ViT without these options."
        )
    if isinstance(model.blocks[0].attn, RelativeAttention):
        raise UserError(
            "--objective=mae: the encoder gets only some patches, but -posrel uses the offsets between all patches: "
            "expected a ViT without this option."
        )
