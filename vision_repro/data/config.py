"""What decides the batches of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vision_repro.config import Launch, RunConfig


@dataclass(frozen=True)
class DataConfig:
    """The data's part of a run's config, and where the data are; built once and handed on whole.

    `train_size` images form the nested subset that (labels, `seed`) fix. `views` is what is made of a test image
    (`crops.views`). `workers` [processes] decode images that are streamed, `on_bad_image` is what to do about one that
    cannot be read, and `decoded_cache` keeps decoded images under `cache`. With `train_on_val` all images of `val` are
    trained on too; `val` is measured as ever. `eval_batch` is the number of images of a batch that is only measured.
    """

    dataset: str
    image_size: int
    train_size: int
    global_batch: int
    steps: int
    seed: int = 0
    augmentation: str = "none"
    views: str = "crop"
    on_bad_image: str = "error"
    train_on_val: bool = False
    data_root: Path | None = None
    cache: Path | None = None
    workers: int = 2
    decoded_cache: bool = False
    eval_batch: int = 500

    @classmethod
    def of(cls, config: RunConfig, launch: Launch, cache: Path) -> DataConfig:
        """Returns the data's part of a run's config, with where the command line says the data are."""
        return cls(
            dataset=config.dataset,
            image_size=config.image_size,
            train_size=config.train_size,
            global_batch=config.global_batch,
            steps=config.total_steps,
            seed=config.seed,
            augmentation=config.augmentation,
            views=config.views,
            on_bad_image=config.on_bad_image,
            train_on_val=config.train_on_val,
            data_root=Path(launch.data_root) if launch.data_root else None,
            cache=cache,
            workers=launch.workers,
            decoded_cache=launch.decoded_cache,
        )
