"""The figure of a result, drawn again from its table.csv and config.yaml alone, for the page of any venue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from vision_repro.analysis.claims import Evidence, Verdict, judge_all
from vision_repro.analysis.summary import summarise
from vision_repro.analysis.table import Table
from vision_repro.catalogue import experiment as find_experiment
from vision_repro.config import RunConfig, UserError, construct, nearest
from vision_repro.figures.style import save
from vision_repro.figures.venues import DEFAULT, Venue, on_page, page
from vision_repro.store.atomic import write_atomic
from vision_repro.store.table import TABLE_NAME

CAPTION = "caption.txt"


@dataclass(frozen=True)
class Drawing:
    """What a figure is drawn from: its experiment, the preset as it was run, the table and the verdicts on it."""

    experiment: Any
    name: str
    preset: Any
    table: Table
    verdicts: Sequence[Verdict]

    def figure(self, venue: Venue, width: float) -> Figure:
        """Returns the figure, `width` inches wide.

        Raises:
            UserError: if the experiment's figure has a width of its own.
        """
        shown = self.table if self.experiment.shows_seeds else summarise(self.table, self.experiment.settings)
        figure: Figure = self.experiment.figure(shown, self.verdicts, self.name, self.preset)
        figure.set_size_inches(*(venue.enlarged * side for side in figure.get_size_inches()))
        if abs(figure.get_figwidth() - width) > 0.001:
            raise UserError(
                f"The figure of {self.experiment.name} is {figure.get_figwidth():g} inches wide, not {width:g}: it "
                "does not ask for the width of the page."
            )
        return figure


def draw(drawing: Drawing, venue: Venue, out: Path) -> list[Path]:
    """Writes the figure at each width of the venue; returns the paths.

    Where a page keeps words out of figures, they are written to `caption.txt`.
    """
    paths, told = [], True
    for ending, width in venue.widths.items():
        with on_page(venue, width):
            paths += save(drawing.figure(venue, width), out / f"figure{ending}")
            told = told and page().words
    if not told:
        with on_page(DEFAULT, DEFAULT.text):
            lines = [text.get_text().replace(r"\$", "$") for text in drawing.figure(DEFAULT, DEFAULT.text).texts]
        write_atomic(out / CAPTION, "\n".join(lines) + "\n")
        paths.append(out / CAPTION)
    return paths


def read(folder: Path) -> Drawing:
    """Returns what the figure of a result is drawn from; the verdicts are judged anew.

    Raises:
        UserError: if the folder is no result of an experiment with a figure.
    """
    if not folder.is_dir():
        near = [str(path.parent) for path in sorted(folder.parent.glob(f"*/{TABLE_NAME}"))]
        raise UserError(
            f'"{folder}" is no folder: expected a result, such as results/data_scaling/cpu.{nearest(str(folder), near)}'
        )
    if not (folder / TABLE_NAME).is_file():
        raise UserError(f'"{folder}" has no {TABLE_NAME}: expected a result, such as results/data_scaling/cpu.')
    table = Table.read(folder / TABLE_NAME)
    if not table.rows:
        raise UserError(f'"{folder / TABLE_NAME}" has no rows: nothing was measured.')
    experiment = find_experiment(table.rows[0].experiment).EXPERIMENT
    if missing := [name for name in experiment.settings if name not in table.columns]:
        raise UserError(f'"{folder / TABLE_NAME}" has no column {missing[0]}, which {experiment.name} compares.')
    name, preset = _preset(folder / "config.yaml", experiment)
    verdicts = judge_all(experiment.claims(name, preset), Evidence(table, name, preset.evidence))
    return Drawing(experiment, name, preset, table, verdicts)


def changed_verdicts(drawing: Drawing, folder: Path) -> list[str]:
    """Returns the claims on which verdicts.json says otherwise: the code was changed since, or the file."""
    try:
        found = json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))
        recorded = {str(item["claim"]): item["verdict"] for item in found}
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [item.claim for item in drawing.verdicts if recorded.get(item.claim, item.verdict) != item.verdict]


def _preset(file: Path, experiment: Any) -> tuple[str, Any]:
    """Returns the preset of a result, as it was changed by options."""
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        name, base = str(found["preset"]), dict(found["base"])
        axes = {str(key): tuple(values) for key, values in found["axes"].items()}
        seeds = int(found["seeds"])
    except FileNotFoundError:
        raise UserError(f'"{file.parent}" has no {file.name}: expected the folder of an experiment.') from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        raise UserError(f'"{file}" cannot be read: expected preset, axes, seeds and base. Was it cut off?') from None
    if name not in experiment.presets:
        known = ", ".join(experiment.presets)
        raise UserError(f'{experiment.name} has no preset "{name}": expected one of {known}.')
    return name, replace(experiment.presets[name], base=construct(RunConfig, base), axes=axes, seeds=seeds)
