"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
from pathlib import Path

from vision_repro.config import UserError


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
