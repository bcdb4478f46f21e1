"""Carries out a W&B sweep file on this machine, without an account: `python -m vision_repro.search.sweep FILE`.

The trials are the same runs that `wandb agent` would start from this file, with the same configs, ids and folders. All
trials of a grid are planned at once, as by the command of the experiment. Sweeps with random or Bayesian suggestions or
early stopping are searched trial by trial (`loop`). Both write a table of the metric, without using `test`, and a
figure.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from vision_repro.analysis.importance import importances
from vision_repro.analysis.summary import summarise, to_csv
from vision_repro.analysis.table import Table
from vision_repro.analysis.trials import Trial, best_trial, trials_to_csv
from vision_repro.cli import plan
from vision_repro.conclude import conclude as conclude_experiment
from vision_repro.conclude import of_preset
from vision_repro.config import Launch, RunConfig, Scalar, UserError, describe, option, parse_single, run_id
from vision_repro.experiment import Plan
from vision_repro.launch import wandb_report
from vision_repro.launch.session import do_runs
from vision_repro.search.loop import Space, one_run, search
from vision_repro.search.sweep_file import Sweep, read
from vision_repro.store.atomic import write_atomic
from vision_repro.store.table import TABLE_NAME, TableSpec, table_csv
from vision_repro.training.device import quiet_threads

TRIALS_NAME = "trials.csv"


@dataclass(frozen=True)
class Options:
    """Options of the command line that belong to the sweep itself."""

    trials: int = option(0, "number of trials of a search; 0 is run_cap of the file")


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
    """Writes the table of a grid's metric and the best learning rate of each model, and draws the figure."""
    out = planned.root / sweep.name
    table = _write_table(sweep, planned, planned.runs, out)
    settings = table.columns
    write_atomic(out / "summary.csv", to_csv(summarise(table, settings)))
    axes = [axis for axis in sweep.axes if axis in (*settings, "seed")]
    _draw(sweep, [_trial(planned, run, number, axes, sweep.metric) for number, run in enumerate(planned.runs)], out)
    print(f"Table: {out}/{TABLE_NAME}")
    if "lr" in sweep.axes:
        outcome = best(table, sweep.metric, "model", "lr")
        write_atomic(out / "outcome.yaml", yaml.safe_dump(outcome, sort_keys=True))
        print(f"Highest mean {sweep.metric}:\n" + "\n".join(f"  {model}: lr {rate}" for model, rate in outcome.items()))


def _write_table(sweep: Sweep, planned: Plan, runs: Sequence[RunConfig], out: Path) -> Table:
    """Writes and returns the rows of the sweep's metric of all finished runs."""
    settings = tuple(dict.fromkeys((*planned.experiment.settings, *(axis for axis in sweep.axes if axis != "seed"))))
    spec = TableSpec(planned.experiment.name, sweep.name, settings)
    lines = table_csv(spec, map(planned.folder, runs)).splitlines(keepends=True)
    place = spec.columns.index("metric")
    chosen = [line for line in lines[1:] if line.split(",")[place] == sweep.metric]
    write_atomic(out / TABLE_NAME, lines[0] + "".join(chosen))
    return Table.read(out / TABLE_NAME)


def _trial(planned: Plan, run: RunConfig, number: int, axes: Sequence[str], metric: str) -> Trial:
    """Returns a run of a grid as a trial."""
    result = planned.folder(run).outcome()
    state = "failed" if result is None else "finished" if result["status"] == "ok" else "diverged"
    value = (result or {"metrics": {}})["metrics"].get(metric, {}).get("value")
    return Trial(number, run_id(run), state, run.total_steps, {axis: getattr(run, axis) for axis in axes}, value)


def _draw(sweep: Sweep, trials: Sequence[Trial], out: Path) -> None:
    """Writes the trials and their figure: parallel coordinates, and which parameters mattered."""
    # Imported here for start-up time: matplotlib takes long to import.
    from vision_repro.figures.style import save
    from vision_repro.figures.sweep import sweep_figure

    write_atomic(out / TRIALS_NAME, trials_to_csv(trials, sweep.metric))
    if any(trial.value is not None for trial in trials):
        save(
            sweep_figure(trials, importances(trials, sweep.goal), metric=sweep.metric, goal=sweep.goal), out / "figure"
        )


def conclude_search(sweep: Sweep, planned: Plan, runs: Sequence[RunConfig], trials: Sequence[Trial]) -> None:
    """Writes the table, the figure and the best trial of a search."""
    out = planned.root / sweep.name
    _write_table(sweep, planned, list(dict.fromkeys(runs)), out)
    _draw(sweep, trials, out)
    counts = {
        state: sum(trial.state == state for trial in trials) for state in sorted({trial.state for trial in trials})
    }
    outcome: dict[str, Any] = {"trials": counts}
    found = best_trial(trials, sweep.goal)
    if found is not None:
        outcome["best"] = {"trial": found.number, "run": found.run, sweep.metric: found.value, **found.parameters}
        print(f"Best {sweep.metric} {found.value:.4g}: " + ", ".join(f"{k} {v}" for k, v in found.parameters.items()))
    outcome["importance"] = {item.name: round(item.share, 4) for item in importances(trials, sweep.goal)}
    write_atomic(out / "outcome.yaml", yaml.safe_dump(outcome, sort_keys=False))
    print(f"Trials, table and figure: {out}/")


def _of_grid(sweep: Sweep, tokens: Sequence[str]) -> int:
    planned = plan(sweep.experiment, [*sweep.tokens, *tokens], sweep=True)
    if planned.launch.dry_run:
        return _dry_run(planned)
    code, writes = do_runs(planned)
    if writes and any(planned.folder(run).outcome() for run in planned.runs):
        conclude(sweep, planned)
        whole = of_preset(planned)
        if whole is not None:
            conclude_experiment(whole)
        if planned.launch.wandb_report:
            wandb_report.log(planned.root / sweep.name, enabled=planned.launch.wandb != "off")
    return code


def _dry_run(planned: Plan) -> int:
    from vision_repro.launch.estimate import estimate  # imports torch, which takes seconds

    unique = planned.unique
    print(estimate([run for run in unique if planned.folder(run).result() is None], len(unique)))
    return 0


def _of_search(sweep: Sweep, trials: int, tokens: Sequence[str]) -> int:
    if sweep.metric.startswith("test"):
        raise UserError(f'A search must use val: the metric "{sweep.metric}" of {sweep.name} is measured on test.')
    count = trials or int(sweep.spec.get("run_cap", 0))
    if count < 1:
        raise UserError(f"{sweep.name} has no number of trials: set run_cap in the file, or --trials=20.")

    def planned(parameters: Mapping[str, Scalar]) -> Plan:
        words = [f"--{name}={value}" for name, value in parameters.items()]
        return plan(sweep.experiment, [*sweep.tokens, *words, *tokens], sweep=True)

    space = Space(sweep.name, sweep.spec, count, planned)
    code, first, attempts = search(space)
    if attempts and code in (0, 1):
        runs = [one_run(planned(item.parameters)) for item in attempts]
        conclude_search(sweep, first, runs, [item.trial(space.searched, space.goal) for item in attempts])
        if first.launch.wandb_report:
            wandb_report.log(first.root / sweep.name, enabled=first.launch.wandb != "off")
    return code


def _options(tokens: Sequence[str]) -> tuple[Options, list[str]]:
    """Returns the options of the sweep itself, and the tokens for the runs and the launch."""
    own = {item.name for item in fields(Options)}
    mine = [token for token in tokens if token.removeprefix("--").partition("=")[0] in own]
    options = Options(**parse_single(mine, Options))
    return options, [token for token in tokens if token not in mine]


def main(tokens: Sequence[str]) -> int:
    """Carries out a sweep file; further `--key=value` tokens override it. Returns the exit code."""
    if "--help" in tokens or "-h" in tokens:
        print(f"{__doc__}\n{describe(Options)}\n\nwhere and how:\n{describe(Launch)}")
        return 0
    quiet_threads()
    try:
        if not tokens or tokens[0].startswith("--"):
            raise UserError("Give a sweep file, such as sweeps/data_scaling.yaml.")
        sweep = read(Path(tokens[0]))
        options, others = _options(tokens[1:])
        return _of_search(sweep, options.trials, others) if sweep.searched else _of_grid(sweep, others)
    except UserError as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
