"""The checkpoint that a stopped run continues from: its name carries its seal, so that both are written in one step."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

from vision_repro.store.atomic import disk_error
from vision_repro.store.seals import file_digest

_NAME = re.compile(r"last-([0-9a-f]{16})\.ckpt")


def save(folder: Path, write: Callable[[Path], object], *, first: bool = True) -> None:
    """Replaces the checkpoint of a run; on several ranks all must call it, and the `first` one moves the file.

    Args:
        folder: the run's folder.
        write: writes the checkpoint to a path.
        first: whether this process is the first rank.

    Raises:
        UserError: if it cannot be written.
    """
    partial = folder / "last.partial"
    try:
        write(partial)
        if first:
            older = list(_all(folder))
            target = folder / f"last-{file_digest(partial)[:16]}.ckpt"
            partial.replace(target)
            for file in older:
                if file != target:
                    file.unlink(missing_ok=True)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise disk_error(folder / "last.ckpt", error) from None


def find(folder: Path, *, tells: bool = True) -> Path | None:
    """Returns the newest checkpoint whose content is what its name says, or None.

    A damaged one is passed over, and the process that `tells` says so: it costs progress, and changes no number.
    """
    for file in sorted(_all(folder), key=lambda file: file.stat().st_mtime, reverse=True):
        match = _NAME.fullmatch(file.name)
        if match and file_digest(file).startswith(match[1]):
            return file
        if tells:
            print(f'"{file}" is damaged and is not used; this run starts again from step 0.', file=sys.stderr)
    return None


def remove(folder: Path) -> None:
    """Removes all checkpoints of a run that is done."""
    for file in (*_all(folder), folder / "last.partial"):
        file.unlink(missing_ok=True)


def _all(folder: Path) -> list[Path]:
    return [file for file in folder.glob("last-*.ckpt") if _NAME.fullmatch(file.name)]
