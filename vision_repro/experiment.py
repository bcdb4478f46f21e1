"""An experiment: presets, grid, claims and figure in one file; and the way from its command line to its verdicts."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from vision_repro.accounting import ledger_text
from vision_repro.analysis.claims import Claim, Evidence, Verdict, judge_all
from vision_repro.analysis.summary import SummaryRow, summarise, to_csv, to_lines, to_markdown
from vision_repro.analysis.table import Table
from vision_repro.analysis.verdicts import verdicts_to_json, verdicts_to_markdown
from vision_repro.config import (
    RUN,
    Launch,
    RunConfig,
    Scalar,
    UserError,
    describe,
    nearest,
    parse_options,
    plain,
    run_id,
    single,
)
from vision_repro.launch import wandb_report
from vision_repro.store.runs import PICTURES, TABLE_NAME, Lock, RunFolder, TableSpec, write_atomic, write_table
from vision_repro.training.device import quiet_threads

WIDEST = 6
"""Columns that a table of one metric in `summary.md` has at most; with more levels, settings are lines."""


@dataclass(frozen=True)
class Preset:
    """A named scale: the config all runs share, the axes of the grid, the number of seeds, and what it costs.

    Points of the grid that `skip` is true for are left out.
    """

    base: RunConfig
    axes: Mapping[str, tuple[Scalar, ...]]
    seeds: int
    cost: str
    evidence: bool = True
    skip: Callable[[RunConfig], bool] = lambda config: False

    @property
    def shared(self) -> RunConfig:
        """The base with what an axis, or an option of the command line, sets to one value for all runs."""
        single: dict[str, Any] = {name: values[0] for name, values in self.axes.items() if len(values) == 1}
        return replace(self.base, **single)


@dataclass(frozen=True)
class Experiment:
    """One question from a paper: how it is asked (`presets`), answered (`claims`) and shown (`figure`).

    `figure` is called with the summary rows (with the table, if it `shows_seeds`), the verdicts, the preset's name and
    the preset. `fill_defaults` fills in what a point of the grid leaves open, and puts options in the place of a
    `variant`, by which a grid that is no product of axes is one axis. `pretraining` returns the run whose weights a run
    with `--pretraining` starts from, `lr_candidates` the runs of which the best on `val` gives a run its learning rate;
    both may need further runs, and none of them is a row of the table. `tables` are the metrics that `summary.md`
    shows, where the table has them.
    """

    name: str
    question: str
    presets: Mapping[str, Preset]
    settings: tuple[str, ...]
    claims: Callable[[str, Preset], Sequence[Claim]]
    figure: Callable[[Any, Sequence[Verdict], str, Preset], Any]
    fill_defaults: Callable[[str, RunConfig], RunConfig] = lambda preset, config: config
    pretraining: Callable[[str, RunConfig], RunConfig | None] = lambda preset, config: None
    lr_candidates: Callable[[str, RunConfig], Sequence[RunConfig]] = lambda preset, config: ()
    default: str = "cpu"
    shows_seeds: bool = False
    tables: tuple[str, ...] = ("test_accuracy", "few_shot_5", "linear_accuracy")


@dataclass(frozen=True)
class Plan:
    """What one command asks for: the runs, the preset as it was changed, and where everything goes."""

    experiment: Experiment
    preset_name: str
    preset: Preset
    changed: str
    runs: tuple[RunConfig, ...]
    launch: Launch
    upstream: tuple[RunConfig, ...] = ()

    @property
    def all(self) -> tuple[RunConfig, ...]:
        """The runs of the table and those upstream of them, each after what it needs."""
        return (*self.upstream, *self.runs)

    @property
    def root(self) -> Path:
        """The folder of the experiment."""
        return Path(self.launch.out) / self.experiment.name

    @property
    def summary(self) -> Path:
        """The folder of table, figure and verdicts: the preset's, or one named after what was changed."""
        return self.root / (self.preset_name + self.changed)

    def folder(self, config: RunConfig) -> RunFolder:
        """Returns the folder of a run."""
        return RunFolder(self.root / "runs", config)

    @property
    def spec(self) -> TableSpec:
        """What heads the table."""
        return TableSpec(self.experiment.name, self.preset_name, self.experiment.settings)


@dataclass(frozen=True)
class Choice:
    """Options of the command line that are neither the run's nor the launch's."""

    preset: str = field(default="", metadata={"help": "scale of the experiment"})
    seeds: int | None = field(default=None, metadata={"help": "number of seeds, 0 .. seeds - 1"})


def grid(experiment: Experiment, name: str, preset: Preset) -> tuple[RunConfig, ...]:
    """Returns the runs of a preset: seed by seed, so that an early stop leaves whole seeds."""
    return linked(experiment, name, preset)[0]


def linked(experiment: Experiment, name: str, preset: Preset) -> tuple[tuple[RunConfig, ...], tuple[RunConfig, ...]]:
    """Returns the runs of a preset, and the runs that must be done before them, each once and after what it needs."""
    found: dict[str, RunConfig] = {}
    runs = tuple(_link(experiment, name, run, found) for run in _points(experiment, name, preset))
    ids = {run_id(run) for run in runs}
    return runs, tuple(run for key, run in found.items() if key not in ids)


def _link(experiment: Experiment, name: str, run: RunConfig, found: dict[str, RunConfig]) -> RunConfig:
    """Returns `run` with the ids of what it needs; puts that, linked itself, into `found`."""

    def need(other: RunConfig) -> str:
        other = _link(experiment, name, replace(other, experiment=experiment.name), found)
        found.setdefault(run_id(other), other)
        return run_id(other)

    asked = run
    if asked.pretraining and not asked.weights:
        first = experiment.pretraining(name, asked)
        if first is None:
            raise UserError(
                f'--pretraining="{run.pretraining}" is unknown to {experiment.name}: see its --help and its presets.'
            )
        run = replace(run, weights=RUN + need(first))
    if asked.lr is None and not asked.lr_from:
        run = replace(run, lr_from=" ".join(need(other) for other in experiment.lr_candidates(name, asked)))
    return run


def _points(experiment: Experiment, name: str, preset: Preset) -> list[RunConfig]:
    names = list(preset.axes)
    points = itertools.product(range(preset.seeds) if "seed" not in names else (None,), *preset.axes.values())
    runs = []
    for seed, *values in points:
        chosen: dict[str, Any] = dict(zip(names, values, strict=True))
        if seed is not None:
            chosen["seed"] = seed
        run = replace(preset.base, experiment=experiment.name, **chosen)
        if not preset.skip(run):
            runs.append(experiment.fill_defaults(name, run))
            if runs[-1].variant:
                raise UserError(f'--variant="{runs[-1].variant}" is unknown to {experiment.name}: see its --help.')
    return runs


def plan(experiment: Experiment, tokens: Sequence[str], *, sweep: bool = False) -> Plan:
    """Returns the runs that a command line asks for; `--key=a,b` makes a key an axis of the grid.

    A sweep may have any field as an axis, an experiment only those that its figure compares, and the seed.

    Raises:
        UserError: for anything in it that cannot be.
    """
    values = parse_options(tokens, RunConfig, Launch, Choice)
    name = str(values.pop("preset", [experiment.default])[-1]) or experiment.default
    if name not in experiment.presets:
        known = ", ".join(experiment.presets)
        raise UserError(f'--preset="{name}" is unknown: expected one of {known}.{nearest(name, experiment.presets)}')
    preset = experiment.presets[name]
    launch_names = {item.name for item in fields(Launch)}
    launch = Launch(**{key: single(key, values.pop(key)) for key in list(values) if key in launch_names})
    if launch.data_root is None and os.environ.get("VISION_REPRO_DATA"):
        launch = replace(launch, data_root=os.environ["VISION_REPRO_DATA"])
    seeds = single("seeds", values.pop("seeds", [None]))
    for key, given in values.items():
        if len(given) > 1 and not sweep and key not in (*experiment.settings, *preset.axes, "seed"):
            raise UserError(f"--{key} takes one value here: the figure compares {', '.join(experiment.settings)} only.")
    if seeds is not None and int(seeds) < 1:
        raise UserError(f"--seeds={seeds} is too small: expected at least 1.")
    changed = replace(
        preset,
        seeds=preset.seeds if seeds is None else int(seeds),
        axes={**preset.axes, **{key: tuple(given) for key, given in values.items()}},
    )
    runs, before = linked(experiment, name, changed)
    return Plan(experiment, name, changed, _suffix(preset, values, seeds), runs, launch, before)


def _suffix(preset: Preset, values: Mapping[str, list[Scalar]], seeds: Scalar) -> str:
    """Returns a readable name for what differs from the preset, so that no changed run overwrites its results."""
    words = [f"{key}={'+'.join(map(str, given))}" for key, given in sorted(values.items())]
    if seeds is not None and seeds != preset.seeds:
        words.append(f"seeds={seeds}")
    return "".join(f",{word}" for word in words).replace("/", "_").replace(" ", "+")


def main(experiment: Experiment, tokens: Sequence[str] | None = None) -> int:
    """Carries out what the command line asks for; returns the exit code (0 done, 1 failed runs, 2 bad input)."""
    arguments = list(sys.argv[1:] if tokens is None else tokens)
    if "--help" in arguments or "-h" in arguments:
        print(_help(experiment))
        return 0
    quiet_threads()
    try:
        return carry_out(plan(experiment, arguments))
    except UserError as error:
        print(f"{experiment.name}: {error}", file=sys.stderr)
        return 2


def carry_out(planned: Plan) -> int:
    """Does the runs that are not done yet, then writes table, figure and verdicts; returns the exit code."""
    if not planned.runs:  # a sweep knows the axes of a grid, not what is left out of it
        print(f"{planned.experiment.name}: nothing to do, as the preset leaves this point of its grid out.")
        return 0
    if planned.launch.dry_run:
        from vision_repro.launch.estimate import estimate

        print(estimate([run for run in planned.all if planned.folder(run).result() is None], len(planned.all)))
        return 0
    from vision_repro.launch.session import do_runs

    code, writes = do_runs(planned)
    if writes and any(planned.folder(run).result() for run in planned.runs):
        if "WANDB_SWEEP_ID" in os.environ:
            from vision_repro.conclude_trial import conclude_trial

            conclude_trial(planned)
            return code
        conclude(planned)
        if planned.launch.wandb_report:
            wandb_report.log(planned.summary, enabled=planned.launch.wandb != "off")
    return code


def conclude(planned: Plan) -> list[Verdict]:
    """Writes table, summary, verdicts, figure and their provenance from the finished runs; prints them."""
    out = planned.summary
    with Lock(out):
        write_table(out / TABLE_NAME, planned.spec, map(planned.folder, planned.runs))
        table = Table.read(out / TABLE_NAME)
        rows = summarise(table, planned.experiment.settings)
        evidence = Evidence(table, planned.preset_name, planned.preset.evidence)
        verdicts = judge_all(planned.experiment.claims(planned.preset_name, planned.preset), evidence)
        text = _markdown(planned, rows, verdicts, ledger_text.write(planned, out))
        write_atomic(out / "summary.csv", to_csv(rows))
        write_atomic(out / "summary.md", text)
        write_atomic(out / "verdicts.json", verdicts_to_json(verdicts))
        write_atomic(out / "config.yaml", yaml.safe_dump(_described(planned), sort_keys=False))
        from vision_repro.figures.style import save

        shown = table if planned.experiment.shows_seeds else rows
        save(planned.experiment.figure(shown, verdicts, planned.preset_name, planned.preset), out / "figure")
        _draw_pictures(planned)
        write_atomic(out / "provenance.json", json.dumps(_sources(planned), indent=1) + "\n")
    print(text)
    print(f"Figure, table and verdicts: {out}/")
    return verdicts


def _draw_pictures(planned: Plan) -> None:
    """Draws what the pre-trained models of the first seed make of masked images, if there are any."""
    from vision_repro.figures.pictures import pictures_figure, read
    from vision_repro.figures.style import save

    first = min((run.seed for run in planned.all), default=0)
    longest: dict[str, RunConfig] = {}
    for run in sorted(planned.upstream, key=lambda run: run.steps):
        if run.seed == first and (planned.folder(run).path / PICTURES).exists():
            longest[f"{run.objective}, {run.corrupted:.0%} of the patches"] = run
    titles = {f"{title}, {run.steps:,} steps": planned.folder(run).path / PICTURES for title, run in longest.items()}
    blocks = [read(file, title) for title, file in titles.items()]
    if blocks:
        note = (
            "The first images of test; masked patches are grey, and only what was masked or replaced is predicted. MAE "
            "predicts patches without their mean and deviation, which are shown as they truly are."
        )
        save(pictures_figure(blocks, notes=[note]), planned.summary / "pictures")


def _described(planned: Plan) -> dict[str, Any]:
    axes = {key: list(values) for key, values in planned.preset.axes.items()}
    return {
        "preset": planned.preset_name,
        "axes": axes,
        "seeds": planned.preset.seeds,
        "base": plain(planned.preset.base),
    }


def _sources(planned: Plan) -> dict[str, Any]:
    """Returns what the runs' provenance files have in common, and the sum of their cost; those upstream count."""
    found = []
    for run in planned.all:
        file = planned.folder(run).path / "provenance.json"
        if planned.folder(run).result() is not None and file.exists():
            found.append(json.loads(file.read_text()))
    keys = ("commit", "dirty", "lock_sha256", "versions", "device", "devices", "precision", "attention", "command")
    merged = {key: _distinct(item.get(key) for item in found) for key in keys}
    results = [result for run in planned.all if (result := planned.folder(run).result())]
    data = {key: _distinct(result.get(key) for result in results) for key in ("data_sha256", "subset_sha256")}
    hours = round(sum(float(item.get("device_hours", 0)) for item in found), 4)
    return {"runs": len(results), "device_hours": hours, **merged, **data}


def _distinct(values: Iterable[Any]) -> Any:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found[0] if len(found) == 1 else found


def _markdown(planned: Plan, rows: Sequence[SummaryRow], verdicts: Sequence[Verdict], cost: str) -> str:
    head = (
        f"# {planned.experiment.name}, preset {planned.preset_name}{planned.changed}\n\n{planned.experiment.question}\n"
    )
    shown = [name for name in planned.experiment.tables if any(row.metric == name for row in rows)]
    across = planned.experiment.settings[-1]
    if max((len({row.setting[across] for row in rows if row.metric == name}) for name in shown), default=0) > WIDEST:
        tables = [f"## Results\n\n{to_lines(rows, shown)}"]
    else:
        units = {row.metric: "%" if row.unit == "fraction" else row.unit for row in rows}
        tables = [f"## {name.replace('_', ' ')} [{units[name]}]\n\n{to_markdown(rows, name, across)}" for name in shown]
    return "\n".join([head, *tables, f"## Verdicts\n\n{verdicts_to_markdown(verdicts)}", *([cost] if cost else [])])


def _help(experiment: Experiment) -> str:
    presets = "\n".join(
        f"  {name:<8} {len(grid(experiment, name, preset))} runs; {preset.cost}"
        for name, preset in experiment.presets.items()
    )
    return (
        f"{experiment.question}\n\nusage: python -m experiments.{experiment.name} [--preset={experiment.default}] "
        f"[--key=value[,value ...] ...]\n\npresets:\n{presets}\n\nthe experiment:\n{describe(Choice)}\n\n"
        f"a run (several values, separated by commas, make an axis of the grid):\n{describe(RunConfig)}\n\n"
        f"where and how:\n{describe(Launch)}"
    )
