"""Accuracy after transfer as a table in the form of ViT's Table 2, with the paper's own table under it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from matplotlib.figure import Figure

from vision_repro.analysis.claims import Verdict
from vision_repro.analysis.judges.transfer import COMPUTE, METRIC
from vision_repro.analysis.table import Table
from vision_repro.figures.appearance import appearance
from vision_repro.figures.columns import EDGE, Block, Column, broken, draw
from vision_repro.figures.footer import footer
from vision_repro.figures.style import style
from vision_repro.figures.venues import page
from vision_repro.papers.tables import paper_table

TITLES = {
    "imagenet": "ImageNet", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "pets": "Pets", "flowers": "Flowers-102",
    "flowers17": "Flowers-17", "imagenette": "Imagenette", "imagenet21k": "ImageNet-21k", "digits-0-4": "digits 0 to 4",
    "digits-5-9": "digits 5 to 9", "Oxford-IIIT Pets": "Pets", "Oxford Flowers-102": "Flowers-102",
    "TPUv3-core-days": "TPUv3 core-days",
}  # fmt: skip
"""Data sets, ours and as the paper prints them, by their short names; others keep their own."""
READINGS = {METRIC: "", "test_real_accuracy": " ReaL", "test_mean_per_class": ", by class"}
"""Metric -> what is put behind the name of the data set."""
PAPER = (("ViT-H/14", "JFT-300M"), ("ViT-L/16", "JFT-300M"), ("ViT-L/16", "ImageNet-21k"),
         ("BiT-L ResNet152x4", "JFT-300M"))  # fmt: skip
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def transfer_figure(
    table: Table,
    verdicts: Sequence[Verdict],
    *,
    starts: Sequence[tuple[str, str]],
    models: Sequence[str],
    datasets: Sequence[str],
    preset: str,
    notes: Sequence[str],
    width: float | None = None,
) -> Figure:
    """Returns our table over the paper's: data sets by models and starts, mean and deviation over runs, cost last.

    `starts` are the levels of the column start and their names. `width` is in inches, that of the page if None; what is
    wider is broken between columns.
    """
    width = page().width if width is None else width
    ours = table.select(preset=preset)
    with style():
        blocks = [*broken(_ours(ours, starts, models, datasets), width), *broken(_paper(), width)]
        below = footer(verdicts, [*notes, *_explained(ours)], width)
        above = sum(block.height for block in blocks) + EDGE
        figure = Figure(figsize=(width, above + below.height))
        top = EDGE
        for block in blocks:
            draw(figure, block, top)
            top += block.height
        below.write(figure, above)
    return figure


def _ours(table: Table, starts: Sequence[tuple[str, str]], models: Sequence[str], datasets: Sequence[str]) -> Block:
    there = {(row.settings["dataset"], row.metric) for row in table.rows}
    rows = [(name, metric) for name in datasets for metric in READINGS if (name, metric) in there]
    places = [(model, start, title) for start, title in starts for model in models]
    places = [place for place in places if _measured(table, place[0], place[1])]
    means = {place: [_mean(table, place, row) for row in rows] for place in places}
    best = [max((means[place][index] for place in places), default=0.0) for index in range(len(rows))]
    columns = []
    for model, start, title in places:
        cells = [_cell(_values(table, metric, model, start, name)) for name, metric in rows]
        cells.append(_compute(_values(table, COMPUTE, model, start)))
        bold = (index for index, mean in enumerate(means[model, start, title]) if mean == best[index])
        columns.append(Column(_group(model, title), appearance(model).label, tuple(cells), frozenset(bold)))
    names = tuple(TITLES.get(name, name) + READINGS[metric] for name, metric in rows)
    return Block("(a) Ours: accuracy on test [%]", (*names, "pre-training [FLOPs]"), tuple(columns))


def _paper() -> Block:
    printed = paper_table("vit_table2")
    rows = list(dict.fromkeys(row["metric"] for row in printed))
    cells = {(row["model"], row["pretrain_data"], row["metric"]): row for row in printed}
    columns = []
    for model, start in PAPER:
        own = [cells.get((model, start, name), {}) for name in rows]
        others = [[cells.get((*place, name), {}) for name in rows[:-1]] for place in PAPER]
        best = [max(float(column[index].get("mean", 0)) for column in others) for index in range(len(rows) - 1)]
        bold = (index for index, mean in enumerate(best) if float(own[index].get("mean", -1)) == mean)
        name = model.replace("ResNet152x4", "R152×4")  # noqa: RUF001
        columns.append(Column(start, name, tuple(map(_printed, own)), frozenset(bold)))
    return Block("(b) Paper: Table 2 [%]", tuple(TITLES.get(name, name) for name in rows), tuple(columns))


def _printed(row: dict[str, str]) -> str:
    if not row:
        return "–"  # noqa: RUF001
    return f"{row['mean']} ± {row['std']}" if row["std"] else row["mean"]


def _values(table: Table, metric: str, model: str, start: str, dataset: str | None = None) -> list[float]:
    """Returns the finite values of a metric, of all data sets if None is given."""
    wanted = {"model": model, "pretraining": start} | ({} if dataset is None else {"dataset": dataset})
    rows = (row for row in table.rows if row.ok and row.metric == metric)
    return [row.value for row in rows if all(row.settings[name] == level for name, level in wanted.items())]


def _measured(table: Table, model: str, start: str) -> bool:
    return any((row.settings["model"], row.settings["pretraining"]) == (model, start) for row in table.rows)


def _mean(table: Table, place: tuple[str, str, str], row: tuple[str, str]) -> float:
    values = _values(table, row[1], place[0], place[1], row[0])
    return fmean(values) if values else -math.inf


def _group(model: str, title: str) -> str:
    """Returns the title of a start; models of timm bring the pre-training that their tag names."""
    return "timm" if model.startswith("timm:") else title


def _cell(values: Sequence[float]) -> str:
    """Returns mean and deviation in percent; a dash where there is no value."""
    if not values:
        return "–"  # noqa: RUF001
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.1f}{spread}"


def _compute(values: Sequence[float]) -> str:
    """Returns the mean of some FLOPs, such as `12.3 T`; a dash where there are none, or nothing was trained before."""
    mean = fmean(values) if values else 0.0
    if not mean > 0:
        return "–"  # noqa: RUF001
    power = min(len(_PREFIXES) - 1, int(math.log10(mean) // 3))
    return f"{mean / 1000**power:.3g} {_PREFIXES[power]}"


def _explained(table: Table) -> list[str]:
    """Returns what the cells are, by the number of runs behind them."""
    rows = [row for row in table.rows if row.metric == METRIC and row.ok]
    runs = sorted({sum(other.settings == row.settings for other in rows) for row in rows})
    diverged = table.diverged()
    count = f"{runs[0]} to {runs[-1]}" if len(runs) > 1 else str(runs[0] if runs else 0)
    shown = "one run a cell" if runs == [1] else f"mean ± standard deviation over {count} runs"
    some = [f"{diverged} diverged run{'' if diverged == 1 else 's'} left out"] if diverged else []
    return [f"(a): {shown}, the best of a row in bold", "(b): without the column of Noisy Student", *some]
