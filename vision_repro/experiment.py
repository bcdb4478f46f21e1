"""An experiment: presets, grid and claims; which runs a preset has, and what those need. Pure: no files, no torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vision_repro.analysis.claims import Claim, Verdict
from vision_repro.config import RUN, Launch, RunConfig, Scalar, UserError, run_id
from vision_repro.store.measurements import Measurement, wanted
from vision_repro.store.runs import RUNS, RunFolder
from vision_repro.store.table import TableSpec


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
    """What one command asks for: the runs, the preset as it was changed, and where everything goes.

    `arithmetic` is what `--precision=auto` stands for on the device of the runs.
    """

    experiment: Experiment
    preset_name: str
    preset: Preset
    changed: str
    runs: tuple[RunConfig, ...]
    launch: Launch
    upstream: tuple[RunConfig, ...] = ()
    arithmetic: str = "fp32"

    @property
    def all(self) -> tuple[RunConfig, ...]:
        """The runs of the table and those upstream of them, each after what it needs."""
        return (*self.upstream, *self.runs)

    @property
    def unique(self) -> tuple[RunConfig, ...]:
        """The runs to train, each id once, after what it needs."""
        return tuple({run_id(run): run for run in reversed(self.all)}.values())[::-1]

    @property
    def measurements(self) -> dict[str, tuple[Measurement, ...]]:
        """What is measured of each run, by its id: what its rows of the table ask for; upstream nothing is."""
        found: dict[str, dict[Measurement, None]] = {run_id(run): {} for run in self.upstream}
        for run in self.runs:
            found.setdefault(run_id(run), {}).update(dict.fromkeys(wanted(run)))
        return {name: tuple(each) for name, each in found.items()}

    @property
    def store(self) -> Path:
        """The folder of all runs, which experiments share."""
        return Path(self.launch.out) / RUNS

    @property
    def root(self) -> Path:
        """The folder of the experiment's tables and figures."""
        return Path(self.launch.out) / self.experiment.name

    @property
    def summary(self) -> Path:
        """The folder of table, figure and verdicts: the preset's, or one named after what was changed."""
        return self.root / (self.preset_name + self.changed)

    def folder(self, config: RunConfig) -> RunFolder:
        """Returns the folder of a run."""
        return RunFolder(self.store, config)

    @property
    def spec(self) -> TableSpec:
        """What heads the table."""
        return TableSpec(self.experiment.name, self.preset_name, self.experiment.settings)


def grid(experiment: Experiment, name: str, preset: Preset, arithmetic: str = "fp32") -> tuple[RunConfig, ...]:
    """Returns the runs of a preset: seed by seed, so that an early stop leaves whole seeds."""
    return linked(experiment, name, preset, arithmetic)[0]


def linked(
    experiment: Experiment, name: str, preset: Preset, arithmetic: str = "fp32"
) -> tuple[tuple[RunConfig, ...], tuple[RunConfig, ...]]:
    """Returns the runs of a preset, and the runs that must be done before them, each once and after what it needs.

    `arithmetic` is what `--precision=auto` stands for on the device at hand. Points of the grid that differ only in
    what they measure share a run.
    """
    found: dict[str, RunConfig] = {}
    runs = tuple(_link(experiment, name, run, arithmetic, found) for run in _points(experiment, name, preset))
    ids = {run_id(run) for run in runs}
    return runs, tuple(run for key, run in found.items() if key not in ids)


def _link(experiment: Experiment, name: str, run: RunConfig, arithmetic: str, found: dict[str, RunConfig]) -> RunConfig:
    """Returns `run` with its arithmetic and the ids of what it needs; puts that, linked itself, into `found`."""

    def need(other: RunConfig) -> str:
        other = _link(experiment, name, other, arithmetic, found)
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
    return replace(run, precision=arithmetic) if run.precision == "auto" else run


def _points(experiment: Experiment, name: str, preset: Preset) -> list[RunConfig]:
    names = list(preset.axes)
    points = itertools.product(range(preset.seeds) if "seed" not in names else (None,), *preset.axes.values())
    runs = []
    for seed, *values in points:
        chosen: dict[str, Any] = dict(zip(names, values, strict=True))
        if seed is not None:
            chosen["seed"] = seed
        run = replace(preset.base, **chosen)
        if not preset.skip(run):
            runs.append(experiment.fill_defaults(name, run))
            if runs[-1].variant:
                raise UserError(f'--variant="{runs[-1].variant}" is unknown to {experiment.name}: see its --help.')
    return runs
