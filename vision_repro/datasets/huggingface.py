"""Any image data set in Hugging Face's format: `hf:<source>[:<image column>[:<label column>]]`.

<source> is a folder of parquet or Arrow files (below the data root, or any other path), or the name of a data set on
the hub, `owner/name` or `owner/name@config`, which `make data DATA=hf:owner/name` fetches. A column left out (as in
`hf:cifar100::fine_label`) is found by its type and name. Images stay encoded in the tables.

Splits, by the words in file or folder names: train; val from validation/valid/val/dev; test from test/testing/eval.
A test split without labels is left out. One of the other two is the test split, and what is missing is dealt from train
as for class folders: 1 %, class-balanced, a function of the labels alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vision_repro.config import UserError, nearest
from vision_repro.files import hub
from vision_repro.files.listing import Indices, Inventory, Listing, complete
from vision_repro.files.rows import Rows, Tables, open_tables
from vision_repro.files.splits import check_labels

PATTERN = re.compile(r"hf:(?P<source>[^:]+)(?::(?P<image>[^:]*))?(?::(?P<label>[^:]*))?")
EXAMPLES = ("hf:cifar10", "hf:timm/oxford-iiit-pet", "hf:uoft-cs/cifar100:img:fine_label")

_WORDS = {
    "train": ("train", "training"),
    "val": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_IMAGES = ("image", "img", "picture", "jpg", "png")
_LABELS = ("label", "labels", "fine_label", "class", "target", "cls")


def listing(name: str, data_root: Path | None, cache: Path) -> Listing:
    """Returns the splits of a data set in tables.

    Raises:
        UserError: if it is not there, is no image classification data, or a table is broken.
    """
    source, image, label = _parse(name)
    files, origin = _files(name, source, data_root, cache)
    tables = {split: open_tables(paths, cache) for split, paths in files.items()}
    schema = tables["train"].schema
    features = _features(schema)
    image = _pick(name, "image", image, schema, features, _IMAGES)
    label = _pick(name, "label", label, schema, features, _LABELS)
    for split, table in tables.items():
        if not {image, label} <= set(table.schema.names):
            raise UserError(
                f"{name}: its {split} tables have the columns {table.schema.names}, not {image} and {label}."
            )
    columns = {split: table.column(label) for split, table in tables.items()}
    names, numbers = _numbers(name, columns, features.get(label))
    rows = {split: table.rows(image, numbers[split]) for split, table in tables.items()}
    return _listing(origin, names, rows, tables)


def _listing(origin: object, names: Sequence[str], rows: dict[str, Rows], tables: Mapping[str, Tables]) -> Listing:
    if "test" in rows and len(rows["test"]) and (rows["test"].labels == -1).all():
        del rows["test"]  # a challenge keeps its labels to itself
    inventory = Inventory()
    for split, part in rows.items():
        if not len(part):
            raise UserError(f"{origin} has no rows in its {split} tables: fetch them again.")
        check_labels(part.labels, len(names), f"{origin}, {split},")
        inventory.note(split, part.image, tables[split].facts, part.labels.tolist())
    val, test = rows.get("val"), rows.get("test")
    if test is None:
        val, test = None, val
    return complete(names, rows["train"], val=val, test=test, checksum=inventory.checksum(), source=origin)


def _parse(name: str) -> tuple[str, str, str]:
    found = PATTERN.fullmatch(name)
    if found is None:
        raise UserError(f'"{name}" is no data set in tables: expected hf:<source>[:<image column>[:<label column>]].')
    return found["source"], found["image"] or "", found["label"] or ""


# --- files ---


def local_folder(source: str, data_root: Path | None) -> Path | None:
    """Returns the folder that a source names, below `data_root` or as a path of its own; None if it is a hub name."""
    folders = [data_root / source] if data_root else []
    if source.startswith(("/", ".", "~")):
        folders.append(Path(source).expanduser())
    return next((folder for folder in folders if folder.is_dir()), None)


def _files(name: str, source: str, data_root: Path | None, cache: Path) -> tuple[dict[str, list[Path]], object]:
    """Returns the tables of each split, and where they lie."""
    folder = local_folder(source, data_root)
    if folder is None:
        if source.startswith(("/", ".", "~")):
            raise UserError(f"{name}: there is no folder {Path(source).expanduser()}.")
        return hub.fetched(name, source, cache), source
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".parquet", ".arrow") and path.is_file())
    if not paths:
        script = next(folder.glob("*.py"), None)
        raise UserError(
            f"{script} is a script: data sets that run a program to load are not read; bring them as parquet files."
            if script
            else f"{folder} holds no tables: expected parquet or Arrow files, such as train-00000-of-00001.parquet."
        )
    files: dict[str, list[Path]] = {}
    for path in paths:
        files.setdefault(_split(path.relative_to(folder)), []).append(path)
    if "train" not in files:
        raise UserError(f'{folder} has no table with "train" in its name: found {paths[0].name} and the like.')
    return files, folder


def _split(path: Path) -> str:
    """Returns the split that a path names; one that names none is part of train."""
    words = [word for part in reversed(path.parts) for word in re.split("[^a-z]+", part.lower())]
    return next((split for word in words for split, known in _WORDS.items() if word in known), "train")


# --- columns ---


def _features(schema: Any) -> dict[str, Any]:
    """Returns Hugging Face's description of the columns, which it stores beside the table; empty if there is none."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {str(column): about for column, about in found.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _pick(name: str, kind: str, asked: str, schema: Any, features: Mapping[str, Any], usual: Sequence[str]) -> str:
    """Returns the column asked for, or else the only one of the right type, or else the one with a usual name."""
    columns = list(schema.names)
    if asked:
        if asked not in columns:
            raise UserError(
                f'{name} has no column "{asked}": expected one of {", ".join(columns)}.{nearest(asked, columns)}'
            )
        return asked
    typed = [column for column in columns if _is_typed(kind, schema.field(column).type, features.get(column))]
    named = [column for column in usual if column in (typed or columns)]
    if len(typed) == 1 or named:
        return typed[0] if len(typed) == 1 else named[0]
    raise UserError(
        f"{name} has the columns {', '.join(columns)}: say which hold images and labels, "
        "as in hf:<source>:<image column>:<label column>."
    )


def _is_typed(kind: str, arrow: Any, feature: Any) -> bool:
    # Imported here for start-up time: pyarrow takes long to import.
    import pyarrow as pa

    if isinstance(feature, Mapping):
        return bool(feature.get("_type") == {"image": "Image", "label": "ClassLabel"}[kind])
    if kind == "label":
        return False
    if pa.types.is_struct(arrow):
        return bool(arrow.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(arrow) or pa.types.is_large_binary(arrow))


def _numbers(name: str, columns: Mapping[str, Any], feature: Any) -> tuple[tuple[str, ...], dict[str, Indices]]:
    """Returns the class names, and the class number of each row of each split; -1 where there is no label."""
    # Imported here for start-up time: pyarrow takes long to import.
    import pyarrow as pa

    kind = columns["train"].type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = {split: column.to_pylist() for split, column in columns.items()}
        words = sorted({value for part in values.values() for value in part if value is not None})
        places = {word: number for number, word in enumerate(words)}
        return tuple(words), {
            split: np.array([places.get(value, -1) for value in part], dtype=np.int64) for split, part in values.items()
        }
    if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise UserError(f"{name}: its labels are of type {kind}: expected one whole number or word for each image.")
    numbers = {
        split: column.cast(pa.int64()).fill_null(-1).to_numpy().astype(np.int64) for split, column in columns.items()
    }
    known = feature.get("names") if isinstance(feature, Mapping) else None
    count = max(int(part.max(initial=0)) for part in numbers.values()) + 1
    return tuple(map(str, known or range(count))), numbers


def prepare(name: str, data_root: Path | None, cache: Path, say: Any) -> None:
    """Fetches a data set from the hub, for `listing` to find.

    Raises:
        UserError: if it cannot be had, or needs a script to load.
    """
    source, _, _ = _parse(name)
    if local_folder(source, data_root) is None:
        hub.fetch(name, source, cache, say)
