"""The site: reads everything, renders the pages, and puts them in place together."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from vision_repro.config import UserError
from vision_repro.report.catalogue import Entry, catalogue
from vision_repro.report.claims import WORDS, Group, cost_text, counts_as_evidence, group, groups, tally
from vision_repro.report.costs import CostTable, cost_tables
from vision_repro.report.found import DOWNLOADS, MARK, Result, scan
from vision_repro.report.pages import result_page
from vision_repro.report.recipes import older_recipe
from vision_repro.store.atomic import disk_error

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Site:
    """What was built: a line on it, the pages, and what was skipped."""

    summary: str
    pages: tuple[str, ...]
    warnings: tuple[str, ...]


def build(results: Path, outputs: Path, out: Path, package: str = "experiments") -> Site:
    """Builds the report in `out`, whole or not at all.

    Raises:
        UserError: if `out` holds something else, or cannot be written.
    """
    _check(results, outputs, out)
    entries, warnings = catalogue(package)
    found, skipped = scan(results, outputs)
    folder = next((root / "tables" for root in (outputs, results) if (root / "tables").is_dir()), None)
    costs = cost_tables(folder, warnings) if folder else []
    warnings += skipped
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        (part / MARK).touch()
        pages = _write(part, entries, found, costs, warnings, outputs)
        _replace(part, out)
    except OSError as error:
        raise disk_error(out, error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    counts = tally(groups(found, entries))
    named = ", ".join(f"{counts[word]} {word}" for word in WORDS)
    return Site(f"{len(found)} tables of {len(entries)} experiments; claims: {named}.", tuple(pages), tuple(warnings))


def _check(results: Path, outputs: Path, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f'"{out}" is a file: expected a folder for the report; set --out.')
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).exists():
        raise UserError(f'"{out}" holds files that are no report: expected a new or an empty folder; set --out.')
    inside = out.resolve()
    for root in (results.resolve(), outputs.resolve()):
        if root == inside or inside in root.parents:
            raise UserError(f'--out="{out}" would replace "{root}": expected a folder of its own; set --out.')


def _replace(part: Path, out: Path) -> None:
    """Puts the new folder in the place of the old one."""
    old = part.with_suffix(".old")
    if out.exists():
        out.rename(old)
    part.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _write(
    part: Path,
    entries: Sequence[Entry],
    found: Sequence[Result],
    costs: Sequence[CostTable],
    warnings: Sequence[str],
    outputs: Path,
) -> list[str]:
    by_name = {entry.name: entry for entry in entries}
    pages = {}
    for result in found:
        entry = by_name.get(result.experiment)
        files = _copy(part, result)
        pages[f"{result.slug}.html"] = _render(
            "result.html", **result_page(result, entry, group(result, entry), files, outputs)
        )
    if costs:
        figures = {table.name: _copy_file(part, table.figure, "costs") for table in costs if table.figure}
        pages["costs.html"] = _render("costs.html", tables=costs, figures=figures)
    walks = {file.stem: _copy_file(part, file, "explorer") for file in sorted((outputs / "explorer").glob("*.html"))}
    listed = groups(found, entries)
    pages["index.html"] = _render(
        "index.html", **_front(listed, entries, found), costs=costs, walks=walks, warnings=warnings
    )
    for name, text in pages.items():
        (part / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    return sorted(pages)


def _front(listed: Sequence[Group], entries: Sequence[Entry], found: Sequence[Result]) -> Mapping[str, Any]:
    by_name = {entry.name: entry for entry in entries}
    papers = sorted({line.paper for item in listed for line in item.lines})
    names = [entry.name for entry in entries]
    pages = [
        {
            "result": result,
            "cost": cost_text(result),
            "evidence": counts_as_evidence(result, by_name.get(result.experiment)),
            "group": group(result, by_name.get(result.experiment)),
            "older": bool(older_recipe(result)),
        }
        for result in found
    ]
    return {
        "groups": listed,
        "counts": tally(listed),
        "words": WORDS,
        "papers": papers,
        "presets": sorted({item.preset for item in listed}),
        "entries": entries,
        "pages": pages,
        "strangers": sorted({result.experiment for result in found} - set(names)),
        "done": {(result.experiment, result.preset): result for result in reversed(found)},
    }


def _copy(part: Path, result: Result) -> dict[str, str]:
    """Copies what can be downloaded; returns name -> address."""
    there = [result.folder / name for name in DOWNLOADS if (result.folder / name).is_file()]
    return {file.name: _copy_file(part, file, result.slug) for file in there}


def _copy_file(part: Path, file: Path, slug: str) -> str:
    folder = part / "files" / slug
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, folder / file.name)
    return f"files/{slug}/{file.name}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["ticks"] = _ticks
    for name in ("style.css", "script.js"):
        text = (TEMPLATES / name).read_text(encoding="utf-8")
        environment.globals[name.replace(".", "_")] = Markup(text)
    # The only script that a browser runs on these pages is this one, whatever a table or a config says.
    digest = hashlib.sha256(f"\n{text}".encode()).digest()
    environment.globals["script_hash"] = f"sha256-{base64.b64encode(digest).decode()}"
    return environment


def _ticks(text: str) -> Markup:
    """Returns a text of a docstring with its `names` as code; all of it is escaped first."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)
