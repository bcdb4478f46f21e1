"""Images to batches: the LightningDataModules, and what decides which images they hand out.

`config` says what is wanted; `resident` and `streamed` are the two LightningDataModules, for images in memory and for
images that worker processes decode; `checks` looks for faults, `sheet` draws what a person should see.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vision_repro.config import UserError
from vision_repro.data.config import DataConfig
from vision_repro.datasets import describe, is_streamed, listed, load

if TYPE_CHECKING:  # importing lightning takes seconds, which `check` does not need
    from vision_repro.data.module import ImageData


def check(config: DataConfig) -> None:
    """Refuses early what `datamodule` would refuse, as far as it is known without reading the data.

    Images in memory are resized to any `image_size` [pixels], as streamed ones are.

    Raises:
        UserError: for an unknown data set or augmentation, a wrong image size or an impossible training size.
    """
    from vision_repro.augmentation import policy  # with subset it imports torch, which takes seconds
    from vision_repro.files import subset

    name, sizes = config.dataset, describe(config.dataset)
    if policy.parse(config.augmentation).needs_whole_images and not is_streamed(name):
        raise UserError(
            f'--augmentation="{config.augmentation}" crops images larger than the model sees, but those of {name} are '
            "held in memory at one size: expected inception or crop-flip."
        )
    if config.image_size < 1:
        usual = f", such as {sizes.image_size}, the size of its images" if sizes.image_size else ""
        raise UserError(f"--image_size={config.image_size} does not fit {name}: expected at least 1{usual}.")
    subset.check_size(config.train_size, sizes.train, sizes.classes)


def datamodule(config: DataConfig) -> ImageData:
    """Returns the loaders of a run, on the subset of the training images that its config fixes.

    Raises:
        UserError: for settings that the data set cannot serve, or data that are missing or broken.
    """
    import torch  # with lightning, seconds that a reader of `check` does not wait for

    from vision_repro.data.resident import ResidentData
    from vision_repro.data.streamed import StreamedData
    from vision_repro.files.subset import take

    check(config)
    cache = config.cache or Path()
    if is_streamed(config.dataset):
        listing = listed(config.dataset, config.data_root, cache)
        subset = take(torch.from_numpy(listing.train.labels), config.train_size, config.seed)
        return StreamedData(config, listing, subset, report=partial(print, file=sys.stderr))
    splits = load(config.dataset, config.data_root, cache)
    return ResidentData(config, splits, take(splits.train.labels, config.train_size, config.seed))
