"""Calls probes by name. A file of this package is a probe if it defines one of these functions:

    measure(model, images, normalise) -> {metric: (value, unit)}    images uint8 `[N, 3, S, S]`, the first of `test`
    measure_features(features, classes) -> {metric: (value, unit)}    frozen features of all splits, extracted once
    measure_task(task, module) -> {metric: (value, unit)}    task in eval mode; images by `images.first_images`
    measure_start(task, module) -> {metric: (value, unit)}    before the first step, with the initial weights
    measure_meter(seconds) -> {metric: (value, unit)}    seconds of the run by phase, over all resumptions
    check(model, image_size)    optional: raises UserError before training if the probe cannot measure this model

A file may define `measure_start` and one of the others. Every rank calls these functions and must get the same result.
Legend: N images, S their side [pixels].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from vision_repro import catalogue
from vision_repro.config import UserError, nearest
from vision_repro.probes.features import Frozen
from vision_repro.probes.images import first_images
from vision_repro.store.measurements import IMAGES


def names() -> list[str]:
    """Returns the names of all probes."""
    return list(catalogue.probes())


def find(name: str) -> Any:
    """Returns the module of a probe.

    Raises:
        UserError: for an unknown name; the message suggests the nearest.
    """
    known = catalogue.probes()
    if name not in known:
        raise UserError(f'--probes="{name}" is unknown: expected one of {", ".join(known)}.{nearest(name, known)}')
    return known[name]


def check(wanted: Sequence[str], model: nn.Module, image_size: int) -> None:
    """Refuses early what the probes would refuse after training; the model may be on the meta device.

    Raises:
        UserError: for an unknown probe, or one that cannot measure this model.
    """
    for name in wanted:
        probe = find(name)
        if hasattr(probe, "check"):
            probe.check(model, image_size)


def measure_weights(name: str, task: Any, module: Any, frozen: Frozen) -> dict[str, tuple[float, str]]:
    """Returns what a probe measures from the weights that are tested.

    Every rank computes the same, as all ranks get the same images and features.
    """
    probe = find(name)
    task.eval()
    found: dict[str, tuple[float, str]] = {}
    if hasattr(probe, "measure"):
        found = probe.measure(task.model, first_images(module, "test", IMAGES).images, task.normalise)
    elif hasattr(probe, "measure_features"):
        found = probe.measure_features(frozen.all(), module.classes)
    elif hasattr(probe, "measure_task"):
        found = probe.measure_task(task, module)
    return found


def measure_initial_weights(name: str, task: Any, module: Any) -> dict[str, tuple[float, str]]:
    """Returns what a probe with `measure_start` measures before the first step; random generators keep their state.

    A resumed run measures the same again, because its initial weights follow from its seed.
    """
    probe = find(name)
    if not hasattr(probe, "measure_start"):
        return {}
    # Only the task's device: forking the generators of all GPUs would initialise each of them and write a warning.
    with torch.random.fork_rng([task.device] if task.device.type == "cuda" else []):
        found: dict[str, tuple[float, str]] = probe.measure_start(task, module)
    return found


def measure_seconds(name: str, seconds: Mapping[str, float]) -> dict[str, tuple[float, str]]:
    """Returns what a probe with `measure_meter` computes from the seconds of a run by phase."""
    probe = find(name)
    found: dict[str, tuple[float, str]] = probe.measure_meter(seconds) if hasattr(probe, "measure_meter") else {}
    return found
