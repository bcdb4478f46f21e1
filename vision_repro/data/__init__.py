"""Images to batches: the LightningDataModules, and what decides which images they hand out.

`subset` and `stream` say which images are trained on and in which order; `resident` and `streamed` are the two
LightningDataModules; `checks` looks for faults, `sheet` draws what a person should see.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vision_repro.config import UserError
from vision_repro.datasets import describe, is_streamed, listed, load

if TYPE_CHECKING:  # a reader of Batch or of the cache need not wait for lightning
    from vision_repro.data.module import ImageData


def check(name: str, *, image_size: int, train_size: int, augmentation: str) -> None:
    """Refuses early what `datamodule` would refuse, as far as it is known without reading the data.

    Images in memory are resized to any `image_size` [pixels], as streamed ones are.

    Raises:
        UserError: for an unknown data set or augmentation, a wrong image size or an impossible training size.
    """
    from vision_repro.augmentation import policy
    from vision_repro.files import subset

    sizes = describe(name)
    if policy.parse(augmentation).needs_whole_images and not is_streamed(name):
        raise UserError(
            f'--augmentation="{augmentation}" crops images larger than the model sees, but those of {name} are held in '
            "memory at one size: expected inception or crop-flip."
        )
    if image_size < 1:
        usual = f", such as {sizes.image_size}, the size of its images" if sizes.image_size else ""
        raise UserError(f"--image_size={image_size} does not fit {name}: expected at least 1{usual}.")
    subset.check_size(train_size, sizes.train, sizes.classes)


def datamodule(
    name: str,
    *,
    image_size: int,
    train_size: int,
    seed: int,
    global_batch: int,
    steps: int,
    augmentation: str,
    data_root: Path | None,
    cache: Path,
    eval_batch: int = 500,
    workers: int = 2,
    views: str = "crop",
    on_bad_image: str = "error",
    decoded_cache: bool = False,
    train_on_val: bool = False,
) -> ImageData:
    """Returns the loaders of a run: on the nested subset of `train_size` images that (labels, `seed`) fix.

    `views` is what is made of a test image (`crops.views`). The last three are for images that are streamed:
    `workers` [processes] that decode them, what to do about one that cannot be read, and whether decoded images are
    kept under `cache`. With `train_on_val` all images of `val` are trained on too; `val` is measured as ever.

    Raises:
        UserError: for settings that the data set cannot serve, or data that are missing or broken.
    """
    import torch

    from vision_repro.data.resident import ResidentData
    from vision_repro.data.streamed import StreamedData
    from vision_repro.files.subset import take

    check(name, image_size=image_size, train_size=train_size, augmentation=augmentation)
    if is_streamed(name):
        listing = listed(name, data_root, cache)
        return StreamedData(
            listing,
            image_size=image_size,
            subset=take(torch.from_numpy(listing.train.labels), train_size, seed),
            global_batch=global_batch,
            steps=steps,
            seed=seed,
            augmentation=augmentation,
            workers=workers,
            eval_batch=eval_batch,
            views=views,
            on_bad_image=on_bad_image,
            decoded_cache=decoded_cache,
            cache=cache,
            report=partial(print, file=sys.stderr),
            train_on_val=train_on_val,
        )
    splits = load(name, data_root, cache)
    return ResidentData(
        splits,
        subset=take(splits.train.labels, train_size, seed),
        global_batch=global_batch,
        steps=steps,
        seed=seed,
        eval_batch=eval_batch,
        augmentation=augmentation,
        views=views,
        image_size=image_size,
        train_on_val=train_on_val,
    )
