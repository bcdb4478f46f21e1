"""Counts all published architectures of this repository, for `architectures.md` and the README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from vision_repro import models
from vision_repro.accounting.layers import Account
from vision_repro.config import UserError, nearest
from vision_repro.models.published import Published


@cache
def counted(name: str, image_size: int, classes: int = 1000) -> Account:
    """Returns the account of an architecture, built on the meta device; a process counts each one once."""
    # Imported here for start-up time: torch takes long to import.
    import torch

    from vision_repro.accounting.profiler import account

    with torch.device("meta"):
        model = models.build(name, image_size=image_size, classes=classes)
    return account(model, image_size)


def published_size(name: str) -> int:
    """Returns the first image size [pixels] that a source gives for an architecture.

    Raises:
        UserError: if no source gives one.
    """
    for item in models.published():
        if item.name == name:
            return item.image_size
    for small, size in models.small():
        if small == name:
            return size
    known = [item.name for item in models.published()]
    raise UserError(f'No source gives an image size for "{name}": give --image_size=N [pixels].{nearest(name, known)}')


@dataclass(frozen=True)
class Architecture:
    """A published size and our count of it: parameters, and multiply-adds of a forward pass over all taps."""

    published: Published
    parameters: int
    macs: int


def architectures() -> list[Architecture]:
    """Returns every `PUBLISHED` entry of every architecture, counted for 1000 classes, file by file."""
    found = []
    for item in models.published():
        account = counted(item.name, item.image_size)
        found.append(Architecture(item, account.parameters, account.macs()))
    return found


def architectures_markdown(found: Sequence[Architecture] | None = None) -> str:
    """Returns the Markdown table of architectures: name, image size, parameters, GMACs, source."""
    lines = [
        "| architecture | image [px] | parameters | GMACs | source prints | source |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for item in architectures() if found is None else found:
        entry = item.published
        printed, gmacs = "" if entry.gmacs is None else f"{entry.gmacs}", format_gmacs(item.macs / 1e9)
        lines.append(
            f"| `{entry.name}` | {entry.image_size} | {item.parameters:,} | {gmacs} | {printed} | {entry.source} |"
        )
    lines.append(
        "\nParameters and multiply-adds (a multiply-add is 1 MAC, or 2 FLOPs; all taps of convolutions) are counted by "
        "`vision_repro.accounting` for 1000 classes."
    )
    return "\n".join(lines) + "\n"


def format_gmacs(gmacs: float) -> str:
    """Returns GMACs with three decimals; below 0.1 with three significant digits."""
    return f"{gmacs:.3f}" if gmacs >= 0.1 else f"{gmacs:.3g}"
