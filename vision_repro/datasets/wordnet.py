"""The classes of ImageNet: WordNet ids ("n01440764") in the order of the class numbers, and readable names.

Read from the tables that come with timm, as text, without importing it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from vision_repro.config import UserError, nearest


def table(file: str) -> Path:
    """Returns the path of one of timm's tables.

    Raises:
        UserError: if the installed timm has no such table.
    """
    try:
        path = Path(str(distribution("timm").locate_file(f"timm/data/_info/{file}")))
    except PackageNotFoundError:
        path = Path(file)
    if not path.is_file():
        raise UserError(f"timm's table {file} is missing: run `make setup`, which installs the version that has it.")
    return path


@cache
def imagenet_1k() -> tuple[str, ...]:
    """Returns the 1,000 WordNet ids of ILSVRC 2012, sorted, which is the order of its class numbers 0 .. 999."""
    return tuple(table("imagenet_synsets.txt").read_text().split())


@cache
def _names() -> Mapping[str, str]:
    lines = table("imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


def readable(ids: Iterable[str]) -> tuple[str, ...]:
    """Returns the names of WordNet ids ("tench, Tinca tinca"); an id without a name stays as it is."""
    return tuple(_names().get(word, word) for word in ids)


def numbers(folders: Iterable[str], ids: tuple[str, ...], source: object) -> dict[str, int]:
    """Returns the class number of each folder: its place in `ids`.

    Raises:
        UserError: naming a folder that is none of them.
    """
    known = {word: number for number, word in enumerate(ids)}
    for folder in folders:
        if folder not in known:
            raise UserError(
                f'{source} has the class folder "{folder}", which is none of the {len(ids)} WordNet ids expected '
                f"(such as {ids[0]}).{nearest(folder, ids)}"
            )
    return known
