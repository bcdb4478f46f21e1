"""Without file locks: of many processes one holds a folder, and a dead holder's folder becomes free."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vision_repro.store import lease
from vision_repro.store.lease import Lease
from vision_repro.store.lock import Lock


def forked(work: Callable[[], bool]) -> int:
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = int(work())
        finally:
            os._exit(code)
    return child


def code_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def aged(folder: Path, seconds: float) -> None:
    """Makes the newest lease look as if it had not been touched for a while."""
    file = max(folder.glob(".lease-*"))
    then = time.time() - seconds
    os.utime(file, (then, then))


def test_a_lease_is_one_process_s_until_it_is_given_back(tmp_path: Path) -> None:
    first, second = Lease(tmp_path), Lease(tmp_path)
    assert first.acquire()
    assert not second.acquire()
    aged(tmp_path, lease.STALE - 5)
    assert not second.acquire()
    first.release()
    assert second.acquire()
    assert not first.acquire()
    second.release()


def test_a_lease_that_nobody_touches_is_free(tmp_path: Path) -> None:
    child = forked(lambda: Lease(tmp_path).acquire())
    assert code_of(child) == 1  # it held the lease, and ended without a word
    assert not Lease(tmp_path).acquire()
    aged(tmp_path, lease.STALE + 5)
    found = Lease(tmp_path)
    assert found.acquire()
    found.release()


def test_the_holder_s_keeper_touches_it_and_ends_with_the_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.05)
    held = Lease(tmp_path)
    assert held.acquire()
    aged(tmp_path, lease.STALE + 5)
    time.sleep(0.3)
    assert not Lease(tmp_path).acquire()
    keeper = held._keeper
    os.kill(keeper, signal.SIGTERM)  # a job's signals reach it too
    time.sleep(0.1)
    os.kill(keeper, 0)
    held.release()
    with pytest.raises(ProcessLookupError):
        os.kill(keeper, 0)


def test_of_many_that_want_a_stale_lease_one_gets_it(tmp_path: Path) -> None:
    code_of(forked(lambda: Lease(tmp_path).acquire()))
    for _ in range(10):
        aged(tmp_path, lease.STALE + 5)
        go = time.monotonic() + 0.02

        def take(go: float = go) -> bool:
            while time.monotonic() < go:
                pass
            return Lease(tmp_path).acquire()

        children = [forked(take) for _ in range(8)]
        assert sorted(map(code_of, children)) == [0] * 7 + [1]


def test_a_lock_is_a_lease_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*given: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    first, second = Lock(tmp_path / "run"), Lock(tmp_path / "run")
    assert first.acquire()
    assert not second.acquire()
    second.release()
    assert not Lock(tmp_path / "run").acquire()
    first.release()
    assert second.acquire()
    second.release()
    with Lock(tmp_path / "run"):
        pass  # what is short waits for nobody: a dead writer must not hold up the table
