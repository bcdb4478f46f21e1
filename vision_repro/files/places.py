"""Where data sets lie: in the user's `data_root`, or where `make data` has put them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vision_repro.config import UserError


def cache_folder() -> Path:
    """Returns the folder for decoded and downloaded data sets: `$VISION_REPRO_CACHE`, else `~/.cache/vision_repro`."""
    return Path(os.environ.get("VISION_REPRO_CACHE", "~/.cache/vision_repro")).expanduser()


def fetched(cache: Path) -> Path:
    """Returns the folder under `cache` in which `make data` puts data sets when there is no `data_root`."""
    return cache / "data"


def home(data_root: Path | None, cache: Path) -> Path:
    """Returns the folder in which `make data` puts a data set: `data_root` if there is one that may be written to."""
    return data_root if data_root is not None and os.access(data_root, os.W_OK) else fetched(cache)


def find(
    name: str, folders: Sequence[str], mark: str, data_root: Path | None, cache: Path | None, advice: str = ""
) -> Path:
    """Returns the first of `folders` that holds `mark`, below `data_root` or else below what `make data` has put there.

    `cache` None looks into `data_root` alone; `advice` ends the error.

    Raises:
        UserError: if there is none.
    """
    roots = [root for root in (data_root, None if cache is None else fetched(cache)) if root is not None]
    for root in roots:
        for folder in folders:
            if (root / folder / mark).exists():
                return root / folder
    if data_root is None:
        where = os.path.normpath(f"{folders[0]}/{mark}")
        raise UserError(f"{name} needs --data_root (or VISION_REPRO_DATA): the folder that holds {where}{advice}.")
    known = ", ".join(str(data_root / folder / mark) for folder in folders)
    raise UserError(f"{name} is not in --data_root={data_root}: expected {known}{advice}.")


def fetchable(name: str) -> str:
    """Returns the advice for a data set that `make data` can bring."""
    return f"; `make data DATA={name}` fetches it"
