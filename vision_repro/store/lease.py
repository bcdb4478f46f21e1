"""Leases: locks of folders for file systems without file locks. The holder touches a file at regular intervals.

Some network file systems have no locks. There a lease prevents two machines from doing the same run at the same time.
If both do it nevertheless (after a machine was suspended for minutes), their results are equal and each file is written
atomically.

Leases are numbered files that are never removed, so that only one of two processes can create the next number, and
later processes see the higher number. Times are compared with a new file on the same disk, not with the clock of this
machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import signal
import sys
import time
from pathlib import Path

BEAT = 10.0
"""Time between two touches of a lease that is held [s]."""
STALE = 150.0
"""Time without a touch after which a lease is free, because its holder is down [s]. Network disks can report times a
minute late."""


class Lease:
    """The lease of a folder: `acquire` takes it if it is free, and a small child process keeps it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: Path | None = None
        self._keeper = 0

    def acquire(self) -> bool:
        """Takes the lease; returns False if another process holds it.

        Raises:
            OSError: if the folder cannot be written.
        """
        number = self._last()
        if number and not self._free(self._name(number)):
            return False
        file = self._name(number + 1)
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            return False
        self._file, self._keeper = file, _keep(file)
        return True

    def release(self) -> None:
        """Releases the lease, if it is held, by setting the time of its file to 0."""
        if self._file is None:
            return
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._keeper, signal.SIGKILL)
            os.waitpid(self._keeper, 0)
        with contextlib.suppress(OSError):
            os.utime(self._file, (0, 0))
        self._file, self._keeper = None, 0

    def _name(self, number: int) -> Path:
        return self.folder / f".lease-{number:06}"

    def _last(self) -> int:
        found = (re.fullmatch(r"\.lease-(\d+)", name) for name in os.listdir(self.folder))
        return max((int(match[1]) for match in found if match), default=0)

    def _free(self, file: Path) -> bool:
        probe = self.folder / f".now.{platform.node()}.{os.getpid()}"
        try:
            probe.write_bytes(b"")
            with file.open("rb") as held:  # opening the file makes a network file system refresh its time
                return probe.stat().st_mtime - os.fstat(held.fileno()).st_mtime > STALE
        finally:
            probe.unlink(missing_ok=True)


def _keep(file: Path) -> int:
    """Starts a child process that touches a file until it is killed or its parent ends; returns its process id.

    It is a process and not a thread, because the parent forks workers.
    """
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        while os.getppid() == parent:
            time.sleep(BEAT)
            os.utime(file)
    finally:
        os._exit(0)
