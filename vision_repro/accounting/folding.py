"""Folds equal neighbouring blocks of layers into one, so that a deep network's table stays readable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vision_repro.accounting.layers import Layer


@dataclass(frozen=True)
class Row:
    """One line of a table: a layer, and the number of equal layers it represents; its name holds their range."""

    layer: Layer
    times: int = 1


def fold(layers: Sequence[Layer]) -> list[Row]:
    """Returns the layers with runs of equal blocks folded: 12 equal blocks of 7 layers become 7 rows of `times=12`.

    Blocks are folded if their names differ in one number only, such as `blocks.0.*` to `blocks.11.*`.
    """
    keys = [replace(layer, name="") for layer in layers]
    names = [layer.name.split(".") for layer in layers]
    rows: list[Row] = []
    place = 0
    while place < len(layers):
        period, times = _best_run(keys, names, place)
        last = place + period * (times - 1)
        for offset in range(period):
            name = _between(names[place + offset], names[last + offset])
            rows.append(Row(replace(layers[place + offset], name=name), times))
        place += period * times
    return rows


def _best_run(keys: Sequence[Layer], names: Sequence[list[str]], place: int) -> tuple[int, int]:
    """Returns period and repetitions of the run at `place` that folds the most layers; of equal ones the shortest."""
    best = (1, 1)
    for period in range(1, (len(keys) - place) // 2 + 1):
        here, times = slice(place, place + period), 1
        while True:
            there = slice(place + period * times, place + period * (times + 1))
            if keys[there] != keys[here] or not _same_block(names[here], names[there]):
                break
            times += 1
        if period * (times - 1) > best[0] * (best[1] - 1):
            best = (period, times)
    return best


def _same_block(first: Sequence[list[str]], other: Sequence[list[str]]) -> bool:
    """Returns whether two lists of names differ in exactly one number, and in the same one for all names."""
    changes = set()
    for one, two in zip(first, other, strict=True):
        if len(one) != len(two):
            return False
        changes |= {(index, a, b) for index, (a, b) in enumerate(zip(one, two, strict=True)) if a != b}
    return len(changes) == 1 and all(a.isdigit() and b.isdigit() for _, a, b in changes)


def _between(first: Sequence[str], last: Sequence[str]) -> str:
    return ".".join(one if one == two else f"{one}-{two}" for one, two in zip(first, last, strict=True))
