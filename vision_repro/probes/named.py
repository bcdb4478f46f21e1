"""Probes by name: a file of this package with one of these functions is one; a run carries it out on its weights.

    measure(model, images, normalise) -> {metric: (value, unit)}    images uint8 `[N, 3, S, S]`, as `test` has them
    measure_features(features, classes) -> {metric: (value, unit)}    frozen features of all splits, extracted once
    measure_task(task, module) -> {metric: (value, unit)}    with the tested weights, in eval mode; data by `first`
    measure_start(task, module) -> {metric: (value, unit)}    before the first step, with the weights as they are drawn
    measure_meter(seconds) -> {metric: (value, unit)}    of the run's own meter: seconds by phase, over all resumptions
    check(model, image_size)    optional: raises UserError, before anything is trained, for a model it cannot look into

A file may have `measure_start` beside one of the others. Every rank calls them and must find the same.
Legend: N images, S their side [pixels].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vision_repro import catalogue
from vision_repro.augmentation.batch import Batch
from vision_repro.config import UserError, nearest
from vision_repro.probes.features import Frozen, in_order
from vision_repro.store.measurements import IMAGES


def names() -> list[str]:
    """Returns the names of all probes."""
    return list(catalogue.probes())


def find(name: str) -> Any:
    """Returns the module of a probe.

    Raises:
        UserError: for an unknown name, with the nearest.
    """
    known = catalogue.probes()
    if name not in known:
        raise UserError(f'--probes="{name}" is unknown: expected one of {", ".join(known)}.{nearest(name, known)}')
    return known[name]


def check(wanted: Sequence[str], model: nn.Module, image_size: int) -> None:
    """Refuses early what `measure` would refuse; the model may be without storage.

    Raises:
        UserError: for an unknown probe, or one that cannot look into the model.
    """
    for name in wanted:
        probe = find(name)
        if hasattr(probe, "check"):
            probe.check(model, image_size)


def measure(name: str, task: Any, module: Any, frozen: Frozen) -> dict[str, tuple[float, str]]:
    """Returns what a probe finds: in frozen features, in the task, or in float32 on the first test images.

    Every rank computes the same, as all of them see the same images and features.
    """
    probe = find(name)
    task.eval()
    found: dict[str, tuple[float, str]] = {}
    if hasattr(probe, "measure"):
        found = probe.measure(task.model, first_images(module, IMAGES), task.normalise)
    elif hasattr(probe, "measure_features"):
        found = probe.measure_features(frozen.all(), module.classes)
    elif hasattr(probe, "measure_task"):
        found = probe.measure_task(task, module)
    return found


def measure_start(name: str, task: Any, module: Any) -> dict[str, tuple[float, str]]:
    """Returns what a probe with `measure_start` finds before the first step; the state of the random numbers is kept.

    A run that is continued finds the same again, as its first weights follow from its seed.
    """
    probe = find(name)
    if not hasattr(probe, "measure_start"):
        return {}
    # Of its own device only: the generators of all others would be woken up, and a warning written.
    with torch.random.fork_rng([task.device] if task.device.type == "cuda" else []):
        found: dict[str, tuple[float, str]] = probe.measure_start(task, module)
    return found


def measure_meter(name: str, seconds: Mapping[str, float]) -> dict[str, tuple[float, str]]:
    """Returns what a probe with `measure_meter` makes of the meter's seconds by phase."""
    probe = find(name)
    found: dict[str, tuple[float, str]] = probe.measure_meter(seconds) if hasattr(probe, "measure_meter") else {}
    return found


def first(module: Any, split: str, count: int) -> Batch:
    """Returns the first `count` images of a split, or all if it has fewer, in its order, the same on every rank.

    `split` is "train" (the images that the run trains on, without augmentation), "val" or "test"; images uint8
    `[N, 3, S, S]` and labels int64 `[N]`, on the CPU. Every rank must call it.
    """
    loader = {"train": "pool_dataloader", "val": "val_dataloader", "test": "test_dataloader"}[split]
    share = -(-count // module.world)
    parts: list[Batch] = []
    for batch in getattr(module, loader)():
        parts.append(Batch(batch.images.cpu(), batch.labels.cpu()))
        if sum(len(part.labels) for part in parts) >= share:
            break
    whole = (torch.cat([part[index] for part in parts])[:share] for index in range(2))
    images, labels = (in_order(module.world, part)[:count] for part in whole)
    return Batch(images, labels)


def first_images(module: Any, count: int) -> Tensor:
    """Returns the first `count` images of `test`, or all if it has fewer, uint8 `[N, 3, S, S]`, on every rank."""
    return first(module, "test", count).images
