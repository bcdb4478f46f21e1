"""Encoded images in the rows of tables: Arrow files mapped into memory, and parquet files turned into them once.

An Arrow file is read in place, row by row, its pages shared by all processes. Parquet must be decompressed block by
block, so that single images cannot be drawn from it quickly: the first reading writes it to an Arrow file under the
cache, which is as large as its images.
N: images of a split.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from vision_repro.config import UserError
from vision_repro.files.listing import Indices

_BATCH = 256  # rows of a parquet file that are in memory at a time


@dataclass(frozen=True)
class Rows:
    """Images in the column `image` of Arrow files: row numbers over all files int64 `[N]`; an `Encoded`.

    `starts` are the first row numbers of the files, and of a file after the last; `origins` what errors call them.
    """

    files: tuple[Path, ...]
    origins: tuple[str, ...]
    starts: Indices
    image: str
    rows: Indices
    labels: Indices

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> bytes:
        """Returns the content of an image file.

        Raises:
            OSError: if it cannot be read.
        """
        file, row = self._place(index)
        cell = _column(self.files[file], self.image)[row].as_py()
        if isinstance(cell, dict):
            if cell.get("bytes") is None and cell.get("path"):  # the datasets library leaves local files where they are
                return Path(cell["path"]).read_bytes()
            cell = cell.get("bytes")
        return cell or b""

    def name(self, index: int) -> str:
        """Returns the name that the image file had before it was put into the table; empty if it is not told."""
        file, row = self._place(index)
        column = _column(self.files[file], self.image)
        if column.type.num_fields == 0 or column.type.get_field_index("path") < 0:
            return ""
        return str(column[row]["path"].as_py() or "")

    def source(self, index: int) -> str:
        """Returns the table and the row of an image, for messages."""
        file, row = self._place(index)
        return f"{self.origins[file]}, row {row}"

    def select(self, indices: Indices) -> Rows:
        """Returns the rows at `indices`."""
        return Rows(self.files, self.origins, self.starts, self.image, self.rows[indices], self.labels[indices])

    def _place(self, index: int) -> tuple[int, int]:
        row = int(self.rows[index])
        file = int(np.searchsorted(self.starts, row, side="right")) - 1
        return file, row - int(self.starts[file])


@lru_cache(maxsize=4096)
def _column(file: Path, name: str) -> Any:
    """Returns a column of a mapped Arrow file; opened once a process."""
    return open_arrow(file).column(name)


def open_arrow(file: Path) -> Any:
    """Returns the table in an Arrow file, or in an Arrow stream as the datasets library writes it, mapped into memory.

    Raises:
        OSError: if the file is missing or broken.
    """
    # Imported here for start-up time: pyarrow takes long to import.
    import pyarrow as pa

    mapped = pa.memory_map(str(file))
    try:
        try:
            return pa.ipc.open_file(mapped).read_all()
        except pa.ArrowInvalid:
            mapped.seek(0)
            return pa.ipc.open_stream(mapped).read_all()
    except pa.ArrowException as error:
        raise OSError(0, str(error).splitlines()[0]) from None


@dataclass(frozen=True)
class Tables:
    """The tables of one split, opened: Arrow files, what errors call them, and facts for the checksum of the data."""

    files: tuple[Path, ...]
    origins: tuple[str, ...]
    facts: tuple[object, ...]

    @property
    def schema(self) -> Any:
        """The Arrow schema of the first file."""
        return open_arrow(self.files[0]).schema

    def column(self, name: str) -> Any:
        """Returns a column over all files, as Arrow's chunked array."""
        # Imported here for start-up time: pyarrow takes long to import.
        import pyarrow as pa

        parts = [open_arrow(file).column(name) for file in self.files]
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)

    def rows(self, image: str, labels: npt.NDArray[np.int64]) -> Rows:
        """Returns all rows, with their class numbers int64 [N]."""
        lengths = [open_arrow(file).num_rows for file in self.files]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Rows(self.files, self.origins, starts, image, np.arange(len(labels), dtype=np.int64), labels)


def open_tables(paths: Sequence[Path], cache: Path) -> Tables:
    """Returns tables in parquet or Arrow files, the former by way of Arrow files under `cache`.

    Raises:
        UserError: naming a file that is broken, or the disk that is full.
    """
    files, facts = [], []
    for path in paths:
        try:
            if path.suffix == ".parquet":
                file, key = _converted(path, cache)
            else:
                file, key = path, str(open_arrow(path).num_rows)
        except OSError as error:
            reason = error.strerror or (str(error).splitlines() or [""])[0]
            raise UserError(f"{path} cannot be read ({reason}): fetch it again.") from None
        files.append(file)
        facts.append((path.name, path.stat().st_size, key))
    return Tables(tuple(files), tuple(str(path) for path in paths), tuple(facts))


# --- parquet ---


def _converted(path: Path, cache: Path) -> tuple[Path, str]:
    """Returns the Arrow file of a parquet file, written first if it is missing, and the digest of its footer."""
    key = _footer(path)
    file = cache / "arrow" / f"{path.stem}-{key[:16]}.arrow"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            if not file.is_file():
                _convert(path, file)
    return file, key


def _footer(path: Path) -> str:
    """Returns a digest of a parquet file's size and footer, which tells its columns, blocks and their statistics."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1" or length + 12 > size:
            raise UserError(f"{path} is no whole parquet file: fetch it again.")
        file.seek(size - 8 - length)
        return hashlib.sha256(size.to_bytes(8, "little") + file.read(length)).hexdigest()


def _convert(path: Path, file: Path) -> None:
    # Imported here for start-up time: pyarrow takes long to import.
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    if shutil.disk_usage(file.parent).free < path.stat().st_size:
        raise UserError(
            f"{path} does not fit once more on the disk of {file.parent}: free some space or set the cache."
        )
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with (
            ParquetFile(path) as parquet,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, parquet.schema_arrow) as writer,
        ):
            for batch in parquet.iter_batches(batch_size=_BATCH, use_threads=False):
                writer.write_batch(batch)
        temporary.replace(file)
    except pa.ArrowException as error:
        raise UserError(f"{path} cannot be read as parquet ({str(error).splitlines()[0]}): fetch it again.") from None
    finally:
        temporary.unlink(missing_ok=True)
