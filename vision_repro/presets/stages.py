"""Stages of an experiment: from a run to the run that it starts from, and to those that choose its learning rate.

A start names a supervised pre-training, `<data set>@<steps>`. A function here returns a config that the launcher
carries out first; the fields it does not set are those of the run that asks, so that options of the command line, such
as --precision, reach all stages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from vision_repro.config import RunConfig, UserError
from vision_repro.presets.rates import learning_rate

_START = re.compile(r"(?P<dataset>[^@\s]+)@(?P<steps>[1-9]\d*)")
RECIPE = (
    "train_size",
    "image_size",
    "global_batch",
    "augmentation",
    "evaluations",
    "select",
    "optimizer",
    "weight_decay",
    "warmup",
    "grad_clip",
)
"""Fields of a base that say how pre-training is done."""


class Start(NamedTuple):
    """A pre-training: the data set, and the optimizer steps."""

    dataset: str
    steps: int

    def __str__(self) -> str:
        """Returns the name by which a run asks for it."""
        return f"{self.dataset}@{self.steps}"


def parse(start: str, *, example: str = "cifar10@300", also: str = "") -> Start:
    """Returns the data set and the steps of the pre-training that a start names; `also` are other words allowed.

    Raises:
        UserError: if it names none.
    """
    match = _START.fullmatch(start)
    if match is None:
        expected = f"{also} or <data set>@<steps>" if also else "<data set>@<steps>"
        raise UserError(f'--pretraining="{start}" is no pre-training: expected {expected}, such as {example}.')
    return Start(match["dataset"], int(match["steps"]))


def starts(dataset: str, *steps: int) -> tuple[str, ...]:
    """Returns the names of pre-trainings on one data set."""
    return tuple(str(Start(dataset, count)) for count in steps)


def evaluations(steps: int, most: int) -> int:
    """Returns the largest number up to `most` of equal parts that the steps have: how often `val` is measured."""
    return max(count for count in range(1, most + 1) if steps % count == 0)


def pre_train(config: RunConfig, start: Start, base: RunConfig, **own: Any) -> RunConfig:
    """Returns the supervised pre-training that `config` starts from: of its model and seed, trained as `base` is.

    `own` are fields that differ from the base; the learning rate is that of the data set and model unless given there.
    """
    recipe: dict[str, Any] = {name: getattr(base, name) for name in RECIPE}
    fields = {"lr": learning_rate(start.dataset, config.model), **recipe, **own}
    fields["evaluations"] = evaluations(start.steps, fields["evaluations"])
    neutral = replace(trained(config), shots="", train_on_val=False, polyak=0.0)
    return replace(neutral, dataset=start.dataset, steps=start.steps, **fields)


def trained(config: RunConfig) -> RunConfig:
    """Returns the training, from scratch, of what `config` only measures: without its probes and views."""
    views = RunConfig.views
    return replace(config, budget="steps", pretraining="", weights="", lr_from="", probes="", views=views)


def with_rates(config: RunConfig, rates: Iterable[float]) -> list[RunConfig]:
    """Returns a run of seed 0 for each learning rate, trained without `val`, on which the best is chosen."""
    return [replace(config, lr=rate, seed=0, train_on_val=False) for rate in rates]


def fill(config: RunConfig, own: Mapping[str, Any], base: RunConfig) -> RunConfig:
    """Returns the run with the fields `own`, but for those that the command line changed from the base's."""
    return replace(config, **{key: value for key, value in own.items() if getattr(config, key) == getattr(base, key)})
