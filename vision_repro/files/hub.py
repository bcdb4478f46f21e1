"""Data sets from the Hugging Face hub: fetched by the datasets library, then read without it and without network.

`fetch` lets the library build its Arrow files in its own cache ($HF_HOME), and notes under our cache where they lie.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vision_repro.config import UserError
from vision_repro.files.download import megabytes
from vision_repro.store.atomic import write_atomic

_SPLITS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val", "test": "test"}


def _note(source: str, cache: Path) -> Path:
    return cache / "hub" / f"{re.sub('[^A-Za-z0-9._@-]', '--', source)}.json"


def fetched(name: str, source: str, cache: Path) -> dict[str, list[Path]]:
    """Returns the Arrow files of each split of a data set that `fetch` has brought.

    Raises:
        UserError: if it was not fetched, or its files are gone.
    """
    try:
        noted = json.loads(_note(source, cache).read_text())
        files = {str(split): [Path(file) for file in paths] for split, paths in noted.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        files = {}
    gone = next((file for paths in files.values() for file in paths if not file.is_file()), None)
    if gone is not None or "train" not in files:
        why = f"{gone} is gone" if gone else "it is in no folder of the data root and was not fetched"
        raise UserError(f"{name}: {why}; `make data DATA={name}` fetches {source} from the Hugging Face hub.")
    return files


def fetch(name: str, source: str, cache: Path, say: Callable[[str], None]) -> None:
    """Fetches a data set `owner/name` or `owner/name@config` and notes where its files lie.

    Raises:
        UserError: if the library is missing, or the data set cannot be had, or has no training split.
    """
    try:
        import datasets
    except ImportError:
        raise UserError(f"{name} comes by the datasets library: install it, or bring parquet files.") from None
    path, _, config = source.partition("@")
    try:
        builder = datasets.load_dataset_builder(path, config or None)
        say(f"{name}: {builder.cache_dir} will hold it, a download {megabytes(builder.info.download_size)}")
        builder.download_and_prepare()
        splits = builder.as_dataset()
    except Exception as error:  # the library's own, those of three HTTP libraries, and of what reads the files
        raise _refusal(name, path, error) from None
    files: dict[str, list[str]] = {}
    for split, part in splits.items():
        if str(split) in _SPLITS:
            files[_SPLITS[str(split)]] = [entry["filename"] for entry in part.cache_files]
    if "train" not in files:
        raise UserError(f"{name} has the splits {', '.join(map(str, splits))}: expected one named train.")
    write_atomic(_note(source, cache), json.dumps(files, indent=1))


def _refusal(name: str, path: str, error: Exception) -> UserError:
    text = (str(error).splitlines() or [type(error).__name__])[0]
    if "script" in text.lower():
        return UserError(f"{name} needs a script to load, and no such program is run here: bring it as parquet.")
    kind: Any = type(error).__name__
    return UserError(
        f"{name} could not be fetched ({kind}: {text}): check the name and the network, or put its parquet files into "
        f"{path}/ below --data_root."
    )
