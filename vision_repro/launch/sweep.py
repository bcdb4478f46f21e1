"""A W&B sweep file carried out on this machine, without an account: `python -m vision_repro.launch.sweep FILE`.

The trials are the very runs that `wandb agent` would start from the same file: same configs, same ids, same folders.
"""

from __future__ import annotations

import importlib
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vision_repro.analysis.summary import summarise, to_csv
from vision_repro.analysis.table import Table
from vision_repro.config import UserError
from vision_repro.experiment import Experiment, Plan, plan
from vision_repro.launch import wandb_report
from vision_repro.launch.device import quiet_threads
from vision_repro.results import TABLE_NAME, TableSpec, table_csv, write_atomic


@dataclass(frozen=True)
class Sweep:
    """A grid sweep: the experiment, its axes as command-line tokens, and the metric that ranks its trials."""

    name: str
    experiment: Experiment
    tokens: tuple[str, ...]
    axes: tuple[str, ...]
    metric: str


def read(file: Path) -> Sweep:
    """Returns the sweep that a W&B sweep file describes.

    Raises:
        UserError: if the file is missing, is no sweep file, or asks for more than a grid.
    """
    try:
        found = yaml.safe_load(file.read_text())
    except OSError as error:
        raise UserError(
            f'"{file}" cannot be read ({error.strerror}): give a sweep file such as sweeps/data_scaling.yaml.'
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UserError(f'"{file}" is not YAML: expected a W&B sweep file.') from None
    try:
        module = _module(found["command"])
        tokens = {name: _values(entry) for name, entry in found["parameters"].items()}
        method, metric = found["method"], found.get("metric", {}).get("name", "val_accuracy")
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(
            f'"{file}" is no sweep file: expected method, command (python -m experiments.name) and parameters.'
        ) from None
    if method != "grid":
        raise UserError(
            f'"{file}" has method "{method}": only "grid" runs here; start the others with wandb sweep and wandb agent.'
        )
    axes = tuple(name for name, values in tokens.items() if len(values) > 1)
    words = tuple(f"--{name}={','.join(map(str, values))}" for name, values in tokens.items())
    return Sweep(file.stem, importlib.import_module(module).EXPERIMENT, words, axes, metric)


def _module(command: Sequence[str]) -> str:
    name = str(command[command.index("-m") + 1])
    if not name.startswith("experiments."):
        raise ValueError(name)
    return name


def _values(entry: Mapping[str, Any]) -> list[Any]:
    return list(entry["values"]) if "values" in entry else [entry["value"]]


def best(rows: Table, metric: str, by: str, over: str) -> dict[str, Any]:
    """Returns for each level of `by` the level of `over` with the highest mean metric; a diverged run counts as 0."""
    chosen: dict[str, Any] = {}
    for level in rows.levels(by):
        means = {}
        for candidate in rows.levels(over):
            part = [row for row in rows.select(**{by: level, over: candidate}).rows if row.metric == metric]
            means[candidate] = statistics.fmean(row.value if row.ok else 0.0 for row in part)
        chosen[str(level)] = max(means, key=lambda candidate: means[candidate])
    return chosen


def conclude(sweep: Sweep, planned: Plan) -> None:
    """Writes the table of the sweep's metric, without a look at `test`, and the best learning rate of each model."""
    settings = tuple(dict.fromkeys((*planned.experiment.settings, *(axis for axis in sweep.axes if axis != "seed"))))
    spec = TableSpec(planned.experiment.name, sweep.name, settings)
    lines = table_csv(spec, map(planned.folder, planned.runs)).splitlines(keepends=True)
    out = planned.root / sweep.name
    place = spec.columns.index("metric")
    write_atomic(
        out / TABLE_NAME, lines[0] + "".join(line for line in lines[1:] if line.split(",")[place] == sweep.metric)
    )
    table = Table.read(out / TABLE_NAME)
    write_atomic(out / "summary.csv", to_csv(summarise(table, settings)))
    print(f"Table: {out}/{TABLE_NAME}")
    if "lr" in sweep.axes:
        outcome = best(table, sweep.metric, "model", "lr")
        write_atomic(out / "outcome.yaml", yaml.safe_dump(outcome, sort_keys=True))
        print(f"Highest mean {sweep.metric}:\n" + "\n".join(f"  {model}: lr {rate}" for model, rate in outcome.items()))


def main(tokens: Sequence[str]) -> int:
    """Carries out a sweep file; further `--key=value` go over it. Returns the exit code."""
    quiet_threads()
    try:
        if not tokens or tokens[0].startswith("--"):
            raise UserError("Give a sweep file, such as sweeps/data_scaling.yaml.")
        sweep = read(Path(tokens[0]))
        planned = plan(sweep.experiment, [*sweep.tokens, *tokens[1:]], sweep=True)
        from vision_repro.launch.session import do_runs

        code, writes = do_runs(planned)
        if writes:
            conclude(sweep, planned)
            if planned.launch.wandb_report:
                wandb_report.log(planned.root / sweep.name, enabled=planned.launch.wandb != "off")
        return code
    except UserError as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
