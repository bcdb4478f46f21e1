"""`make data DATA=<name>`: brings a data set to where it is looked for, whole and checked, and says what it does.

A data set file with `SOURCES[name]` is fetched by its list of remote files; one with `prepare(name, data_root, cache,
say)` brings its data in its own way. Both are done when `listing` or `load` finds them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from filelock import FileLock

from vision_repro import datasets
from vision_repro.config import UserError
from vision_repro.files import archives, download
from vision_repro.files.download import Remote, Say, megabytes
from vision_repro.files.listing import Listing
from vision_repro.files.places import home
from vision_repro.files.splits import Sizes


def fetch(name: str, data_root: Path | None, cache: Path, say: Say) -> None:
    """Brings a data set into `data_root`, or under `cache` if there is none; does nothing if it is there already.

    Raises:
        UserError: for an unknown name, and where a person has to bring the data, saying which file to put where.
    """
    module = datasets.data_set(name)
    datasets.check_root(data_root)
    can = hasattr(module, "prepare") or name in getattr(module, "SOURCES", {})
    if hasattr(module, "listing"):
        try:
            say(_found(name, datasets.listed(name, data_root, cache), module))
            return
        except UserError as error:
            if not can:
                raise
            say(f"{name} is not ready: {error}")
    bring: Callable[[str, Path | None, Path, Say], None] = getattr(module, "prepare", _bring)
    bring(name, data_root, cache, say)
    if hasattr(module, "listing"):
        say(_found(name, datasets.listed(name, data_root, cache), module))


def plan(name: str, data_root: Path | None, cache: Path) -> list[str]:
    """Returns a line for each of the remote files that are not there: its name, size, address and place.

    Raises:
        UserError: if the name is unknown, or nothing is known to fetch for it.
    """
    root = home(data_root, cache)
    return [
        f"{name}: {remote.file} {megabytes(download.size_of(remote))}, from {remote.url}, into {root / remote.folder}"
        for remote in _missing(_sources(name), root)
    ]


def _bring(name: str, data_root: Path | None, cache: Path, say: Say) -> None:
    """Fetches and unpacks the remote files of a data set that are missing; an archive goes when it is unpacked."""
    root, downloads = home(data_root, cache), cache / "downloads" / name
    for line in plan(name, data_root, cache):
        say(line)
    downloads.mkdir(parents=True, exist_ok=True)
    with FileLock(downloads / ".lock"):  # whoever else asks finds all of it there
        for remote in _missing(_sources(name), root):
            if remote.gives:
                _unpack(name, remote, root, downloads, say)
            else:
                download.fetch(remote, root / remote.folder, say)


def _unpack(name: str, remote: Remote, root: Path, downloads: Path, say: Say) -> None:
    folder = root / remote.folder
    local = _local(remote, (folder, root))
    archive = local or download.fetch(remote, downloads, say)
    say(f"{name}: unpacking {archive} into {folder}")
    archives.extract(archive, folder)
    if local is None:
        archive.unlink()


def _missing(remotes: tuple[Remote, ...], root: Path) -> list[Remote]:
    return [remote for remote in remotes if not _is_there(remote, root / remote.folder)]


def _is_there(remote: Remote, folder: Path) -> bool:
    """Returns whether an archive's content, or a file itself and not another, is in its place."""
    return (folder / remote.gives).exists() if remote.gives else download.matches(folder / remote.file, remote.checksum)


def _local(remote: Remote, folders: tuple[Path, ...]) -> Path | None:
    """Returns an archive that a person has put there, if it is whole."""
    paths = (folder / remote.file for folder in folders)
    return next((path for path in paths if download.matches(path, remote.checksum)), None)


def _sources(name: str) -> tuple[Remote, ...]:
    sources: dict[str, tuple[Remote, ...]] = getattr(datasets.data_set(name), "SOURCES", {})
    if name not in sources:
        raise UserError(f"{name} is in no place that it could be fetched from: bring it yourself.")
    return sources[name]


def _found(name: str, listing: Listing, module: ModuleType) -> str:
    counts = (len(listing.train), len(listing.val), len(listing.test))
    text = f"{name} is in {listing.source}: {counts[0]:,} training, {counts[1]:,} val and {counts[2]:,} test images"
    known: Sizes = getattr(module, "SIZES", {}).get(name, Sizes())
    whole = (known.train, known.val, known.test)
    if None not in whole and counts != whole:
        text += f"; that is not all of it, which has {known.train:,}, {known.val:,} and {known.test:,}"
    return text
