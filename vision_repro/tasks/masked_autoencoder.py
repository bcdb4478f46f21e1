"""Masked autoencoder (MAE, He et al. 2021, arXiv 2111.06377): beyond the ViT paper, beside its masked patches.

Three quarters of the patches are left out, the encoder works on those that stay, and a light decoder predicts the
pixels of the others, each patch with mean 0 and variance 1. From `facebookresearch/mae`, `models_mae.py`: 2-D sine and
cosine positions in the decoder, to which the class token goes too, and how weights are drawn there.

Deviation: the encoder is a ViT of this suite, with its learned positions instead of fixed ones, so that it can be
compared with the ViT paper's objective; and AdamW's second beta is 0.999 instead of 0.95.

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
    """Places int64 of the patches that the encoder sees `[B, K]`, and of those it does not `[B, M]`."""

    kept: Tensor
    masked: Tensor


def encode_kept(model: ViT, embeddings: Tensor, kept: Tensor) -> Tensor:
    """Returns tokens `[B, K, D]`, or with a class token before them `[B, K + 1, D]`, after the last norm.

    Of patch embeddings `[B, N, D]` those in the places `kept` int64 `[B, K]` go through the blocks, with the position
    embeddings of their places.
    """
    prefix: int = model.num_prefix_tokens
    tokens = model._pos_embed(embeddings)
    tokens = torch.cat((tokens[:, :prefix], pick(tokens[:, prefix:], kept)), 1)
    for block in model.blocks:
        tokens = checkpoint(block, tokens, use_reentrant=False) if model.grad_checkpointing else block(tokens)
    encoded: Tensor = model.norm(tokens)
    return encoded


def sines(grid: int, width: int, prefix: int) -> Tensor:
    """Returns position embeddings `[1, prefix + G^2, W]`, 0 for the prefix tokens: half of W for the column of a patch,
    half for its row, each sines and then cosines (MAE, `util/pos_embed.py`).
    """
    rates = 10_000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * rates
    line = torch.cat((angles.sin(), angles.cos()), 1)
    across, down = line.expand(grid, -1, -1), line[:, None].expand(-1, grid, -1)
    places = torch.cat((across, down), 2).flatten(0, 1)
    return torch.cat((torch.zeros(prefix, width), places.to(torch.float32)))[None]


class Decoder(nn.Module):
    """Blocks over all N places that predict the pixels of the masked ones.

    8 blocks of width 512 as published, for encoders of at least 12 blocks.
    Deviation: a third of the blocks of a smaller encoder, at most 2 / 3 of its width, so that it stays light.
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
        """Returns predictions `[B, M, 3 P^2]` for tokens of the encoder `[B, K, D]`, or `[B, K + 1, D]`."""
        tokens = self.embed(tokens)
        prefix = tokens.shape[1] - parts.kept.shape[1]
        masks = self.mask_token.to(tokens.dtype).expand(*parts.masked.shape, -1)
        # kept and masked patches together are all of them: put each at its place again
        back = torch.cat((parts.kept, parts.masked), 1).argsort(1)
        patches = pick(torch.cat((tokens[:, prefix:], masks), 1), back)
        tokens = self.blocks(torch.cat((tokens[:, :prefix], patches), 1) + self.places)
        predicted: Tensor = self.predictor(self.norm(pick(tokens[:, prefix:], parts.masked)))
        return predicted


class MaskedAutoencoder(MaskedPatches):
    """Predicts the pixels of masked patches from the others."""

    def __init__(self, model: nn.Module, *, masked: float = 0.75, **settings: Any) -> None:
        """Takes a ViT, the share of masked patches, and what `MaskedPatches` takes.

        Raises:
            UserError: if the model is no ViT, or has positions that cannot be left out, or too few patches.
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
        """Returns the normalised pixels predicted of the masked patches, `[B, M, 3 P^2]`."""
        embeddings = self.model.patch_embed(self.normalise(images))
        predicted: Tensor = self.decoder(encode_kept(self.model, embeddings, drawn.kept), drawn)
        return predicted

    def losses(self, images: Tensor, drawn: Parts) -> tuple[Tensor, None]:
        """Returns the mean squared error `[B]` over the masked patches of each image; a constant grey has about 1."""
        patches = pick(to_patches(images, self.side), drawn.masked).to(torch.float32) / 255
        errors = (self.predict(images, drawn).float() - normalised(patches)).square()
        return errors.mean((1, 2)), None

    def pictured(self, images: Tensor, drawn: Parts) -> Reconstruction:
        """Returns the images, what is kept of them, and the images with what is predicted of the rest.

        Predictions have mean 0 and variance 1; they are shown with those of the true patches.
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
            "--objective=mae: the encoder sees some patches only, and -every and -shared add the positions of all of "
            "them at every layer: expected a ViT without these options."
        )
    if isinstance(model.blocks[0].attn, RelativeAttention):
        raise UserError(
            "--objective=mae: the encoder sees some patches only, and -posrel counts the offsets of all of them: "
            "expected a ViT without this option."
        )
