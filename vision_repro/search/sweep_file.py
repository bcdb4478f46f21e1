"""Reads W&B sweep files, and prints the grid of a preset as one: `python -m vision_repro.search.sweep_file EXPERIMENT`.

A trial of a grid is one run. Its parameters are the axes of the grid and the seed; the preset sets the other options.
`sweeps/<experiment>.yaml` holds the grid of the default preset. Print the grid of another preset when you need it, for
`wandb sweep` or `make sweep`: `make sweep-file EXP=depth PRESET=gpu > depth_gpu.yaml`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vision_repro.catalogue import experiment as find_experiment
from vision_repro.config import UserError, describe, nearest, option, parse_single
from vision_repro.experiment import Experiment


@dataclass(frozen=True)
class Options:
    """Options of the command line."""

    preset: str = option("", "the preset whose grid is printed; the experiment's default preset if empty")


@dataclass(frozen=True)
class Sweep:
    """A sweep: the experiment, its grid as command-line tokens, and the metric that ranks its trials.

    `spec` is W&B's specification; the tokens of a search hold only its constant parameters.
    """

    name: str
    experiment: Experiment
    tokens: tuple[str, ...]
    axes: tuple[str, ...]
    metric: str
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def searched(self) -> bool:
        """Whether trials are suggested one by one, because they depend on other trials or on chance."""
        return self.spec["method"] != "grid" or "early_terminate" in self.spec

    @property
    def goal(self) -> str:
        """`maximize` or `minimize`; W&B's default is `minimize`."""
        return str(self.spec.get("metric", {}).get("goal", "minimize"))


def read(file: Path) -> Sweep:
    """Returns the sweep that a W&B sweep file describes.

    Raises:
        UserError: if the file is missing or is not the sweep file of an experiment.
    """
    try:
        found = yaml.safe_load(file.read_text())
    except OSError as error:
        raise UserError(
            f'"{file}" cannot be read ({error.strerror}): expected a sweep file such as sweeps/data_scaling.yaml.'
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UserError(f'"{file}" is not YAML: expected a W&B sweep file.') from None
    try:
        name = _experiment_name(found["command"])
        method, metric = str(found["method"]), str(found.get("metric", {}).get("name", "val_accuracy"))
        parameters = {str(name): dict(entry) for name, entry in found["parameters"].items()}
        constant = method == "grid" and "early_terminate" not in found
        tokens = {name: _values(entry) for name, entry in parameters.items() if constant or "value" in entry}
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(
            f'"{file}" is not a sweep file: expected method, command (python -m experiments.name) and parameters.'
        ) from None
    if not parameters:
        raise UserError(f'"{file}" has no parameters: expected at least one.')
    axes = tuple(
        name for name, entry in parameters.items() if "value" not in entry and len(entry.get("values", "..")) > 1
    )
    words = tuple(f"--{name}={','.join(map(str, values))}" for name, values in tokens.items())
    try:
        experiment = find_experiment(name).EXPERIMENT
    except UserError as error:
        raise UserError(f'"{file}" cannot be started. {error}') from None
    return Sweep(file.stem, experiment, words, axes, metric, found)


def _experiment_name(command: Sequence[str]) -> str:
    """Returns the name of the experiment in the command of a sweep; raises ValueError if there is none."""
    package, _, name = str(command[command.index("-m") + 1]).partition(".")
    if package != "experiments":
        raise ValueError(package)
    return name


def _values(entry: Mapping[str, Any]) -> list[Any]:
    return list(entry["values"]) if "values" in entry else [entry["value"]]


def grid_text(experiment: Experiment, preset_name: str) -> str:
    """Returns the sweep file of a preset's grid."""
    preset = experiment.presets[preset_name]
    short = "" if preset_name == experiment.default else f" PRESET={preset_name}"
    verb = f"make exp-{experiment.name.replace('_', '-')}{short}"
    axes: dict[str, list[Any]] = {} if "seed" in preset.axes else {"seed": list(range(preset.seeds))}
    axes |= {name: list(values) for name, values in preset.axes.items()}
    parameters = {"preset": {"value": preset_name}, **{name: {"values": values} for name, values in axes.items()}}
    found = {
        "name": file_stem(experiment, preset_name),
        "method": "grid",
        "metric": {"name": "test_accuracy", "goal": "maximize"},
        "command": ["${env}", "python", "-m", f"experiments.{experiment.name}", "${args}"],
        "parameters": parameters,
    }
    first = f"# The grid of {verb}: the same runs with the same ids, one a trial.\n"
    return first + yaml.safe_dump(found, sort_keys=False)


def file_stem(experiment: Experiment, preset_name: str) -> str:
    """Returns the name of a preset's sweep: the file name without its extension."""
    return experiment.name if preset_name == experiment.default else f"{experiment.name}_{preset_name}"


def named_grid(name: str, preset_name: str = "") -> str:
    """Returns the sweep file of an experiment's preset, by default its default preset; "-" in the name means "_".

    Raises:
        UserError: if there is no such experiment or preset.
    """
    experiment: Experiment = find_experiment(name.replace("-", "_")).EXPERIMENT
    chosen = preset_name or experiment.default
    if chosen not in experiment.presets:
        known = ", ".join(experiment.presets)
        hint = nearest(chosen, experiment.presets)
        raise UserError(f'{experiment.name} has no preset "{chosen}": expected one of {known}.{hint}')
    return grid_text(experiment, chosen)


def main(tokens: Sequence[str]) -> int:
    """Prints the sweep file of one experiment and preset; returns the exit code (0 done, 2 invalid input)."""
    if "--help" in tokens or "-h" in tokens:
        print(f"{__doc__}\n{describe(Options)}")
        return 0
    try:
        names = [word for word in tokens if not word.startswith("--")]
        options = Options(**parse_single([word for word in tokens if word.startswith("--")], Options))
        if len(names) != 1:
            raise UserError(f"Expected one experiment, such as data_scaling, but got {len(names)}.")
        print(named_grid(names[0], options.preset), end="")
    except UserError as error:
        print(f"sweep-file: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
