"""Probes by name: a file of this package with `measure` or `of_features` is one; a run carries it out on its weights.

    measure(model, images, normalise) -> {metric: (value, unit)}    images uint8 `[N, 3, S, S]`, as `test` has them
    of_features(features, classes) -> {metric: (value, unit)}    frozen features of all splits, extracted once for all
    check(model, image_size)    optional: raises UserError, before anything is trained, for a model it cannot look into

Legend: N images, S their side [pixels].
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vision_repro import probes
from vision_repro.config import UserError, nearest
from vision_repro.probes.features import Frozen, in_order

IMAGES = 128
"""Test images that a probe sees, the first ones (as many as ViT, section D.7, averages over)."""


def names() -> list[str]:
    """Returns the names of all probes."""
    return [name for name in _files() if _is_probe(name)]


def _is_probe(name: str) -> bool:
    return hasattr(_module(name), "measure") or hasattr(_module(name), "of_features")


def _files() -> list[str]:
    found = [item.name for item in pkgutil.iter_modules(probes.__path__) if not item.ispkg]
    return [name for name in found if f"{probes.__name__}.{name}" != __name__]


def _module(name: str) -> Any:
    return importlib.import_module(f"{probes.__name__}.{name}")


def find(name: str) -> Any:
    """Returns the module of a probe.

    Raises:
        UserError: for an unknown name, with the nearest.
    """
    if name not in _files() or not _is_probe(name):
        known = names()
        raise UserError(f'--probes="{name}" is unknown: expected one of {", ".join(known)}.{nearest(name, known)}')
    return _module(name)


def check(wanted: Sequence[str], model: nn.Module, image_size: int) -> None:
    """Refuses early what `measure` would refuse; the model may be without storage.

    Raises:
        UserError: for an unknown probe, or one that cannot look into the model.
    """
    for name in wanted:
        probe = find(name)
        if hasattr(probe, "check"):
            probe.check(model, image_size)


def measure(wanted: Sequence[str], task: Any, module: Any, frozen: Frozen) -> dict[str, tuple[float, str]]:
    """Returns what the probes find: in frozen features, or in float32 in the task's model on the first test images.

    Every rank computes the same, as all of them see the same images and features.
    """
    probes = [find(name) for name in wanted]
    task.eval()
    images = first_images(module, IMAGES) if any(hasattr(probe, "measure") for probe in probes) else None
    found: dict[str, tuple[float, str]] = {}
    for probe in probes:
        if hasattr(probe, "measure"):
            found.update(probe.measure(task.model, images, task.normalise))
        else:
            found.update(probe.of_features(frozen.all(), module.classes))
    return found


def first_images(module: Any, count: int) -> Tensor:
    """Returns the first `count` images of `test`, or all if it has fewer, uint8 `[N, 3, S, S]`, on every rank."""
    share = -(-count // module.world)
    parts: list[Tensor] = []
    for batch in module.test_dataloader():
        parts.append(batch.images.cpu())
        if sum(map(len, parts)) >= share:
            break
    return in_order(module.world, torch.cat(parts)[:share])[:count]
