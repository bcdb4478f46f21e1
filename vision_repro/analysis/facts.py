"""Config and provenance of a result as flat facts, and which of them differ between two results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from vision_repro.config import RunConfig, plain

_LONGEST = 60  # characters
_ABSENT = "not stated"


def config_facts(folder: Path) -> dict[str, Any] | None:
    """Returns the flat facts of config.yaml, None without one; options that older runs did not know have defaults."""
    found = _load(folder / "config.yaml", yaml.safe_load)
    if isinstance(found, dict) and isinstance(found.get("base"), dict):
        found = {**found, "base": {**plain(RunConfig()), **found["base"]}}
    return _flat(found)


def provenance_facts(folder: Path) -> dict[str, Any] | None:
    """Returns the flat facts of provenance.json (versions, device, commit, checksums), None without one."""
    return _flat(_load(folder / "provenance.json", json.loads))


def differing(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[str]:
    """Returns a Markdown table of the facts that differ, empty if none does, or a line that a side has none."""
    if before is None or after is None:
        missing = " and ".join(side for side, facts in (("A", before), ("B", after)) if facts is None)
        return [] if before is None and after is None else [f"{missing} has no such file, or one that cannot be read."]
    names = [*before, *(name for name in after if name not in before)]
    pairs = [(name, before.get(name, _ABSENT), after.get(name, _ABSENT)) for name in names]
    lines = [f"| {name} | {_short(a)} | {_short(b)} |" for name, a, b in pairs if a != b]
    return ["| | A | B |", "| --- | --- | --- |", *lines] if lines else []


def _load(file: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None


def _flat(value: Any, name: str = "") -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    found: dict[str, Any] = {}
    for key, entry in value.items():
        inner = _flat(entry, f"{name}{key}.")
        found.update({f"{name}{key}": entry} if inner is None else inner)
    return found


def _short(value: Any) -> str:
    """Returns the value on one line; of a long list how many entries it has."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if isinstance(value, list) and len(text) > _LONGEST:
        return f"{len(value)} entries, {text[:12]} ..."
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
