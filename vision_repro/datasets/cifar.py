"""CIFAR-10 and CIFAR-100: 32x32 images, from parquet files, torchvision's folder or archive, or a download.

Split: the official test; val is 2 % of the official train (1,000 images, class-balanced, drawn once), as the authors
of ViT choose their hyper-parameters (B.1.1); train is the other 49,000.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vision_repro.config import UserError
from vision_repro.files import cache as caches
from vision_repro.files import download
from vision_repro.files.decode import decode
from vision_repro.files.download import Remote, Say
from vision_repro.files.places import fetched
from vision_repro.files.splits import Sizes, Splits, check_labels
from vision_repro.files.subset import order

CLASSES = {"cifar10": 10, "cifar100": 100}
NAMES: tuple[str, ...] = tuple(CLASSES)
SIZES = {name: Sizes(49_000, 1_000, 10_000, classes, 32) for name, classes in CLASSES.items()}
_PAGE = "https://www.cs.toronto.edu/~kriz"
# MD5 as torchvision 0.29 knows them
SOURCES = {
    "cifar10": (
        Remote(f"{_PAGE}/cifar-10-python.tar.gz", "cifar-10-python.tar.gz", 170_498_071,
               "c58f30108f718f92721af3b95e74349a"),
    ),
    "cifar100": (
        Remote(f"{_PAGE}/cifar-100-python.tar.gz", "cifar-100-python.tar.gz", 169_001_437,
               "eb9058c3a382ffc7106e4002c42a8d85"),
    ),
}  # fmt: skip
_SPLIT_SEED = 0

Half = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]  # images [N, 3, 32, 32] and labels [N] of train or test
Official = tuple[Half, Half, tuple[str, ...]]  # train, test, class names


def load(name: str, data_root: Path | None, cache: Path) -> Splits:
    """Returns CIFAR-10 or CIFAR-100 as uint8 `[N, 3, 32, 32]`.

    Looks in `data_root` for `<name>/**/{train,test}*.parquet` (Hugging Face's layout), torchvision's folder or its
    archive, also inside `<name>/`; otherwise the archive is downloaded to under `cache`, once, under a file lock.

    Raises:
        UserError: if the data are missing, truncated, corrupt or mislabelled.
    """
    return _told(name, data_root, cache, lambda line: None)


def _told(name: str, data_root: Path | None, cache: Path, say: Say) -> Splits:
    """Returns what `load` does, telling of a download."""
    files, read = _source(name, data_root, cache, say)
    return caches.cached(cache, name, caches.digest(files), lambda: _split(name, read(), files[0].parent))


def prepare(name: str, data_root: Path | None, cache: Path, say: Say) -> None:
    """Fetches the archive of a data set, unless it is there in some form, and decodes it.

    Raises:
        UserError: as `load`.
    """
    splits = _told(name, data_root, cache, say)
    say(f"{name} is decoded: {len(splits.train):,} training, {len(splits.val):,} val, {len(splits.test):,} test images")


def _source(name: str, data_root: Path | None, cache: Path, say: Say) -> tuple[list[Path], Callable[[], Official]]:
    """Returns the files to read and the function that reads them."""
    kind, remote = _torchvision(name), SOURCES[name][0]
    for top in [fetched(cache)] if data_root is None else [data_root, fetched(cache)]:
        folder = top / name
        halves = [sorted(folder.rglob(f"{half}*.parquet")) for half in ("train", "test")]
        if any(halves):
            return [*halves[0], *halves[1]], partial(_read_parquets, name, folder, *halves)
        for root in (top, folder):
            if (root / kind.base_folder).is_dir():
                files = sorted(path for path in (root / kind.base_folder).iterdir() if path.is_file())
                return files or [root / kind.base_folder], partial(_read_batches, name, root)
            if (root / remote.file).is_file():
                return [root / remote.file], partial(_read_archive, name, root / remote.file, cache)
        if folder.is_dir():
            raise UserError(
                f"{folder} holds no {name}: expected train*.parquet and test*.parquet, "
                f"{kind.base_folder}/ or {remote.file}."
            )
    say(f"{name}: {remote.file} {download.megabytes(remote.bytes)}, from {remote.url}, into {fetched(cache)}")
    archive = download.fetch(remote, fetched(cache), say)
    return [archive], partial(_read_archive, name, archive, cache)


def _split(name: str, official: Official, source: Path) -> caches.Decoded:
    (images, labels), test, class_names = official
    for part in (labels, test[1]):
        check_labels(part, CLASSES[name], source)
    dealt = order(torch.from_numpy(labels), _SPLIT_SEED).numpy()
    count = len(labels) // 50
    val, train = np.sort(dealt[:count]), np.sort(dealt[count:])
    arrays = {"train": (images[train], labels[train]), "val": (images[val], labels[val]), "test": test}
    return caches.Decoded(arrays, class_names)


# --- parquet ---


def _read_parquets(name: str, folder: Path, train: list[Path], test: list[Path]) -> Official:
    if not (train and test):
        raise UserError(f"{folder} is incomplete: expected both train*.parquet and test*.parquet.")
    parts = [[_read_parquet(name, path) for path in paths] for paths in (train, test)]
    halves = [(np.concatenate([p[0] for p in part]), np.concatenate([p[1] for p in part])) for part in parts]
    return halves[0], halves[1], parts[0][0][2]


def _read_parquet(name: str, path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], tuple[str, ...]]:
    # Imported here for start-up time: pyarrow takes long to import.
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            columns = set(file.schema_arrow.names)
            image = next((column for column in ("img", "image") if column in columns), None)
            label = next((column for column in ("label", "fine_label") if column in columns), None)
            if image is None or label is None:
                raise UserError(f"{path} has the columns {sorted(columns)}: expected img and label (or fine_label).")
            images = np.empty((file.metadata.num_rows, 3, 32, 32), dtype=np.uint8)
            labels = np.empty(len(images), dtype=np.int64)
            for row, (data, number) in enumerate(_rows(file, image, label)):
                images[row], labels[row] = _pixels(data, f"{path}, image {row},"), -1 if number is None else number
            return images, labels, _class_names(name, file.schema_arrow.metadata, label)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as parquet ({str(error).splitlines()[0]}): fetch it again.") from None


def _rows(file: Any, image: str, label: str) -> Iterator[tuple[bytes, int | None]]:
    for batch in file.iter_batches(batch_size=1000, columns=[image, label], use_threads=False):
        cells = (cell or {} for cell in batch.column(image).to_pylist())
        yield from zip((cell.get("bytes") or b"" for cell in cells), batch.column(label).to_pylist(), strict=True)


def _pixels(data: bytes, source: str) -> npt.NDArray[np.uint8]:
    pixels: npt.NDArray[np.uint8] = decode(data, source).numpy()
    if pixels.shape != (3, 32, 32):
        raise UserError(f"{source} has {pixels.shape[2]}x{pixels.shape[1]} pixels: expected 32x32.")
    return pixels


def _class_names(name: str, metadata: dict[bytes, bytes] | None, label: str) -> tuple[str, ...]:
    """Returns the class names that Hugging Face stores beside the table, or numbers where there are none."""
    try:
        found = tuple(json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        found = ()
    return found if len(found) == CLASSES[name] else tuple(str(number) for number in range(CLASSES[name]))


# --- torchvision's batches ---


def _torchvision(name: str) -> Any:
    # Imported here for start-up time: torchvision takes long to import.
    from torchvision import datasets

    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]


def _read_batches(name: str, root: Path) -> Official:
    """Reads torchvision's folder. The batches are pickles: torchvision compares the MD5 of each before it opens one."""
    kind = _torchvision(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the arrays were pickled by a numpy that warns of itself today
            train, test = (kind(root, train=train) for train in (True, False))
    except RuntimeError:
        raise UserError(
            f"{root / kind.base_folder} is incomplete or corrupt (a checksum differs): fetch {kind.url} again."
        ) from None
    halves = [
        (np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.asarray(part.targets, dtype=np.int64))
        for part in (train, test)
    ]
    return halves[0], halves[1], tuple(train.classes)


def _read_archive(name: str, archive: Path, cache: Path) -> Official:
    remote = SOURCES[name][0]
    if not download.matches(archive, remote.checksum):
        raise UserError(f"{archive} is incomplete or corrupt (its checksum differs): fetch {remote.url} again.")
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        return _read_batches(name, Path(folder))
