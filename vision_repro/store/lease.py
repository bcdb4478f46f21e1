"""Who holds a folder, on a file system without locks: a file that its holder touches again and again.

Some network file systems have no locks. There a lease keeps two machines from doing one run at the same time; should
both do it after all (a machine that slept for minutes), their results are equal and each file is written whole.

Leases are numbered files that are never removed, so that of two who want the next number only one makes it: whoever
looks later sees the higher number. Times are compared with a file made on the same disk, not with this machine's clock.
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
"""After so long without a touch a lease is free: its holder is down [s]. Network disks tell times a minute late."""


class Lease:
    """A folder's lease, which `acquire` takes where it is free, and a small child process keeps."""

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
        """Gives the lease back, if it is held: its time is set to that of no touch."""
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
            with file.open("rb") as held:  # opening makes a network file system ask for the time anew
                return probe.stat().st_mtime - os.fstat(held.fileno()).st_mtime > STALE
        finally:
            probe.unlink(missing_ok=True)


def _keep(file: Path) -> int:
    """Returns the id of a child that touches a file until it is killed or its parent ends.

    A process and not a thread, as its parent forks workers.
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
