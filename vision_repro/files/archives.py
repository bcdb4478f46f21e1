"""Archives, unpacked safely and whole: nothing outside the folder, nothing half-written."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from vision_repro.config import UserError

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
# what reading a cut or damaged archive raises
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)


def is_archive(name: str) -> bool:
    """Returns whether a file of this name is an archive that `extract` knows."""
    return name.lower().endswith(SUFFIXES)


def extract(archive: Path, folder: Path) -> list[Path]:
    """Unpacks an archive into `folder` and returns what it put there: the entries at the archive's top level.

    All is unpacked beside its place first, then moved in, entry by entry. Nothing that stands there is touched.

    Raises:
        UserError: if the archive is broken, a member would land outside the folder, or something is in the way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{archive.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        _unpack(archive, temporary)
        return [_move(entry, folder / entry.name) for entry in sorted(temporary.iterdir())]
    except (*BROKEN, RuntimeError) as error:  # zipfile's for members with a password or an odd compression
        raise UserError(f"{archive} cannot be unpacked ({error}): fetch it again.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack(archive: Path, folder: Path) -> None:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            for member in zipped.infolist():
                _check_member(member)
            zipped.extractall(folder)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")


def _check_member(member: zipfile.ZipInfo) -> None:
    """Refuses what tar's data filter refuses: absolute names, ways out of the folder, links."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    link = stat.S_ISLNK(member.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]) or link:
        raise zipfile.BadZipFile(f'the member "{member.filename}" would not stay inside')


def _move(entry: Path, place: Path) -> Path:
    if os.path.lexists(place):
        raise UserError(f"{place} is in the way of what is unpacked: move it away and start again.")
    return entry.rename(place)
