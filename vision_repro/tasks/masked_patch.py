"""Masked patch prediction (ViT, sections 4.6 and B.1.2). The authors released no code for it.

Half of the patch embeddings are corrupted: 80 % of these are replaced by a learned mask embedding, 10 % by the
embedding of another patch, and 10 % stay. The target of every corrupted patch, and of no other, is predicted from its
token after the last norm: its mean colour in 512 classes, 4 x 4 colours, or its pixels (`patch_targets`).

Deviation: AdamW with the suite's weight decay and clipping instead of Adam; the paper mentions neither decay nor
clipping, and all objectives of this suite use one optimizer.
Unspecified in the paper: the initial weights. Here the mask embedding is initialised as position embeddings are, and
the predictor as the classification head is, with zeros.

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
    """The predictions `[B, M, E]` and the targets `[B, M, ...]` of the corrupted patches."""

    outputs: Tensor
    targets: Tensor


class MaskedPatchPrediction(MaskedPatches):
    """Predicts corrupted patches of a ViT's input from its output."""

    def __init__(
        self, model: nn.Module, *, target: str = "mean-colour", corrupted: float = 0.5, **settings: Any
    ) -> None:
        """Takes a ViT, one of `patch_targets.KINDS`, the share of corrupted patches and `MaskedPatches`' arguments.

        Raises:
            UserError: if the model is not a ViT, has too few patches, or has patches of a side that the target cannot
                use.
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
        """Returns the corruption of the patches of the images at `positions` int64 `[B]`."""
        return masking.corruption(seed, which, positions, self.patches, self.corrupted)

    def corrupt(self, embeddings: Tensor, drawn: Corruption) -> Tensor:
        """Returns corrupted patch embeddings `[B, N, D]`, before class token and positions are added."""
        mask = self.mask_embedding.to(embeddings.dtype)
        return torch.where(drawn.masked[..., None], mask, pick(embeddings, drawn.source))

    def predict(self, images: Tensor, drawn: Corruption) -> Tensor:
        """Returns the predictions for the corrupted patches, `[B, M, E]`, from images `[B, 3, H, H]`."""
        embeddings = self.model.patch_embed(self.normalise(images))
        tokens = self.model.encode(self.corrupt(embeddings, drawn))
        outputs: Tensor = self.predictor(pick(tokens[:, self.model.num_prefix_tokens :], drawn.where))
        return outputs

    def losses(self, images: Tensor, drawn: Corruption) -> tuple[Tensor, Predicted]:
        """Returns the mean loss `[B]` over the corrupted patches of each image, and its predictions and targets."""
        found = Predicted(self.predict(images, drawn), pick(self.target.of(images), drawn.where))
        return self.target.losses(*found).mean(1), found

    def counted(self, details: Predicted) -> Tensor:
        """Returns the sum over images of the share of right classes, then how often each class is a target."""
        assert isinstance(self.target, patch_targets.Colours)
        right = self.target.correct(*details).mean(1).sum()
        return torch.cat((right[None], torch.bincount(details.targets.flatten(), minlength=patch_targets.COLOURS)))

    def read(self, sums: Tensor, images: int) -> dict[str, float]:
        """Returns the share of right classes, and the entropy [nats] of the classes of all corrupted patches.

        The entropy is the loss of the best prediction that does not use the image. A model has learned something if its
        loss is lower by more than a tenth of the entropy: copying the 10 % of patches that stay gains that much.
        """
        if not self.numbers:
            return {}
        return {"val_correct": float(sums[0]) / images, "val_entropy": patch_targets.entropy(sums[1:])}

    def pictured(self, images: Tensor, drawn: Corruption) -> Reconstruction:
        """Returns the images, the corrupted images that the encoder gets, and the images with all M predictions."""
        patches = patch_targets.to_patches(images, self.side).to(torch.float32) / 255
        given = pick(patches, drawn.source).masked_fill(drawn.masked[..., None], GREY)
        predicted = self.target.pixels(self.predict(images, drawn))
        return Reconstruction(
            images.cpu(), as_pictures(given, self.side), as_pictures(placed(patches, drawn.where, predicted), self.side)
        )
