"""The paper's own tables beside ours: found by the tables that an experiment's `paper` line names, and redrawn."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from vision_repro.figures.scaling import PRETRAINING
from vision_repro.figures.style import appearance, size_order
from vision_repro.papers.tables import paper_table, paper_tables
from vision_repro.report.charts import Point, Series, lines_chart

_BOOKKEEPING = ("confidence", "source", "note", "inferred_pretrain_epochs", "resolution_px")


@dataclass(frozen=True)
class PaperTable:
    """A table as printed in a paper: head and lines as text, its source, and the charts drawn from it."""

    name: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    source: str
    charts: tuple[str, ...]


def named_tables(facts: Mapping[str, str]) -> list[str]:
    """Returns the shipped tables that the `paper` line names: `... (ViT, ...) ... Table 5` is `vit_table5`."""
    text = facts.get("paper", "")
    short = re.search(r"\(([A-Za-z][\w-]*)[,)]", text)
    numbers = re.findall(r"\bTables? (\d+(?:(?:, | and )\d+)*)", text)
    wanted = {number for group in numbers for number in re.findall(r"\d+", group)}
    prefix = short[1].lower() if short else ""
    return [
        name
        for name in paper_tables()
        if (match := re.fullmatch(r"([a-z0-9]+)_table(\d+)(_.*)?", name)) and match[1] == prefix and match[2] in wanted
    ]


def read_tables(facts: Mapping[str, str], dataset: str) -> list[PaperTable]:
    """Returns the paper's tables of an experiment, with charts of ImageNet and of the data set that was run."""
    return [_read(name, dataset, f"t{index}-") for index, name in enumerate(named_tables(facts))]


@cache
def _read(name: str, dataset: str, prefix: str) -> PaperTable:
    rows = paper_table(name)
    head = [column for column in rows[0] if column not in _BOOKKEEPING and any(row[column] for row in rows)]
    source = "; ".join(dict.fromkeys(row["source"] for row in rows if row.get("source")))
    charts: tuple[str, ...] = ()
    if {"pretrain_data", "model"} <= set(head):
        shown = dict.fromkeys(column for column in ("imagenet", dataset) if column in head)
        charts = tuple(_pretraining(rows, column, f"{prefix}{index}-") for index, column in enumerate(shown))
    return PaperTable(
        name=name,
        head=tuple(column.replace("_", " ") for column in head),
        lines=tuple(tuple(row[column] or "" for column in head) for row in rows),
        source=source,
        charts=charts,
    )


def _pretraining(rows: list[dict[str, str]], column: str, prefix: str) -> str:
    """Returns the paper's accuracy over the images of pre-training, the digits as printed."""
    series = []
    for model in sorted({row["model"] for row in rows}, key=size_order):
        own = [row for row in rows if row["model"] == model and row[column] and row["pretrain_data"] in PRETRAINING]
        points = [
            Point(
                PRETRAINING[row["pretrain_data"]],
                float(row[column]),
                math.nan,
                math.nan,
                f"{model} pre-trained on {row['pretrain_data']}: {row[column]} % (paper)",
            )
            for row in own
        ]
        if points:
            series.append(Series(appearance(model), tuple(points)))
    names = {"imagenet": "ImageNet top-1", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
    return lines_chart(series, f"Paper: {names.get(column, column)} [%]", "pre-training images", prefix)
