"""Streaming encoded images: order, crops, views, bad images, resumption, for any number of workers and processes."""

import io
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from vision_repro.augmentation import crops
from vision_repro.augmentation.batch import Batch
from vision_repro.config import UserError
from vision_repro.data import batches
from vision_repro.data.batches import Spares, _forget_signals
from vision_repro.data.config import DataConfig
from vision_repro.data.streamed import StreamedData
from vision_repro.files.decode import decode
from vision_repro.files.listing import Listing, scan
from vision_repro.files.stream import Stream

# workers are forked by torch, whatever threads other tests left behind
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@dataclass
class Held:
    """An `Encoded` of files held in memory; `None` is a file that cannot be opened."""

    name: str
    files: list[bytes | None]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> bytes:
        data = self.files[index]
        if data is None:
            raise FileNotFoundError(2, "No such file or directory")
        return data

    def source(self, index: int) -> str:
        return f"{self.name}.parquet, row {index}"

    def select(self, indices: npt.NDArray[np.int64]) -> "Held":
        return Held(self.name, [self.files[index] for index in indices], self.labels[indices])


def jpeg(seed: int, width: int = 40, height: int = 30) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(np.random.RandomState(seed).randint(0, 256, (4, 4, 3), dtype=np.uint8))
    image.resize((width, height)).save(file, "JPEG")
    return file.getvalue()


def held(name: str, count: int, first: int) -> Held:
    files: list[bytes | None] = [jpeg(first + number, 30 + number) for number in range(count)]
    return Held(name, files, np.arange(count, dtype=np.int64) % 2)


@pytest.fixture
def listing() -> Listing:
    parts = (held("train", 20, 0), held("val", 5, 100), held("test", 7, 200))
    return Listing(("apple", "zebra"), *parts, checksum="0" * 64, source="memory")


def module(listing: Listing, **changes: Any) -> StreamedData:
    settings: dict[str, Any] = {"seed": 3, "augmentation": "inception", "eval_batch": 4, "workers": 0}
    others = {name: changes.pop(name) for name in ("subset", "report") if name in changes}
    config = DataConfig("held", image_size=16, train_size=20, global_batch=8, steps=6, **settings)
    return StreamedData(replace(config, **changes), listing, **others)


def place(made: StreamedData, **facts: int) -> StreamedData:
    defaults = {"global_rank": 0, "world_size": 1, "global_step": 0, "accumulate_grad_batches": 1}
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    made.trainer = SimpleNamespace(**{**defaults, **facts}, strategy=strategy)  # type: ignore[assignment]
    return made


def joined(loader: Any) -> tuple[Tensor, Tensor]:
    found: list[Batch] = list(loader)
    assert len(found) <= len(loader)
    return torch.cat([batch.images for batch in found]), torch.cat([batch.labels for batch in found])


def equal(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return a[0].equal(b[0]) and a[1].equal(b[1])


def digests(images: Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


# --- order ---


@pytest.mark.parametrize("policy", ["none", *crops.POLICIES])
def test_training_is_the_slow_definition(listing: Listing, policy: str) -> None:
    made = module(listing, augmentation=policy, subset=torch.arange(3, 16))
    images, labels = joined(made.train_dataloader())
    stream = Stream(13, 3)
    for position in range(48):
        index = 3 + int(stream.at(np.array([position]))[0])
        image, key = decode(listing.train.read(index), ""), (position // 13, index)
        crop = crops.POLICIES.get(policy)
        expected = crop(image, key, size=16, seed=3) if crop else crops.central(image, 16)
        assert images[position].equal(expected)
        assert labels[position] == listing.train.labels[index]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_all_of_train_is_the_subset_and_all_of_val(
    listing: Listing, tmp_path: Path, cached: bool, workers: int
) -> None:
    settings = {"augmentation": "none", "subset": torch.arange(3, 16), "workers": workers}
    cache = {"decoded_cache": cached, "cache": tmp_path}
    plain = joined(module(listing, **settings).pool_dataloader())
    val = joined(module(listing, **settings).val_dataloader())
    made = module(listing, **settings, **cache, train_on_val=True)
    assert equal(joined(made.pool_dataloader()), (torch.cat((plain[0], val[0])), torch.cat((plain[1], val[1]))))
    assert made.expected("train") == 18
    assert made.labels("train").tolist() == [*listing.train.labels, *listing.val.labels]
    once = module(listing, **settings, **cache, train_on_val=True, global_batch=18, steps=1)
    images, labels = joined(once.train_dataloader())
    assert sorted(digests(images)) == sorted(digests(torch.cat((plain[0], val[0]))))
    assert labels.sum() == plain[1].sum() + val[1].sum()
    test = set(digests(joined(made.test_dataloader())[0]))
    assert not test & set(digests(images))
    assert equal(joined(made.val_dataloader()), val)


def test_order_and_pixels_are_the_same_with_and_without_workers(listing: Listing) -> None:
    alone, helped = (joined(module(listing, workers=workers).train_dataloader()) for workers in (0, 2))
    assert equal(alone, helped)
    assert not equal(alone, joined(module(listing, seed=4).train_dataloader()))


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_pieces_and_resumption_see_one_stream(listing: Listing, workers: int) -> None:
    images, labels = joined(place(module(listing)).train_dataloader())
    for rank in (0, 1):
        made = place(module(listing, workers=workers), global_rank=rank, world_size=2, accumulate_grad_batches=2)
        assert equal(joined(made.train_dataloader()), (images[rank::2], labels[rank::2]))
    resumed = place(module(listing, workers=workers), global_step=4).train_dataloader()
    assert len(resumed) == 6
    assert equal(joined(resumed), (images[32:], labels[32:]))


def test_first_draws_differ_over_seeds_epochs_and_ranks(listing: Listing) -> None:
    """One image a rank, for ever: every copy of it is cropped another way."""
    found = []
    for seed in (0, 1, 42):
        for rank in (0, 1):
            changes: dict[str, Any] = {"subset": torch.tensor([rank * 2]), "global_batch": 2, "steps": 4, "seed": seed}
            made = place(module(listing, **changes), global_rank=rank, world_size=2)
            found += digests(joined(made.train_dataloader())[0])
    assert len(found) == len(set(found)) == 24


def test_the_device_gets_what_the_workers_cannot_do(listing: Listing) -> None:
    policies = ("none", "flip", "inception", "inception+mixup0.2", "erase0.25+vgg+mixup0.2", "resize-crop", "crop-flip")
    left = [module(listing, augmentation=policy).device_augmentation for policy in policies]
    assert left == ["none", "flip", "none", "mixup0.2", "erase0.25+mixup0.2", "none", "crop-flip"]
    images, _ = joined(module(listing, augmentation="flip", subset=torch.tensor([0, 1])).train_dataloader())
    assert len(set(digests(images))) == 2


def test_starting_a_loader_draws_nothing_from_the_global_generator(listing: Listing) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(module(listing, workers=2).val_dataloader())
    assert torch.get_rng_state().equal(before)


def test_it_works_with_the_real_thing(real_data: Path) -> None:
    found = scan(real_data / "imagenette-224")
    made = module(found, image_size=64, global_batch=32, steps=2, workers=2, subset=torch.arange(0, 2000, 20))
    assert (made.classes, made.expected("val"), made.expected("test")) == (10, 30, 600)
    images, labels = joined(made.test_dataloader())
    assert images.shape == (600, 3, 64, 64)
    assert labels.bincount().tolist() == [60] * 10
    assert joined(made.train_dataloader())[0].shape == (64, 3, 64, 64)
    assert len(joined(made.pool_dataloader())[1]) == made.expected("train") == 100


def test_workers_can_be_started_without_forking(listing: Listing, tmp_path: Path) -> None:
    """What they are handed survives pickling, gives the same images and holds neither Trainer nor pixels."""
    for kept in (False, True):
        made = place(module(listing, cache=tmp_path, decoded_cache=kept, on_bad_image="skip"))
        for loader in (made.train_dataloader(), made.val_dataloader(), made.test_dataloader()):
            data = pickle.dumps(loader.images)
            assert len(data) < 30_000
            key = next(iter(loader.keys))[0]
            assert pickle.loads(data)[key].image.equal(loader.images[key].image)  # type: ignore[union-attr]


# --- evaluation ---


@pytest.mark.parametrize("world", [1, 2, 4])
def test_shards_cover_the_split_exactly(listing: Listing, world: int) -> None:
    images, labels = joined(module(listing).test_dataloader())
    assert labels.tolist() == listing.test.labels.tolist()
    for rank in range(world):
        shard = joined(place(module(listing), global_rank=rank, world_size=world).test_dataloader())
        assert equal(shard, (images[rank::world], labels[rank::world]))


@pytest.mark.parametrize("kind", crops.VIEWS)
def test_test_images_have_all_views_and_val_has_one(listing: Listing, kind: str) -> None:
    made = module(listing, views=kind, eval_batch=20)
    found = list(made.test_dataloader())
    assert max(len(batch.labels) * crops.VIEWS[kind] for batch in found) <= max(20, crops.VIEWS[kind])
    images = torch.cat([batch.images for batch in found])
    for number in range(7):
        assert images[number].equal(crops.views(decode(listing.test.read(number), ""), kind, 16))
    first = decode(listing.val.read(0), "")
    expected = crops.views(first, "square" if kind == "square" else "crop", 16)
    assert joined(made.val_dataloader())[0][0].equal(expected)
    assert joined(made.pool_dataloader())[0].shape == (20, 3, 16, 16)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"views": "tne"}, r'--views="tne" is unknown: expected one of crop, .* Did you mean "ten"\?'),
        ({"on_bad_image": "ignore"}, '--on_bad_image="ignore" is unknown: expected one of error, skip'),
        ({"decoded_cache": True}, "--decoded_cache needs --cache"),
    ],
)
def test_impossible_settings_are_refused(listing: Listing, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        module(listing, **change)


# --- images that cannot be read ---


FAULTS: dict[str, tuple[bytes | None, str]] = {
    "cut": (jpeg(1)[:-200], "row 4 is no whole image"),
    "garbage": (b"garbage", "row 4 is no whole image"),
    "empty": (b"", "row 4 is empty"),
    "gone": (None, r"row 4 cannot be read \(No such file"),
}


def broken(encoded: Any, *faults: int) -> Any:
    files = [jpeg(1)[:-200] if number in faults else data for number, data in enumerate(encoded.files)]
    return Held(encoded.name, files, encoded.labels)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_image_gives_one_error_with_its_place(listing: Listing, fault: str, workers: int) -> None:
    data, words = FAULTS[fault]
    listing.test.files[4] = data  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=f"test.parquet, {words}") as caught:
        list(module(listing, workers=workers).test_dataloader())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_training_images_are_replaced_and_all_others_stay(listing: Listing, workers: int) -> None:
    whole = joined(module(listing).train_dataloader())
    bad = replace(listing, train=broken(listing.train, 4, 11))
    made = module(bad, on_bad_image="skip", workers=workers)
    images, labels = joined(made.train_dataloader())
    assert images.shape == whole[0].shape
    stream = Stream(20, 3).at(np.arange(48))
    affected = np.isin(stream, (4, 11))
    assert images[~affected].equal(whole[0][~affected])
    assert labels[~affected].equal(whole[1][~affected])
    for position in np.flatnonzero(affected).tolist():
        key = (position // 20, int(stream[position]))
        spare = next(index for index in Spares(np.arange(20), 3).of(key) if index not in (4, 11))
        expected = crops.inception(decode(listing.train.read(spare), ""), key, size=16, seed=3)
        assert images[position].equal(expected)
        assert labels[position] == listing.train.labels[spare]
    assert made.skipped["train"].total() == affected.sum() > 2
    assert made.skipped_report().startswith(
        f"train: 2 images could not be read and were replaced {affected.sum()} times: train.parquet, row 11 is no whole"
    )


def test_replacements_are_the_same_for_any_number_of_processes(listing: Listing) -> None:
    bad = replace(listing, train=broken(listing.train, *range(0, 20, 3)))
    images, labels = joined(module(bad, on_bad_image="skip").train_dataloader())
    for rank in (0, 1):
        made = place(module(bad, on_bad_image="skip"), global_rank=rank, world_size=2)
        assert equal(joined(made.train_dataloader()), (images[rank::2], labels[rank::2]))


def test_spares_come_from_the_subset_and_differ_over_epochs() -> None:
    spares = Spares(np.array([5, 7, 9]), seed=0)
    found = [tuple(spares.of((epoch, image))) for epoch in range(5) for image in range(5)]
    assert {index for tried in found for index in tried} == {5, 7, 9}
    assert len(set(found)) == 25


def test_a_training_set_without_a_single_image(listing: Listing) -> None:
    bad = replace(listing, train=broken(listing.train, *range(20)))
    with pytest.raises(UserError, match="None of 100 images could be read in place of another"):
        list(module(bad, on_bad_image="skip").train_dataloader())


@pytest.mark.parametrize("world", [1, 2])
def test_bad_test_images_are_left_out_and_the_denominator_knows(listing: Listing, world: int, tmp_path: Path) -> None:
    whole = joined(module(listing).test_dataloader())
    bad = replace(listing, test=broken(listing.test, 2, 5), train=broken(listing.train, 0))
    good = torch.tensor([0, 1, 3, 4, 6])
    for cache in (None, tmp_path):
        made = [
            place(module(bad, on_bad_image="skip", cache=cache, workers=2), global_rank=rank, world_size=world)
            for rank in range(world)
        ]
        assert [(one.expected("train"), one.expected("val"), one.expected("test")) for one in made] == [
            (19, 5, 5)
        ] * world
        seen = [joined(one.test_dataloader()) for one in made]
        for rank, part in enumerate(seen):
            assert equal(part, (whole[0][good][rank::world], whole[1][good][rank::world]))
        assert made[0].skipped_report() == (
            "test: 2 images could not be read and were left out: " + next(iter(made[0].skipped["test"]))
        )
        assert len(joined(made[0].pool_dataloader())[1]) == -(-19 // world)


def test_what_cannot_be_read_is_looked_for_once(listing: Listing, tmp_path: Path) -> None:
    bad = replace(listing, test=broken(listing.test, 2))
    assert module(bad, on_bad_image="skip", cache=tmp_path).expected("test") == 6
    # the same checksum: nothing is read again, whatever the files say
    assert module(listing, on_bad_image="skip", cache=tmp_path).expected("test") == 6
    other = replace(listing, checksum="1" * 64)
    assert module(other, on_bad_image="skip", cache=tmp_path).expected("test") == 7


def test_nothing_is_looked_for_without_being_asked(listing: Listing, tmp_path: Path) -> None:
    bad = replace(listing, test=broken(listing.test, 2))
    assert module(bad, cache=tmp_path).expected("test") == 7
    assert not list(tmp_path.iterdir())


# --- processes ---


@pytest.fixture
def handlers() -> Iterator[None]:
    """Puts the signal handlers back."""
    old = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_workers_forget_the_handlers_of_the_run() -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    _forget_signals(0)
    assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def private_kib(pid: int) -> int:
    """Memory of a process that no other shares [KiB]."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private"))


@dataclass
class Repeated:
    """An `Encoded` of very many files, all alike, whose places stand in an array."""

    data: bytes
    names: npt.NDArray[np.bytes_]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> bytes:
        assert self.names[index]
        return self.data

    def source(self, index: int) -> str:
        return bytes(self.names[index]).decode()

    def select(self, indices: npt.NDArray[np.int64]) -> "Repeated":
        return Repeated(self.data, self.names[indices], self.labels[indices])


def growth(names: Any, listing: Listing, monkeypatch: pytest.MonkeyPatch) -> int:
    """Returns by how much a worker grows from its 5th to its 300th batch of 50 [KiB]."""
    many = Repeated(jpeg(0, 8, 8), names, np.zeros(len(names), dtype=np.int64))
    read_end, write_end = os.pipe()
    monkeypatch.setattr(batches, "_forget_signals", lambda worker: os.write(write_end, os.getpid().to_bytes(8)))
    made = module(replace(listing, train=many), global_batch=50, steps=304, image_size=8, workers=1)
    loader = iter(made.train_dataloader())
    for _ in range(5):
        next(loader)
    worker = int.from_bytes(os.read(read_end, 8))
    before = private_kib(worker)
    for _ in range(295):
        next(loader)
    return private_kib(worker) - before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's account of memory")
def test_memory_of_workers_does_not_grow(listing: Listing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole epochs are the benchmark's; here a list, which does grow, by 7 MB, and an array side by side."""
    names = [b"some/folder/with/a/long/name/image_%08d.jpg" % number for number in range(100_000)]
    assert growth(np.array(names), listing, monkeypatch) + 3500 < growth(names, listing, monkeypatch)


def stream_for_ever(listing: Listing, pipe: int) -> None:
    os.setsid()
    made = module(listing, workers=2, steps=100_000)
    for _ in made.train_dataloader():
        os.write(pipe, b"x")
        time.sleep(0.05)


@pytest.mark.slow
def test_no_worker_outlives_a_killed_run(listing: Listing) -> None:
    read_end, write_end = os.pipe()
    run = multiprocessing.get_context("fork").Process(target=stream_for_ever, args=(listing, write_end))
    run.start()
    assert os.read(read_end, 1) == b"x"
    assert run.pid
    assert len(members(run.pid)) == 3
    run.kill()
    run.join(20)
    deadline = time.monotonic() + 20
    while members(run.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not members(run.pid)


def members(group: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found
