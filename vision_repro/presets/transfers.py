"""The grid of a transfer: models x pre-trainings x data sets downstream, and what of it can be compared.

A start is a pre-training (`stages.parse`), `scratch` or empty; a model `timm:<tag>` brings its own weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vision_repro.config import RunConfig
from vision_repro.experiment import Preset
from vision_repro.models.families import family
from vision_repro.presets import captions, stages

SCRATCH, TIMM = "scratch", "timm:"


def parse(start: str) -> stages.Start | None:
    """Returns the pre-training that a start names; None for `scratch` and the empty one.

    Raises:
        UserError: for any other word.
    """
    return None if start in ("", SCRATCH) else stages.parse(start, example="cifar10@1000", also=SCRATCH)


def grid(models: Sequence[str], starts: Sequence[str], datasets: Sequence[str], again: bool = False) -> dict[str, Any]:
    """Returns the axes of a preset and which points are left out (`left_out`), as its options."""
    axes = {"model": tuple(models), "pretraining": tuple(starts), "dataset": tuple(datasets)}
    return {"axes": axes, "skip": partial(left_out, starts=tuple(starts), again=again)}


def left_out(config: RunConfig, starts: Sequence[str], again: bool = False) -> bool:
    """Returns whether a point of the grid is not run: a data set after itself, unless `again`; timm's weights twice."""
    if config.model.startswith(TIMM):
        return config.pretraining in starts[1:]
    first = parse(config.pretraining)
    return first is not None and first.dataset == config.dataset and not again


def upstream(preset: Preset) -> list[str]:
    """Returns the starts of a preset that are pre-trainings, in its order: by how much they see."""
    return [str(start) for start in preset.axes["pretraining"] if parse(str(start)) is not None]


def own_models(preset: Preset) -> list[str]:
    """Returns the models that are pre-trained here, so not timm's."""
    return [model for model in captions.models(preset) if not model.startswith(TIMM)]


def judged_on(preset: Preset) -> list[str]:
    """Returns the data sets that are run after every pre-training, so that means over them compare."""
    model = next(iter(own_models(preset)), "")
    return [
        name
        for name in map(str, preset.axes["dataset"])
        if not any(
            preset.skip(replace(preset.base, model=model, pretraining=start, dataset=name))
            for start in upstream(preset)
        )
    ]


def pairs(preset: Preset) -> list[tuple[str, str]]:
    """Returns the first and the last ViT of each patch size, as the preset orders them: the base and the larger one."""
    groups: dict[str, list[str]] = {}
    for model in captions.models(preset):
        if family(model) == "vit":
            groups.setdefault(model.rpartition("/")[2], []).append(model)
    return [(found[0], found[-1]) for found in groups.values() if len(found) > 1]
