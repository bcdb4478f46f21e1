"""Presets by scale: how many seeds a scale has, and the line that says what it costs.

`time` is such as `about 5 minutes`, `axes` such as `{"model": (...), "train_size": (...)}`; what else a preset has
(`skip`) is passed on. The base names the first model of the axes, so that it is the config of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vision_repro.config import RunConfig, Scalar
from vision_repro.experiment import Preset

Axes = Mapping[str, tuple[Scalar, ...]]
DIGITS_DATA = "scikit-learn's digits, offline"
GPU_DATA = "CIFAR-10, or ARGS=--dataset=cifar100"


def _preset(base: RunConfig, axes: Axes, seeds: int, cost: str, **more: Any) -> Preset:
    model = next(iter(axes.get("model", ())), base.model)
    return Preset(replace(base, model=str(model)), axes, seeds, cost, **more)


def smoke(base: RunConfig, axes: Axes, *, skip: Callable[[RunConfig], bool] | None = None, **own: Any) -> Preset:
    """Returns two steps of every run on 40 images; `own` are further fields of the config."""
    fields: dict[str, Any] = {"steps": 2, "evaluations": 1, "train_size": 40, **own}
    more = {} if skip is None else {"skip": skip}
    cost = "seconds; shows that everything works, never evidence"
    return _preset(replace(base, **fields), axes, 1, cost, evidence=False, **more)


def cpu(base: RunConfig, axes: Axes, time: str, *, data: str = DIGITS_DATA, **more: Any) -> Preset:
    """Returns five seeds, for minutes on two cores with data that ships with the dependencies."""
    return _preset(base, axes, 5, f"{time} on two cores; {data}", **more)


def real(base: RunConfig, axes: Axes, time: str, *, seeds: int = 3, data: str = "CIFAR-10", **more: Any) -> Preset:
    """Returns three seeds, for real images on two cores."""
    return _preset(base, axes, seeds, f"{time} on two cores; {data}", **more)


def gpu(
    base: RunConfig, axes: Axes, time: str = "about an hour", *, seeds: int = 5, data: str = GPU_DATA, **more: Any
) -> Preset:
    """Returns five seeds, for one GPU."""
    return _preset(base, axes, seeds, f"{time} on one GPU; {data}", **more)


def paper(base: RunConfig, axes: Axes, hours: str, data: str, *, seeds: int = 1, **more: Any) -> Preset:
    """Returns the paper's own scale, for many GPUs."""
    return _preset(base, axes, seeds, f"{hours} GPU-hours; {data} (see --dry-run)", **more)
