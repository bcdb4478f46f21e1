"""Seals: a SHA-256 that goes with every file a later step trusts, checked before the file is used.

A seal finds damage and edits, such as a flipped bit or a number changed by hand. It is no signature: it does not stop
somebody who computes it anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vision_repro.config import UserError

KEY = "sha256"
"""The last key of a sealed JSON file: the digest of all that comes before it."""


def digest(content: bytes) -> str:
    """Returns the SHA-256 of some bytes (hex)."""
    return hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file (hex), which is read in parts."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(content: Mapping[str, Any]) -> str:
    """Returns `content` as JSON text that ends with its own digest."""
    return json.dumps({**content, KEY: _digest_of(content)}, indent=1) + "\n"


def read_sealed(path: Path, expected: str) -> dict[str, Any]:
    """Returns the content of a sealed JSON file, without its seal.

    Args:
        path: the file.
        expected: what the file should be, for the sentence of an error.

    Raises:
        FileNotFoundError: if there is no such file.
        UserError: if it is no JSON object, or was changed after it was written.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        seal = found.pop(KEY)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f'"{path}" is not {expected}: remove that file and start again.') from None
    if seal != _digest_of(found):
        raise UserError(f'"{path}" was changed after it was written: expected {expected}; remove it and start again.')
    return dict(found)


def check_file(path: Path, seal: str | None) -> None:
    """Checks a file against the digest that was recorded when it was written.

    Raises:
        UserError: if the file is missing, or is another one than was recorded.
    """
    try:
        found = file_digest(path)
    except OSError as error:
        raise UserError(f'"{path}" cannot be read ({error.strerror}): remove its folder and start again.') from None
    if found != seal:
        raise UserError(
            f'"{path}" has the SHA-256 {found[:12]}, but {(seal or "none")[:12]} was recorded when it was written: '
            "it is damaged or another file; remove its folder and start again."
        )


def _digest_of(content: Mapping[str, Any]) -> str:
    return digest(json.dumps(content, separators=(",", ":")).encode())
