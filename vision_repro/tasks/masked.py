"""The base of objectives on masked patches: a ViT, masks from the position of an image, and the loss on `val`.

Legend: B images of H x H pixels, N patches of P x P pixels, M of them corrupted, D features.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn

from vision_repro.augmentation.augment import training_batch
from vision_repro.augmentation.batch import Batch
from vision_repro.config import UserError
from vision_repro.models.vit import ViT
from vision_repro.tasks.masking import PICTURE, TRAIN, VAL
from vision_repro.tasks.reconstruction import Reconstruction
from vision_repro.tasks.task import Task


class MaskedPatches(Task):
    """Learns from the patches of unlabelled images; labels are never read.

    A subclass defines `draw`, `losses` and `pictured`; to report more than a loss on `val`, it also defines `numbers`,
    `counted` and `read`. The mask of an image depends on the seed and on the position of the image in the stream of
    training images or in `val`. So training and `val_loss` are the same on one process and on many.
    """

    model: ViT
    numbers = 0
    """How many numbers are summed over `val` in addition to the loss and the number of images."""

    def __init__(self, model: nn.Module, *, seed: int = 0, **settings: Any) -> None:
        """Takes a ViT, the seed of the masks, and the arguments of `Task`.

        Raises:
            UserError: for another architecture, or for a hybrid, whose tokens depend on more than their own patch.
        """
        super().__init__(_vit(model), **settings)
        self.seed = seed
        self.side: int = self.model.patch_embed.patch_size[0]
        self.patches: int = self.model.patch_embed.num_patches
        self.seen = 0  # images of `val`, by this rank
        self.counts = torch.zeros(2, dtype=torch.float64)
        for part in (self.model.get_classifier(), self.model.pre_logits):
            part.requires_grad_(False)  # the loss does not depend on them, and plain DDP waits for every gradient

    def draw(self, seed: int, which: int, positions: Tensor) -> Any:
        """Returns the masks of the images at `positions` int64 `[B]` of the pass `which` (see `masking`)."""
        raise NotImplementedError

    def losses(self, images: Tensor, drawn: Any) -> tuple[Tensor, Any]:
        """Returns the loss of each image `[B]`, the mean over its corrupted patches, and the input of `counted`.

        `images` `[B, 3, H, H]` are uint8 or float in [0, 255].
        """
        raise NotImplementedError

    def pictured(self, images: Tensor, drawn: Any) -> Reconstruction:
        """Returns the pictures of uint8 images `[B, 3, H, H]`: original, masked and predicted."""
        raise NotImplementedError

    def counted(self, details: Any) -> Tensor:
        """Returns the `numbers` of a batch that are summed over `val`, float64."""
        raise NotImplementedError

    def read(self, sums: Tensor, images: int) -> dict[str, float]:
        """Returns metrics from the `numbers` summed over all `images` of `val`."""
        return {}

    def positions(self, before: int, count: int) -> Tensor:
        """Returns the positions int64 `[B]` of the next `count` images of this rank, after `before` earlier ones.

        Each rank gets every world-th image, both in training (`files.stream.Share`) and in evaluation.
        """
        world = self.trainer.world_size if self._trainer else 1
        start = self.global_rank + world * before
        return torch.arange(start, start + world * count, world, device=self.device)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Returns the mean loss of an augmented batch."""
        images = training_batch(batch, self.augmentation).images if self.augmentation != "none" else batch.images
        count = len(images)
        drawn = self.draw(self.seed, TRAIN, self.positions(batch_index * count, count))
        return self.add_train_loss(self.losses(images, drawn)[0].mean())

    def on_validation_epoch_start(self) -> None:
        """Starts the sums over `val` at 0."""
        self.seen, self.counts = 0, self.counters(2 + self.numbers)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Adds the losses of the images to the sums."""
        count = len(batch.images)
        losses, details = self.losses(batch.images, self.draw(self.seed, VAL, self.positions(self.seen, count)))
        self.seen += count
        self.counts[0] += losses.to(self.counts).sum()
        self.counts[1] += count
        if self.numbers:
            self.counts[2:] += self.counted(details).to(self.counts)

    def validated(self, expected: int) -> dict[str, float]:
        """Returns `val_loss`, the mean over all images of `val`, and the other metrics of the objective.

        Raises:
            RuntimeError: if the number of images in the pass is not `expected`.
        """
        counts: Any = self.trainer.strategy.reduce(self.counts, reduce_op="sum")
        images = round(float(counts[1]))
        if images != expected:
            raise RuntimeError(f"evaluation saw {images} images of a split of {expected}")
        return {"val_loss": float(counts[0]) / images, **self.read(counts[2:], images)}

    def score(self, values: dict[str, float]) -> float:
        """Returns the negative loss on `val`."""
        return -values["val_loss"]

    @torch.no_grad()
    def reconstruct(self, images: Tensor, seed: int = 0) -> Reconstruction:
        """Returns pictures of uint8 images `[B, 3, H, H]`: original, corrupted, and with the predictions.

        The mask of an image depends on `seed` and on its index among the B.
        """
        training = self.training
        self.eval()
        try:
            places = torch.arange(len(images), device=self.device)  # every rank has all images
            return self.pictured(images.to(self.device), self.draw(seed, PICTURE, places))
        finally:
            self.train(training)


def _vit(model: nn.Module) -> ViT:
    if not isinstance(model, ViT):
        raise UserError(
            f"--objective: masking patches needs a ViT, but the model is a {type(model).__name__}: "
            "expected a model such as vit-64x4/4."
        )
    if not isinstance(model.patch_embed, PatchEmbed):
        raise UserError(
            "--objective: masking does not hide a patch from a hybrid, whose tokens depend on neighbouring patches: "
            "expected a ViT such as vit-64x4/4."
        )
    return model
