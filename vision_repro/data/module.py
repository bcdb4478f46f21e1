"""What the data modules of images in memory and of folders share."""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningDataModule

from vision_repro.augmentation.batch import Batch
from vision_repro.config import UserError
from vision_repro.data.config import DataConfig
from vision_repro.files.stream import Share


class Resumable:
    """Tells Lightning that a loader can start in mid-epoch: its place is `trainer.global_step`, nothing is stored."""

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing to store."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Has nothing to load."""


class ImageData(LightningDataModule):
    """A LightningDataModule whose one epoch is the whole training, in an order fixed by (seed, step).

    Attributes: `config`; `views`, what is made of a test image, which may be changed between two passes; `classes` and
    `image_size` [pixels] of the data; `checksum` of the data and `subset_checksum` of the chosen training images (hex);
    `device_augmentation`: the policy that the task still has to apply on the device; `decoder`: what decodes JPEG files
    during the run, if anything does.
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__()
        self.config, self.views, self.image_size = config, config.views, config.image_size
        self.classes = 0
        self.checksum = ""
        self.subset_checksum = ""
        self.device_augmentation = "none"
        self.decoder = ""

    def labels(self, split: str) -> torch.Tensor:
        """Returns the class numbers int64 `[N]` of "val" or "test", or of "train" before a subset is taken."""
        raise NotImplementedError

    def skipped_report(self) -> str:
        """Returns what this process could not read and left out on request; empty where nothing can be left out."""
        return ""

    @property
    def rank(self) -> int:
        """Number of this process among those that train together."""
        return self.trainer.global_rank if self.trainer else 0

    @property
    def world(self) -> int:
        """Number of processes that train together."""
        return self.trainer.world_size if self.trainer else 1

    @property
    def device(self) -> torch.device:
        """Where this process trains."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    @property
    def first_step(self) -> int:
        """The optimizer step at which the next training loader starts; above 0 when a run is resumed."""
        return self.trainer.global_step if self.trainer else 0

    def share(self) -> Share:
        """Returns this process's share of each global batch.

        Raises:
            UserError: if the global batch does not divide by processes times accumulation.
        """
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        if self.config.global_batch % (self.world * accumulate):
            raise UserError(
                f"--global_batch={self.config.global_batch} does not divide by {self.world} processes x {accumulate} "
                f"accumulated batches: expected a multiple of {self.world * accumulate}."
            )
        return Share(self.config.global_batch, self.rank, self.world, accumulate)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Returns the batch on the device, unchanged if it is there already."""
        if batch.images.device == device:
            return batch
        return Batch(*(part.to(device, non_blocking=True) for part in batch))
