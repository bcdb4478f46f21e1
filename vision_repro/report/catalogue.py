"""What can be run: every experiment with its question, presets, claims and deviations, from its own file.

`vision_repro.catalogue` finds the files; here they are read for the report.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vision_repro.catalogue import experiment, experiments
from vision_repro.config import UserError


@dataclass(frozen=True)
class Scale:
    """One preset: what it costs in words, its number of runs, its data, and whether it can be evidence."""

    name: str
    cost: str
    runs: int
    dataset: str
    evidence: bool
    command: str


@dataclass(frozen=True)
class Entry:
    """One experiment; `facts` are headed lines of its docstring (paper, cost, ...), `claims` (statement, source)."""

    name: str
    question: str
    facts: Mapping[str, str]
    deviations: tuple[str, ...]
    scales: tuple[Scale, ...]
    default: str
    claims: tuple[tuple[str, str], ...]

    def scale(self, preset: str) -> Scale | None:
        """Returns the preset of a name, or None."""
        return next((scale for scale in self.scales if scale.name == preset), None)


def catalogue(package: str = "experiments") -> tuple[list[Entry], list[str]]:
    """Returns all experiments of the package by name, and a line for each file that cannot be one."""
    try:
        names = experiments(package)
    except UserError:
        return [], [f"There is no package {package} here: what was not run is not listed; start in the repository."]
    entries, warnings = [], []
    for name in names:
        try:
            entries.append(_entry(name, experiment(name, package)))
        except Exception as error:  # one broken experiment must not take the report of all others with it
            text = str(error).splitlines()[0] if str(error) else ""
            warnings.append(f"The experiment {name} cannot be listed ({type(error).__name__}: {text}).")
    return entries, warnings


def _entry(name: str, module: Any) -> Entry:
    found = module.EXPERIMENT
    facts, deviations = parse_header(module.__doc__ or "")
    default = str(found.default)
    claims = found.claims(default, found.presets[default])
    return Entry(
        name=name,
        question=str(found.question),
        facts=facts,
        deviations=deviations,
        scales=tuple(_scale(name, key, preset) for key, preset in found.presets.items()),
        default=default,
        claims=tuple((str(claim.statement), str(claim.source)) for claim in claims),
    )


def _scale(experiment: str, name: str, preset: Any) -> Scale:
    sizes = [len(levels) for key, levels in preset.axes.items()]
    seeds = 1 if "seed" in preset.axes else preset.seeds
    dataset = ", ".join(map(str, preset.axes.get("dataset", (getattr(preset.base, "dataset", ""),))))
    command = f"make exp-{experiment.replace('_', '-')} PRESET={name}"
    return Scale(name, str(preset.cost), seeds * math.prod(sizes), dataset, bool(preset.evidence), command)


def parse_header(text: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Returns the headed lines (`cost      five minutes`) and the deviations of an experiment's docstring.

    A headed line goes on in lines that are indented further; a deviation goes on in indented lines.
    """
    facts: dict[str, str] = {}
    deviations: list[str] = []
    current = ""
    for line in text.splitlines()[1:]:
        head = re.match(r"([a-z]+)\s{2,}(\S.*)", line)
        if head:
            current = head[1]
            facts[current] = head[2].strip()
        elif line.startswith("Deviation:"):
            current = "Deviation"
            deviations.append(line.removeprefix("Deviation:").strip())
        elif line.startswith((" ", "\t")) and current:
            if current == "Deviation":
                deviations[-1] += f" {line.strip()}"
            else:
                facts[current] += f" {line.strip()}"
        else:
            current = ""
    return facts, tuple(deviations)
