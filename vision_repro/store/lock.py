"""A lock on a folder, held by one process at a time."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path
from types import TracebackType
from typing import IO

from vision_repro.store.atomic import disk_error
from vision_repro.store.lease import Lease

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
