"""Measurements: numbers read from the weights of a run, one sealed file each, beside these weights.

A measurement has a name and options of its own, so that asking for another one measures and trains nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vision_repro.config import FRESH, RunConfig, Scalar

ACCURACY = "accuracy"
FEW_SHOT = "few_shot"
IMAGES = 128
"""Test images that a probe of images sees, the first ones (as many as ViT, section D.7, averages over)."""
Metrics = Mapping[str, tuple[float | None, str]]
"""Metric -> (value, unit); a value of None is one that a diverged run does not have."""


@dataclass(frozen=True)
class Measurement:
    """What is measured: the name (`accuracy`, `few_shot` or a probe) and its options, sorted by name."""

    name: str
    options: tuple[tuple[str, Scalar], ...] = ()

    @property
    def file(self) -> str:
        """Name of its file: its own name and 8 hex digits of the hash of its options."""
        text = json.dumps(self.options, separators=(",", ":"))
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"

    @property
    def arrays(self) -> str:
        """Name of the file of its arrays, for a measurement that has any."""
        return self.file.removesuffix(".json") + ".npz"

    def option(self, name: str) -> Scalar:
        """Returns the value of an option."""
        return dict(self.options)[name]


def wanted(config: RunConfig) -> tuple[Measurement, ...]:
    """Returns what a config asks to be measured of the weights of its run, in the order of the table's rows."""
    found = []
    if config.objective == "supervised" and config.weights != FRESH:
        found.append(Measurement(ACCURACY, (("views", config.views),)))
    for shots in config.shot_counts:
        found.append(Measurement(FEW_SHOT, (("draws", config.draws), ("shots", shots), ("views", config.views))))
    for name in config.probe_names:
        found.append(Measurement(name, (("images", IMAGES), ("views", config.views))))
    return tuple(found)


def diverged_metrics(config: RunConfig) -> dict[str, tuple[None, str]]:
    """Returns the metrics of a diverged run: named, without a value."""
    names = ["test_accuracy", "val_accuracy", *(f"few_shot_{shots}" for shots in config.shot_counts)]
    return {name: (None, "fraction") for name in names}


def cells(metrics: Metrics) -> dict[str, Any]:
    """Returns metrics as they stand in a file: metric -> {"value": ..., "unit": ...}."""
    return {name: {"value": value, "unit": unit} for name, (value, unit) in metrics.items()}
