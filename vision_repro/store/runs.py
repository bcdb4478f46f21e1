"""Run folders and the table: what was measured, written once and atomically.

A run folder holds `config.yaml`, `provenance.json`, `metrics.csv` (the learning curve), `weights.ckpt` (the tested
weights) and last of all `result.json`: a run whose `result.json` stands is done.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import io
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import yaml

from vision_repro.config import RunConfig, UserError, plain, run_id
from vision_repro.store.lease import Lease

TABLE_NAME = "table.csv"
PICTURES = "pictures.npz"


class DiskFullError(UserError):
    """No space is left where results are written; no further run can finish."""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all: a reader, or a killed writer, never leaves half of it.

    Raises:
        DiskFullError: if the disk is full.
        UserError: if the folder cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    # The machine's name too: on a network file system two machines may write at once.
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise disk_error(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def disk_error(path: Path, error: OSError) -> UserError:
    """Returns the sentence for a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f'The disk of "{path.parent}" is full: free some space, or set --out, and start again.')
    return UserError(f'"{path}" cannot be written ({error.strerror}): expected a folder you may write to; set --out.')


class RunFolder:
    """The folder of one run under `root`, named by the run's id."""

    def __init__(self, root: Path, config: RunConfig) -> None:
        self.config = config
        self.id = run_id(config)
        self.path = root / self.id

    def open(self) -> None:
        """Makes the folder and its `config.yaml`, or checks the one that stands.

        Raises:
            UserError: if the folder belongs to another config, or cannot be written.
        """
        file = self.path / "config.yaml"
        if not file.exists():
            write_atomic(file, yaml.safe_dump(plain(self.config), sort_keys=False))
            return
        try:
            found = yaml.safe_load(file.read_text())
        except (yaml.YAMLError, UnicodeDecodeError):
            found = None
        if found != plain(self.config):
            raise UserError(f'"{file}" is not the config of run {self.id}: move that folder away or set another --out.')

    def result(self) -> dict[str, Any] | None:
        """Returns the result of a finished run, `None` for any other.

        Raises:
            UserError: if the file that stands is not this run's result.
        """
        file = self.path / "result.json"
        try:
            found = json.loads(file.read_text())
            if found["run"] == self.id and isinstance(found["metrics"], dict):
                return dict(found)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            pass
        raise UserError(f'"{file}" is not the result of run {self.id}: remove that folder and start again.')

    def finish(self, status: str, metrics: Mapping[str, tuple[float | None, str]], facts: Mapping[str, Any]) -> None:
        """Writes `result.json`: status (`ok`, `diverged`), metric -> (value, unit), facts that trace the numbers."""
        rows = {name: {"value": value, "unit": unit} for name, (value, unit) in metrics.items()}
        result = {"run": self.id, "status": status, **facts, "metrics": rows}
        write_atomic(self.path / "result.json", json.dumps(result, indent=1) + "\n")


_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class Lock:
    """An advisory lock on a folder that the system releases when its holder ends, however it ends.

    On a file system without locks, whoever waits for it has it at once, and who does not wait gets a lease (`lease`):
    what is written under it must be right without it too.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"
        self._file: IO[str] | None = None
        self._lease: Lease | None = None

    def acquire(self, *, wait: bool = False) -> bool:
        """Takes the lock; returns False if another process holds it and `wait` is False."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w")
        except OSError as error:
            raise disk_error(self.path, error) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            self.release()
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise disk_error(self.path, error) from None
            if not wait:
                self._lease = Lease(self.path.parent)
                if not self._lease.acquire():
                    self.release()
                    return False
        return True

    def release(self) -> None:
        """Gives the lock back."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Lock:
        self.acquire(wait=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@dataclass(frozen=True)
class TableSpec:
    """What heads a table: the experiment, its preset and the config fields that make a setting."""

    experiment: str
    preset: str
    settings: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return ("experiment", "preset", "run", *self.settings, "seed", "status", "metric", "value", "unit")


def table_csv(spec: TableSpec, folders: Iterable[RunFolder]) -> str:
    """Returns the tidy table of all finished runs as CSV, one measured number a row; a missing value is `nan`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(spec.columns)
    for folder in folders:
        result = folder.result()
        if result is None:
            continue
        config = plain(folder.config)
        head = [spec.experiment, spec.preset, folder.id, *(config[name] for name in spec.settings), config["seed"]]
        for name, cell in result["metrics"].items():
            value = "nan" if cell["value"] is None else repr(float(cell["value"]))
            writer.writerow([*head, result["status"], name, value, cell["unit"]])
    return text.getvalue()


def write_table(path: Path, spec: TableSpec, folders: Iterable[RunFolder]) -> None:
    """Writes the table, again until it is that of the folders.

    Two processes that finish runs at once may each write a table without the other's row where there are no locks; the
    one that writes last reads once more, so that the row is lost in neither.
    """
    chosen = list(folders)
    text = ""
    while (found := table_csv(spec, chosen)) != text:
        text = found
        write_atomic(path, text)


def curve_csv(rows: Sequence[Mapping[str, float | int]]) -> str:
    """Returns a learning curve as CSV, one validation a row."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()
