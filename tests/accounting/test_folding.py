"""Folding: equal blocks become one, and nothing is lost."""

from collections import Counter
from dataclasses import replace

from vision_repro.accounting.folding import Row, fold
from vision_repro.accounting.layers import Layer


def block(name: str, width: int = 8) -> list[Layer]:
    return [Layer(f"{name}.fc1", "linear", macs=width), Layer(f"{name}.fc2", "linear", macs=2 * width)]


def layers(*names: str) -> list[Layer]:
    return [layer for name in names for layer in block(name)]


def shown(rows: list[Row]) -> list[tuple[str, int]]:
    return [(row.layer.name, row.times) for row in rows]


def test_equal_blocks_become_one() -> None:
    first, last = Layer("stem", "conv", macs=1), Layer("head", "linear", macs=3)
    rows = fold([first, *layers(*(f"blocks.{index}" for index in range(12))), last])
    assert shown(rows) == [("stem", 1), ("blocks.0-11.fc1", 12), ("blocks.0-11.fc2", 12), ("head", 1)]


def test_sums_stay() -> None:
    found = [*layers("a.0", "a.1", "a.2"), *block("a.3", 9), *layers("b.0", "b.1"), Layer("head", "linear", macs=5)]
    rows = fold(found)
    assert len(rows) < len(found)
    assert sum(row.times * row.layer.macs for row in rows) == sum(layer.macs for layer in found)
    weighted = Counter[Layer]()
    for row in rows:
        weighted[replace(row.layer, name="")] += row.times
    assert weighted == Counter(replace(layer, name="") for layer in found)


def test_only_blocks_whose_names_differ_in_one_number() -> None:
    other = [Layer("0.conv", "conv"), Layer("0.shortcut", "conv"), Layer("0.1.conv", "conv"), Layer("1.1.conv", "conv")]
    assert [row.times for row in fold(other[:2])] == [1, 1]
    assert shown(fold(other[2:])) == [("0-1.1.conv", 2)]
    shifted = [Layer("0.b", "x"), Layer("1.a", "y"), Layer("1.b", "x"), Layer("2.a", "y")]
    assert [row.times for row in fold(shifted)] == [1, 1, 1, 1]


def test_a_block_that_differs_stands_alone() -> None:
    rows = fold([*block("blocks.0", 4), *layers("blocks.1", "blocks.2")])
    assert shown(rows)[:3] == [("blocks.0.fc1", 1), ("blocks.0.fc2", 1), ("blocks.1-2.fc1", 2)]
    assert fold([]) == []
