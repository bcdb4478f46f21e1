"""The page of an attention explorer: one HTML file with its style, script and data inside."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any


def render(shown: Mapping[str, Any]) -> str:
    """Returns the page. Texts go into it as JSON without angle brackets, and nothing in it may ask the network."""
    folder = files("vision_repro.explorer") / "page"
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    data = json.dumps(shown, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    for letter in "<>&":
        data = data.replace(letter, f"\\u{ord(letter):04x}")
    parts = {
        "title": html.escape(f"Attention of {shown['model']}, {shown['weights'].split(' (')[0]}"),
        "style": style,
        "style_hash": _digest(style),
        "script": script,
        "script_hash": _digest(script),
        "data": data,
    }
    page = (folder / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


def _digest(text: str) -> str:
    """Returns what a content security policy calls an inline text: it may be used, and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
