"""W&B sweep files: read, and written for the grids of the presets: `python -m vision_repro.search.sweep_file NAME ...`.

The file of a preset is `sweeps/<experiment>_<preset>.yaml`, that of the default preset `sweeps/<experiment>.yaml`. A
trial is one run: the parameters are the axes of the grid and the seed, the preset gives the rest.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vision_repro.config import UserError
from vision_repro.experiment import Experiment
from vision_repro.store.atomic import write_atomic


@dataclass(frozen=True)
class Sweep:
    """A sweep: the experiment, its grid as command-line tokens, and the metric that ranks its trials.

    `spec` is W&B's specification; the tokens of a search hold its constant parameters only.
    """

    name: str
    experiment: Experiment
    tokens: tuple[str, ...]
    axes: tuple[str, ...]
    metric: str
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def searched(self) -> bool:
        """Whether the trials depend on what others measured, or on chance: they are suggested one by one."""
        return self.spec["method"] != "grid" or "early_terminate" in self.spec

    @property
    def goal(self) -> str:
        """`maximize` or `minimize`; W&B's own default is the latter."""
        return str(self.spec.get("metric", {}).get("goal", "minimize"))


def read(file: Path) -> Sweep:
    """Returns the sweep that a W&B sweep file describes.

    Raises:
        UserError: if the file is missing or is no sweep file of an experiment.
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
        method, metric = str(found["method"]), str(found.get("metric", {}).get("name", "val_accuracy"))
        parameters = {str(name): dict(entry) for name, entry in found["parameters"].items()}
        constant = method == "grid" and "early_terminate" not in found
        tokens = {name: _values(entry) for name, entry in parameters.items() if constant or "value" in entry}
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(
            f'"{file}" is no sweep file: expected method, command (python -m experiments.name) and parameters.'
        ) from None
    if not parameters:
        raise UserError(f'"{file}" has no parameters: expected at least one that is varied.')
    axes = tuple(
        name for name, entry in parameters.items() if "value" not in entry and len(entry.get("values", "..")) > 1
    )
    words = tuple(f"--{name}={','.join(map(str, values))}" for name, values in tokens.items())
    try:
        experiment = importlib.import_module(module).EXPERIMENT
    except ImportError:
        raise UserError(f'"{file}" starts {module}, which is not here: start in the repository.') from None
    return Sweep(file.stem, experiment, words, axes, metric, found)


def _module(command: Sequence[str]) -> str:
    name = str(command[command.index("-m") + 1])
    if not name.startswith("experiments."):
        raise ValueError(name)
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
    """Returns the name of the sweep file of a preset, without its ending."""
    return experiment.name if preset_name == experiment.default else f"{experiment.name}_{preset_name}"


def main(names: Sequence[str]) -> int:
    """Writes the sweep files of the experiments that are named, one a preset; returns the exit code."""
    for name in names:
        experiment = importlib.import_module(f"experiments.{name}").EXPERIMENT
        for preset_name in experiment.presets:
            file = Path("sweeps") / f"{file_stem(experiment, preset_name)}.yaml"
            write_atomic(file, grid_text(experiment, preset_name))
            print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
