"""Data modules of images in memory: order, shards, resumption inside Lightning, and early refusals."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer

import vision_repro.data as data
from vision_repro import datasets
from vision_repro.augmentation import crops
from vision_repro.augmentation.batch import Batch
from vision_repro.config import UserError
from vision_repro.data.config import DataConfig
from vision_repro.data.resident import ResidentData
from vision_repro.files.splits import Split, Splits


def numbered(count: int) -> Split:
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2).contiguous()
    return Split(images, torch.arange(count))


SPLITS = Splits("toy", 30, ("x",) * 30, 2, numbered(30), numbered(7), numbered(11), "c")


def module(subset: Any = None, batch: int = 8, **place: int) -> ResidentData:
    made = ResidentData(DataConfig("toy", 2, 30, batch, 6, seed=1, eval_batch=3), SPLITS, subset)
    defaults = {"global_rank": 0, "world_size": 1, "global_step": 0, "accumulate_grad_batches": 1}
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    made.trainer = SimpleNamespace(**{**defaults, **place}, strategy=strategy)  # type: ignore[assignment]
    return made


def seen(loader: Any) -> list[list[int]]:
    return [batch.labels.tolist() for batch in loader]


def flat(lists: list[list[int]]) -> list[int]:
    return [item for items in lists for item in items]


def test_images_and_labels_stay_together() -> None:
    for batch in module().train_dataloader():
        assert isinstance(batch, Batch)
        assert batch.images.dtype == torch.uint8
        assert batch.images[:, 0, 0, 0].tolist() == batch.labels.tolist()


def test_two_ranks_and_micro_batches_see_what_one_sees() -> None:
    whole = seen(module().train_dataloader())
    ranks = [seen(module(global_rank=r, world_size=2, accumulate_grad_batches=2).train_dataloader()) for r in (0, 1)]
    for step, batch in enumerate(whole):
        for rank in (0, 1):
            assert flat(ranks[rank][2 * step : 2 * step + 2]) == batch[rank::2]


def test_a_batch_may_span_epochs_of_a_small_subset() -> None:
    subset = torch.tensor([4, 9, 2, 7, 11])
    entries = flat(seen(module(subset).train_dataloader()))
    assert len(entries) == 48
    for start in range(0, 45, 5):
        assert sorted(entries[start : start + 5]) == [2, 4, 7, 9, 11]


def test_resumption_continues_the_stream_and_keeps_the_length() -> None:
    resumed = module(global_step=4).train_dataloader()
    assert seen(resumed) == seen(module().train_dataloader())[4:]
    assert len(resumed) == 6


@pytest.mark.parametrize("world", [1, 2, 3])
def test_shards_cover_the_split_exactly(world: int) -> None:
    for name, count in (("val", 7), ("test", 11)):
        entries = []
        for rank in range(world):
            made = module(global_rank=rank, world_size=world)
            loader = getattr(made, f"{name}_dataloader")()
            batches = seen(loader)
            assert len(batches) == len(loader)
            assert flat(batches) == list(range(count))[rank::world]
            entries += flat(batches)
            assert made.expected(name) == count
        assert sorted(entries) == list(range(count))


def test_a_rank_without_images_has_no_batch() -> None:
    assert seen(module(global_rank=11, world_size=12).test_dataloader()) == []


def test_the_pool_is_the_subset_once() -> None:
    made = module(torch.tensor([4, 9, 2, 7]))
    assert flat(seen(made.pool_dataloader())) == [4, 9, 2, 7]
    assert made.expected("train") == 4


def test_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match=r"--global_batch=8 .* 3 processes"):
        module(world_size=3).train_dataloader()


def test_batch_on_the_device_is_not_copied() -> None:
    made = module()
    batch = next(iter(made.val_dataloader()))
    assert made.transfer_batch_to_device(batch, torch.device("cpu"), 0) is batch
    assert made.transfer_batch_to_device(batch, torch.device("meta"), 0).images.device.type == "meta"


class Echo(LightningModule):
    """Notes what it sees; can die after a number of steps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches: list[list[int]] = []

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        self.batches.append(batch.labels.tolist())
        return self.weight * 1

    def validation_step(self, batch: Batch, index: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(folder: Path, max_steps: int, accumulate: int, resume: Path | None = None) -> list[list[int]]:
    trainer = Trainer(
        max_steps=max_steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        accumulate_grad_batches=accumulate,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    task = Echo()
    made = ResidentData(DataConfig("toy", 2, 30, 8, 6, seed=1), SPLITS)
    trainer.fit(task, datamodule=made, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(folder / "at.ckpt")
    assert trainer.global_step == max_steps
    return task.batches


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("stop", [2, 5])
def test_lightning_resumes_in_the_middle_with_the_very_next_batch(tmp_path: Path, accumulate: int, stop: int) -> None:
    whole = fit(tmp_path, 6, accumulate)
    first = fit(tmp_path, stop, accumulate)
    assert first + fit(tmp_path, 6, accumulate, tmp_path / "at.ckpt") == whole
    assert len(whole) == 6 * accumulate


SETTINGS = DataConfig("digits", image_size=8, train_size=50, global_batch=16, steps=3, augmentation="flip")


def made_of(cache: Path, changes: Mapping[str, Any] = MappingProxyType({})) -> Any:
    return data.datamodule(replace(SETTINGS, cache=cache, **changes))


def test_datamodule_carries_what_a_run_needs(tmp_path: Path) -> None:
    made = made_of(tmp_path)
    assert (made.classes, made.image_size, made.device_augmentation) == (10, 8, "flip")
    assert len(made.checksum) == len(made.subset_checksum) == 64
    other = made_of(tmp_path, {"seed": 1})
    assert (made.checksum == other.checksum, made.subset_checksum == other.subset_checksum) == (True, False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_size": 0}, "--image_size=0 does not fit digits: expected at least 1, such as 8"),
        ({"train_size": 1201}, "--train_size=1201 is too large"),
        ({"train_size": 9}, "--train_size=9 is too small"),
        ({"augmentation": "flop"}, '--augmentation="flop" is unknown'),
        ({"data_root": Path("/nowhere")}, "--data_root=/nowhere is no folder"),
    ],
)
def test_impossible_settings_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        made_of(tmp_path, change)


@pytest.mark.parametrize("size", [5, 8, 12])
@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader", "test_dataloader", "pool_dataloader"])
def test_images_of_another_size_are_those_resized_by_torchvision(tmp_path: Path, size: int, loader: str) -> None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    own, other = (made_of(tmp_path, {"image_size": n}) for n in (8, size))
    assert other.image_size == size
    for before, after in zip(getattr(own, loader)(), getattr(other, loader)(), strict=True):
        expected = resize(before.images, [size, size], InterpolationMode.BILINEAR, antialias=True)
        assert after.images.dtype == torch.uint8
        assert after.images.equal(expected)
        assert after.labels.equal(before.labels)
        assert size != 8 or after.images.equal(before.images)


def test_images_of_their_own_size_are_not_touched(tmp_path: Path) -> None:
    made = made_of(tmp_path)
    found = torch.cat([batch.images for batch in made.val_dataloader()])
    assert found.equal(datasets.load("digits", None, tmp_path).val.images)


def test_views_of_resized_images_are_cut_from_the_own_pixels(tmp_path: Path) -> None:
    made = made_of(tmp_path, {"image_size": 14, "views": "ten"})
    first = next(iter(made.test_dataloader())).images
    own = datasets.load("digits", None, tmp_path).test.images[: len(first)]
    assert first.shape[1:] == (10, 3, 14, 14)
    assert first.equal(crops.views(own, "ten", 14))


def test_all_of_train_is_the_subset_and_all_of_val_and_nothing_of_test() -> None:
    apart = Splits("toy", 99, ("x",) * 99, 2, numbered(30), _moved(7, 30), _moved(11, 37), "c")
    for subset, first in ((None, range(30)), (torch.tensor([4, 9, 2]), (2, 4, 9))):
        count = len(first) + 7
        made = ResidentData(DataConfig("toy", 2, 30, count, 3, seed=1, train_on_val=True), apart, subset)
        whole = ResidentData(DataConfig("toy", 2, 30, len(first), 3, seed=1), apart, subset)
        for batch in seen(made.train_dataloader()):
            assert sorted(batch) == [*first, *range(30, 37)]
        assert sorted(flat(seen(made.pool_dataloader()))) == [*first, *range(30, 37)]
        assert sorted(flat(seen(whole.train_dataloader()))) == sorted([*first] * 3)
        assert seen(made.val_dataloader()) == [[*range(30, 37)]]
        assert (made.expected("train"), made.expected("val")) == (count, 7)
        assert made.subset_checksum != whole.subset_checksum
        for found in made.train_dataloader():
            assert found.images[:, 0, 0, 0].tolist() == found.labels.tolist()


def _moved(count: int, by: int) -> Split:
    plain = numbered(count)
    return Split(plain.images + by, plain.labels + by)


def test_unknown_data_set_gets_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'"cifar1O" is unknown.*mean "cifar10"'):
        data.load("cifar1O", None, tmp_path)
    assert {"digits", "cifar10", "cifar100", "imagenette", "imagenet", "imagenet21k", "folder"} <= set(datasets.names())
