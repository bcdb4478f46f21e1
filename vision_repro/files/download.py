"""Files from the network: resumed, checked, and fetched by one process while others wait.

Called by `make data` and by the parent that prepares an experiment, never in a training process.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from vision_repro.config import UserError

Say = Callable[[str], None]

TIMEOUT = 30.0  # seconds without an answer before a connection is given up
ATTEMPTS = 4  # in a row that bring nothing
_PAUSE = 0.5  # seconds before the second attempt, doubled each time
_CHUNK = 1 << 20  # bytes
_TOLD = 10.0  # seconds between two lines of progress


@dataclass(frozen=True)
class Remote:
    """A file to fetch: its address, the name it gets here, its size [bytes] if known, and its MD5 or SHA-256 (hex).

    `folder` is where it belongs, below the root of the data sets. An archive is unpacked there, if `gives` names what
    that brings (and if it is there already, nothing is fetched).
    """

    url: str
    file: str
    bytes: int | None
    checksum: str
    folder: str = "."
    gives: str = ""


class _RefusedError(Exception):
    """The server will not give the file, however often it is asked."""


def matches(path: Path, checksum: str) -> bool:
    """Returns whether a file is there with this MD5 (32 hex digits) or SHA-256 (64)."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, _kind(checksum)).hexdigest() == checksum


def _kind(checksum: str) -> str:
    return {32: "md5", 64: "sha256"}[len(checksum)]


def megabytes(size: int | None) -> str:
    """Returns a size [bytes] as people read it, with "of" before it."""
    if size is None:
        return "of unknown size"
    return f"of {size / 1e6:,.1f} MB" if size < 1e8 else f"of {size / 1e6:,.0f} MB"


def size_of(remote: Remote, timeout: float = TIMEOUT) -> int | None:
    """Returns the size of a remote file [bytes], as known or as the server tells; None if it does not."""
    if remote.bytes is not None:
        return remote.bytes
    try:
        with _open(urllib.request.Request(remote.url, method="HEAD"), timeout) as answer:
            return int(answer.headers["Content-Length"])
    except (OSError, http.client.HTTPException, ValueError, TypeError):
        return None


def fetch(remote: Remote, folder: Path, say: Say, *, timeout: float = TIMEOUT, pause: float = _PAUSE) -> Path:
    """Returns the file in `folder`, whole and checked, fetched unless it is there already.

    What an interrupted download left (`<file>.part`) is continued. Processes that ask at once wait for one of them.

    Raises:
        UserError: if it cannot be had, naming the address and where to put a file that was fetched by other means.
    """
    path = folder / remote.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{remote.file}.lock"):
            if matches(path, remote.checksum):
                return path
            if path.exists():
                say(f"{path} is not what {remote.url} has (its checksum differs): fetching it again")
            part = path.with_name(f"{remote.file}.part")
            _complete(remote, part, say, timeout, pause)
            return part.replace(path)
    except (OSError, http.client.HTTPException, _RefusedError) as error:
        raise _unavailable(remote, path, error) from None


def _complete(remote: Remote, part: Path, say: Say, timeout: float, pause: float) -> None:
    """Fills `part` until its checksum is right; one wrong checksum is forgiven, and the file fetched anew."""
    for _ in range(2):
        _fill(remote, part, say, timeout, pause)
        if matches(part, remote.checksum):
            return
        part.unlink()
        say(f"{remote.file} arrived with a wrong checksum and is thrown away")
    raise _RefusedError(f"what arrives has not the {_kind(remote.checksum)} {remote.checksum}")


def _fill(remote: Remote, part: Path, say: Say, timeout: float, pause: float) -> None:
    """Appends to `part` until the server has sent all; gives up after attempts in a row that bring nothing."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _continue(remote, part, before, say, timeout):
                return
            error: Exception = ConnectionError("the connection broke off")
        except (OSError, http.client.HTTPException) as caught:
            if isinstance(caught, OSError) and caught.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                raise
            error = caught
        failures = 0 if part.exists() and part.stat().st_size > before else failures + 1
        if failures == ATTEMPTS:
            raise error
        say(f"{remote.file}: {error}; trying again")
        time.sleep(pause * 2**failures)


def _continue(remote: Remote, part: Path, have: int, say: Say, timeout: float) -> bool:
    """Asks for what is missing and appends it; returns whether that was all of the rest."""
    request = urllib.request.Request(remote.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = _open(request, timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # nothing lies beyond what we have: it is all of the file, or more than that
                if not _is_all(error, have):
                    part.unlink()
                return part.exists()
            if error.code < 500 and error.code not in (408, 425, 429):
                raise _RefusedError(f"HTTP {error.code} {error.reason}") from None
            raise
    with answer:
        resumed = getattr(answer, "status", None) == 206 and _starts_at(answer, have)
        length = answer.headers["Content-Length"]
        rest = int(length) if length and length.isdigit() else None
        _check_space(part.parent, rest)
        return _append(answer, part, "ab" if resumed else "wb", have if resumed else 0, rest, say)


def _open(request: urllib.request.Request, timeout: float) -> Any:
    return urllib.request.urlopen(request, timeout=timeout)


def _is_all(error: urllib.error.HTTPError, have: int) -> bool:
    return str(error.headers["Content-Range"]).endswith(f"/{have}")


def _starts_at(answer: Any, have: int) -> bool:
    return str(answer.headers["Content-Range"]).startswith(f"bytes {have}-")


def _append(answer: Any, part: Path, mode: str, have: int, rest: int | None, say: Say) -> bool:
    """Copies an answer of `rest` bytes to the end of the file, told now and then; returns whether all of it came."""
    total, told, count = None if rest is None else have + rest, time.monotonic(), 0
    with part.open(mode) as file:
        while chunk := answer.read1(_CHUNK):
            file.write(chunk)
            count += len(chunk)
            if time.monotonic() - told > _TOLD:
                told = time.monotonic()
                say(f"{part.stem}: {(have + count) / 1e6:,.0f} MB {megabytes(total)}")
    return rest is None or count == rest


def _check_space(folder: Path, needed: int | None) -> None:
    if needed is not None and shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, f"{needed / 1e6:,.0f} MB do not fit on the disk of {folder}")


def _unavailable(remote: Remote, path: Path, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"{remote.file} needs more disk space: {error.strerror}; free some, or set --data_root.")
    reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
    return UserError(
        f"{remote.url} could not be fetched ({reason}): start again, which continues where it stopped, or get "
        f"{remote.file} ({megabytes(remote.bytes)}, its {_kind(remote.checksum)} {remote.checksum}) another way and "
        f"put it into {path.parent}."
    )
