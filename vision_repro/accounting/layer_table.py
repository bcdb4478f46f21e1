"""Formats layers as a text table with the columns of the lecture slides. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from vision_repro.accounting.folding import Row
from vision_repro.accounting.layers import Layer


class TableFormat(NamedTuple):
    """How operations are counted and printed: images, taps (`all` or `inside`), unit, and units per multiply-add."""

    batch: int
    taps: str
    unit: str
    factor: int


Column = tuple[str, Callable[[Layer], str]]


def _sides(values: Sequence[int]) -> str:
    if not values:
        return ""
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))


def _padding(layer: Layer) -> str:
    """Returns `2` if all four sides are equal, else `2+3` for both sides of an axis."""
    axes = [str(low) if low == high else f"{low}+{high}" for low, high in layer.padding]
    return axes[0] if len(set(axes)) == 1 else "x".join(axes)


def _tokens(layer: Layer, batch: int) -> int:
    """Returns the tokens of an image (of a window, in windowed attention); 0 if the layer has none."""
    if layer.kind == "linear":
        count = layer.input[0] // batch
        return count if count > 1 else 0
    return layer.input[1] if len(layer.input) == 3 else 0


def _width(shape: Sequence[int], layer: Layer) -> str:
    """Returns the channels of a map `[B, C, H, W]`, or the features of tokens, over all heads of attention."""
    if not shape:
        return ""
    if layer.kind == "attention":
        return str(shape[-1] * max(1, layer.heads))
    return str(shape[1] if len(shape) == 4 else shape[-1])


def _map(shape: Sequence[int]) -> str:
    return _sides(shape[2:]) if len(shape) == 4 else ""


def _label(layer: Layer, batch: int) -> str:
    name = f"{layer.name or 'network'} ({layer.kind})"
    windows = layer.input[0] // (batch * layer.heads) if layer.heads else 1
    return f"{name}, {windows} windows" if windows > 1 else name


def columns(table_format: TableFormat) -> list[Column]:
    """Returns the columns of the table: a heading, and a function from a layer to its cell."""
    batch = table_format.batch

    def operations(layer: Layer) -> str:
        count = layer.macs if table_format.taps == "all" else layer.inside_macs
        return f"{table_format.factor * count / 1e6:,.2f}" if count else ""

    return [
        ("C in", lambda layer: _width(layer.input, layer)),
        ("H/W", lambda layer: _map(layer.input)),
        ("tokens", lambda layer: str(_tokens(layer, batch) or "")),
        ("heads", lambda layer: str(layer.heads or "")),
        ("filters", lambda layer: str(layer.output[1]) if layer.kind in ("conv", "linear") else ""),
        ("kernel", lambda layer: _sides(layer.kernel)),
        ("stride", lambda layer: _sides(layer.stride)),
        ("pad", lambda layer: _padding(layer) if layer.padding else ""),
        ("groups", lambda layer: str(layer.groups) if layer.groups > 1 else ""),
        ("C out", lambda layer: _width(layer.output, layer)),
        ("H/W", lambda layer: _map(layer.output)),
        ("KB", lambda layer: f"{layer.memory / 1024:,.1f}" if layer.memory else ""),
        ("params k", lambda layer: f"{layer.parameters / 1e3:,.1f}" if layer.parameters else ""),
        (f"M{table_format.unit}", operations),
        ("pool Mop", lambda layer: f"{layer.pool_ops / 1e6:,.2f}" if layer.pool_ops else ""),
    ]


def table(rows: Sequence[Row], table_format: TableFormat) -> list[str]:
    """Returns the lines of the table, without empty columns."""
    shown: list[tuple[str, list[str]]] = [
        ("layer", [_label(row.layer, table_format.batch) for row in rows]),
        ("", [f"x{row.times}" if row.times > 1 else "" for row in rows]),
    ]
    for name, show in columns(table_format):
        shown.append((name, [show(row.layer) for row in rows]))
    kept = [[name, *cells] for name, cells in shown if any(cells)]
    widths = [max(map(len, column)) for column in kept]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in zip(*kept, strict=True)
    ]
