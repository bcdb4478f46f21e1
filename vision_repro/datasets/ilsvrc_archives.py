"""Unpacks the archives of ILSVRC 2012: a tar of a thousand tars, one a class, and a tar of validation images.

Each archive is read once, from beginning to end, and its MD5 is taken on the way. Folders appear when they are whole;
what an interrupted unpacking has finished (whole classes) is kept for the next.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from filelock import FileLock

from vision_repro.config import UserError
from vision_repro.datasets.ilsvrc import KIT
from vision_repro.files import archives
from vision_repro.files.download import Say

# MD5 as torchvision 0.29 knows them; train is 138 GB, val 6.3 GB
ARCHIVES = {
    "train": ("ILSVRC2012_img_train.tar", "1d675b47d978889d74fa0da5fadfb00e"),
    "val": ("ILSVRC2012_img_val.tar", "29b22e2961454d5413ddabcf34fc5622"),
}
_CLASS = re.compile(r"(n\d{8})\.tar")
_CHUNK = 1 << 20  # bytes


class _Hashed(io.RawIOBase):
    """A file read from beginning to end, whose MD5 is taken on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.md5(usedforsecurity=False)

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.digest.update(data)
        return data


def unpack(root: Path, places: Sequence[Path], say: Say) -> None:
    """Unpacks what is missing of train/ and val/ in `root` from archives that lie there or in `places`.

    Raises:
        UserError: if an archive is missing, saying where to put which, or is broken.
    """
    found = {half: _find(name, [root, *places]) for half, (name, _) in ARCHIVES.items() if not (root / half).exists()}
    missing = [ARCHIVES[half][0] for half, path in found.items() if path is None]
    if missing:
        raise UserError(
            f"imagenet cannot be fetched without an account: get {' and '.join(missing)}, and {KIT}.tar.gz for the "
            f"labels of val, from image-net.org, put them into {root}, and start again."
        )
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".unpack.lock"):
        for half, path in found.items():
            if path is not None and not (root / half).exists():
                _unpack(path, half, root, say)


def _find(name: str, places: Sequence[Path]) -> Path | None:
    return next((place / name for place in places if (place / name).is_file()), None)


def _unpack(archive: Path, half: str, root: Path, say: Say) -> None:
    """Unpacks an archive into .<half>.tmp, which becomes <half> when the MD5 is right."""
    say(f"imagenet: unpacking {archive} into {root / half} and checking its MD5")
    temporary = root / f".{half}.tmp"
    temporary.mkdir(exist_ok=True)
    try:
        with archive.open("rb") as file:
            hashed = _Hashed(file)
            with tarfile.open(fileobj=hashed, mode="r|", bufsize=_CHUNK) as tar:
                _classes(tar, temporary, say) if half == "train" else tar.extractall(temporary, filter="data")
            while hashed.read(_CHUNK):
                pass
    except archives.BROKEN as error:
        raise UserError(f"{archive} cannot be unpacked ({error}): fetch it again.") from None
    if hashed.digest.hexdigest() != ARCHIVES[half][1]:
        shutil.rmtree(temporary)
        raise UserError(
            f"{archive} is not ImageNet's or is damaged (its MD5 is not {ARCHIVES[half][1]}): fetch it again."
        )
    temporary.rename(root / half)


def _classes(tar: tarfile.TarFile, folder: Path, say: Say) -> None:
    """Unpacks a tar of tars: each becomes a class folder when it is whole."""
    for done, member in enumerate(tar, 1):
        name = _CLASS.fullmatch(member.name)
        inner = tar.extractfile(member)
        if name is None or inner is None:
            raise tarfile.TarError(f'expected archives such as n01440764.tar, found "{member.name}"')
        if not (folder / name[1]).is_dir():
            _class(inner, folder / name[1])
        if done % 50 == 0:
            say(f"imagenet: {done} classes of train are unpacked")


def _class(file: IO[bytes], folder: Path) -> None:
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    with tarfile.open(fileobj=file, mode="r|") as tar:
        tar.extractall(temporary, filter="data")
    temporary.rename(folder)
