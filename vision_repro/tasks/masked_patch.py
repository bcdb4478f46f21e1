"""Masked patch prediction (ViT, sections 4.6 and B.1.2), of which the authors released no code.

Half of the patch embeddings are corrupted: 80 % of these become a learned mask embedding, 10 % another patch's, 10 %
stay. Of every corrupted patch, and of no other, something is predicted from its token after the last norm: its mean
colour in 512 classes, 4 x 4 colours, or its pixels (`patch_targets`).

Deviation: AdamW with the suite's weight decay; the paper says Adam and neither decay nor clipping.
Unspecified in the paper: the first weights. The mask embedding starts as position embeddings do, the prediction as the
classification head does, at zero.

Legend: B images of H x H pixels, N patches, M of them corrupted, T tokens, D features, E predicted numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vision_repro.models.layers.position import STD
from vision_repro.tasks import masking, patch_targets
from vision_repro.tasks.masked import MaskedPatches
from vision_repro.tasks.masking import Corruption, pick
from vision_repro.tasks.reconstruction import GREY, Reconstruction, as_pictures, placed


class Predicted(NamedTuple):
    """Of the corrupted patches: what was predicted `[B, M, E]`, and the targets `[B, M, ...]`."""

    outputs: Tensor
    targets: Tensor


class MaskedPatchPrediction(MaskedPatches):
    """Predicts corrupted patches of a ViT's input from its output."""

    def __init__(
        self, model: nn.Module, *, target: str = "mean-colour", corrupted: float = 0.5, **settings: Any
    ) -> None:
        """Takes a ViT, one of `patch_targets.KINDS`, the share of corrupted patches, and what `MaskedPatches` takes.

        Raises:
            UserError: if the model is no ViT, or its patches are too few or of a side that the target cannot have.
        """
        super().__init__(model, **settings)
        self.target = patch_targets.target(target, self.side)
        self.corrupted = masking.count(self.patches, corrupted)
        self.mask_embedding = nn.Parameter(torch.empty(self.model.embed_dim).normal_(std=STD))
        self.predictor = nn.Linear(self.model.embed_dim, self.target.outputs)
        nn.init.zeros_(self.predictor.weight)
        nn.init.constant_(self.predictor.bias, self.target.start)
        self.numbers = 1 + patch_targets.COLOURS if isinstance(self.target, patch_targets.Colours) else 0

    def draw(self, seed: int, which: int, positions: Tensor) -> Corruption:
        """Returns what becomes of the patches of the images at `positions` int64 `[B]`."""
        return masking.corruption(seed, which, positions, self.patches, self.corrupted)

    def corrupt(self, embeddings: Tensor, drawn: Corruption) -> Tensor:
        """Returns corrupted patch embeddings `[B, N, D]`, before class token and positions are added."""
        mask = self.mask_embedding.to(embeddings.dtype)
        return torch.where(drawn.masked[..., None], mask, pick(embeddings, drawn.source))

    def predict(self, images: Tensor, drawn: Corruption) -> Tensor:
        """Returns what is predicted of the corrupted patches, `[B, M, E]`, from images `[B, 3, H, H]`."""
        embeddings = self.model.patch_embed(self.normalise(images))
        tokens = self.model.encode(self.corrupt(embeddings, drawn))
        outputs: Tensor = self.predictor(pick(tokens[:, self.model.num_prefix_tokens :], drawn.where))
        return outputs

    def losses(self, images: Tensor, drawn: Corruption) -> tuple[Tensor, Predicted]:
        """Returns the mean loss `[B]` over the corrupted patches of each image, and what it is made of."""
        found = Predicted(self.predict(images, drawn), pick(self.target.of(images), drawn.where))
        return self.target.losses(*found).mean(1), found

    def counted(self, details: Predicted) -> Tensor:
        """Returns the sum of the images' shares of right classes, then how often each class is to be predicted."""
        assert isinstance(self.target, patch_targets.Colours)
        right = self.target.correct(*details).mean(1).sum()
        return torch.cat((right[None], torch.bincount(details.targets.flatten(), minlength=patch_targets.COLOURS)))

    def read(self, sums: Tensor, images: int) -> dict[str, float]:
        """Returns the share of right classes, and the entropy [nats] of the classes of all corrupted patches.

        The entropy is the loss of the best prediction that looks at no pixel. Below it something was learned, if it is
        by more than its tenth: so much can be had by copying the patches that stay.
        """
        if not self.numbers:
            return {}
        return {"val_correct": float(sums[0]) / images, "val_entropy": patch_targets.entropy(sums[1:])}

    def pictured(self, images: Tensor, drawn: Corruption) -> Reconstruction:
        """Returns the images, what the encoder was given of them, and the images with all M predictions."""
        patches = patch_targets.to_patches(images, self.side).to(torch.float32) / 255
        given = pick(patches, drawn.source).masked_fill(drawn.masked[..., None], GREY)
        predicted = self.target.pixels(self.predict(images, drawn))
        return Reconstruction(
            images.cpu(), as_pictures(given, self.side), as_pictures(placed(patches, drawn.where, predicted), self.side)
        )
