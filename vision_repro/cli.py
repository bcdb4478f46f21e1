"""The command line of an experiment: options -> plan -> engine -> conclusion."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from vision_repro.conclude import conclude, conclude_trial
from vision_repro.config import Launch, RunConfig, Scalar, UserError, describe, nearest, parse_options, single
from vision_repro.experiment import Experiment, Plan, Preset, grid, linked
from vision_repro.launch import slurm, wandb_report
from vision_repro.launch.session import do_runs
from vision_repro.training import precision
from vision_repro.training.device import quiet_threads, resolve_accelerator

LONGEST_SUFFIX = 160
"""Longest part of a folder's name that says what differs from a preset [bytes]; file systems take names of 255."""


@dataclass(frozen=True)
class Choice:
    """Options of the command line that are neither the run's nor the launch's."""

    preset: str = field(default="", metadata={"help": "scale of the experiment"})
    seeds: int | None = field(default=None, metadata={"help": "number of seeds, 0 .. seeds - 1"})


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
    arithmetic = precision.automatic(_accelerator(launch))
    runs, upstream = linked(experiment, name, changed, arithmetic)
    return Plan(experiment, name, changed, _suffix(preset, values, seeds), runs, launch, upstream, arithmetic)


def _accelerator(launch: Launch) -> str:
    """Returns the kind of device that the runs will go to, here or in the jobs of a cluster."""
    if launch.engine == "local" and not (launch.dry_run and launch.accelerator == "gpu"):
        return resolve_accelerator(launch.accelerator)
    there = launch.accelerator == "auto" and launch.engine == "slurm" and slurm.has_gpus(launch.partition)
    return "gpu" if there or launch.accelerator == "gpu" else "cpu"


def _suffix(preset: Preset, values: Mapping[str, list[Scalar]], seeds: Scalar) -> str:
    """Returns a readable name for what differs from the preset, so that no changed run overwrites its results.

    A name too long for a file system ends in a hash of all of it.
    """
    words = [f"{key}={'+'.join(map(str, given))}" for key, given in sorted(values.items())]
    if seeds is not None and seeds != preset.seeds:
        words.append(f"seeds={seeds}")
    text = "".join(f",{word}" for word in words).replace("/", "_").replace(" ", "+")
    if len(text.encode()) <= LONGEST_SUFFIX:
        return text
    start = text.encode()[: LONGEST_SUFFIX - 13].decode(errors="ignore")
    return f"{start},{hashlib.sha256(text.encode()).hexdigest()[:12]}"


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
        from vision_repro.launch.estimate import estimate  # imports torch, which takes seconds

        unique = planned.unique
        print(estimate([run for run in unique if planned.folder(run).result() is None], len(unique)))
        return 0
    code, writes = do_runs(planned)
    if writes and any(planned.folder(run).outcome() for run in planned.runs):
        if "WANDB_SWEEP_ID" in os.environ:
            conclude_trial(planned)
            return code
        conclude(planned)
        if planned.launch.wandb_report:
            wandb_report.log(planned.summary, enabled=planned.launch.wandb != "off")
    return code


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
