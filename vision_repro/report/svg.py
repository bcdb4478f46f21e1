"""A matplotlib figure as a piece of a page: text stays text, every point says its value.

Why matplotlib and a small script of ours, and not plotly, bokeh or Vega: those bring 0.8 to 4.5 MB of JavaScript, show
nothing without it, and would draw a model in another look than the printed figures do. matplotlib draws already all
figures of the house; a point of its SVG gets a `<title>`, which browsers show on hover and screen readers read, with no
script at all. The script (60 lines) adds the nearest point and the arrow keys.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"


def inline(figure: Figure, *, prefix: str, label: str, titles: Mapping[str, str]) -> str:
    """Returns the figure as an `<svg>` element for a page.

    `titles` says by gid what a point shows; `prefix` keeps the ids of several figures on a page apart; `label` is the
    alternative text.
    """
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    root = ET.fromstring(text.getvalue())
    for found in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(found)
    used = _used(root)
    for element in root.iter():
        _rename(element, prefix, used)
        if element.get("id") in titles:
            _entitle(element, titles[element.attrib.pop("id")])
        elif element.get("id", prefix) not in used | {prefix}:
            del element.attrib["id"]
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"class": "chart", "role": "group", "aria-label": label}
    return re.sub(r">\s+<", "><", _plain(ET.tostring(root, encoding="unicode")))


def _used(root: ET.Element) -> set[str]:
    """Returns the ids that something in the figure refers to."""
    text = ET.tostring(root, encoding="unicode")
    return set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))


def _rename(element: ET.Element, prefix: str, used: set[str]) -> None:
    for name, value in element.attrib.items():
        if name == "id" and value in used:
            used.add(prefix + value)
            element.set(name, prefix + value)
        elif name == _LINK and value.startswith("#"):
            element.set(name, f"#{prefix}{value[1:]}")
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{prefix}"))


def _entitle(element: ET.Element, text: str) -> None:
    title = ET.Element(f"{{{_SVG}}}title")
    title.text = text
    element.insert(0, title)
    element.attrib |= {"class": "point", "role": "img", "aria-label": text}


def _plain(text: str) -> str:
    """Returns the markup without namespace prefixes, as a page has it."""
    text = re.sub(r' xmlns:(\w+)="[^"]*"', "", text)
    return re.sub(r"\bns\d+:href=", "href=", re.sub(r"<(/?)ns\d+:", r"<\1", text))
