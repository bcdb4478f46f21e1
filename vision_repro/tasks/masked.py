"""What the objectives on masked patches share: a ViT, masks by the position of an image, and the loss on `val`.

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

    A subclass adds `draw`, `losses` and `pictured`, and where it has more than a loss to tell of `val`, `numbers`,
    `counted` and `read`. The mask of an image is a function of the seed and of its position, in the stream of training
    images or in `val`; so training and `val_loss` are the same on one process and on many.
    """

    model: ViT
    numbers = 0
    """How many numbers are added up over `val` beside the loss and the images."""

    def __init__(self, model: nn.Module, *, seed: int = 0, **settings: Any) -> None:
        """Takes a ViT, the seed of the masks, and what `Task` takes.

        Raises:
            UserError: for another architecture, or a hybrid, whose tokens see more than their own patch.
        """
        super().__init__(_vit(model), **settings)
        self.seed = seed
        self.side: int = self.model.patch_embed.patch_size[0]
        self.patches: int = self.model.patch_embed.num_patches
        self.seen = 0  # images of `val`, by this rank
        self.counts = torch.zeros(2, dtype=torch.float64)
        for part in (self.model.get_classifier(), self.model.pre_logits):
            part.requires_grad_(False)  # no loss here reaches them, and plain DDP waits for every gradient

    def draw(self, seed: int, which: int, positions: Tensor) -> Any:
        """Returns what is masked of the images at `positions` int64 `[B]` of the pass `which` (see `masking`)."""
        raise NotImplementedError

    def losses(self, images: Tensor, drawn: Any) -> tuple[Tensor, Any]:
        """Returns the loss of each image `[B]`, the mean over its corrupted patches, and what `counted` counts.

        `images` `[B, 3, H, H]` are uint8 or float in [0, 255].
        """
        raise NotImplementedError

    def pictured(self, images: Tensor, drawn: Any) -> Reconstruction:
        """Returns pictures of uint8 images `[B, 3, H, H]`."""
        raise NotImplementedError

    def counted(self, details: Any) -> Tensor:
        """Returns the `numbers` of a batch that are added up over `val`, float64."""
        raise NotImplementedError

    def read(self, sums: Tensor, images: int) -> dict[str, float]:
        """Returns the values of the added up `numbers` of all `images` of `val`."""
        return {}

    def positions(self, before: int, count: int) -> Tensor:
        """Returns the positions int64 `[B]` of the next `count` images of this rank, which has had some `before`.

        Every rank has every world-th image, in training (`data.stream.Share`) as in evaluation.
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
        """Returns `val_loss`, the mean over all images of `val`, and what else the objective tells.

        Raises:
            RuntimeError: if the pass did not see each of the `expected` images once.
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
        """Returns pictures of uint8 images `[B, 3, H, H]`: as they are, corrupted, and with the predictions.

        The masks are a function of `seed` and of an image's place among the B.
        """
        training = self.training
        self.eval()
        try:
            places = torch.arange(len(images), device=self.device)  # every rank has all of them
            return self.pictured(images.to(self.device), self.draw(seed, PICTURE, places))
        finally:
            self.train(training)


def _vit(model: nn.Module) -> ViT:
    if not isinstance(model, ViT):
        raise UserError(
            f"--objective: patches are masked of a ViT, and the model is a {type(model).__name__}: "
            "expected one such as vit-64x4/4."
        )
    if not isinstance(model.patch_embed, PatchEmbed):
        raise UserError(
            "--objective: a mask hides nothing from the tokens of a hybrid, which see beyond their own patch: "
            "expected a ViT such as vit-64x4/4."
        )
    return model
