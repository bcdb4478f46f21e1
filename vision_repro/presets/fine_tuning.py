"""How a transfer is done: pre-training by data set, fine-tuning by data set downstream, and training from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vision_repro.config import RunConfig
from vision_repro.models.families import family
from vision_repro.presets import tables
from vision_repro.presets.stages import fill, pre_train
from vision_repro.presets.transfers import TIMM, parse

Options = Mapping[str, Any]
"""Fields of the config."""


@dataclass(frozen=True)
class Stages:
    """The base of pre-training by data set, and what each data set downstream has of its own.

    `rates` are the learning rates to choose from; `scratch` and `scratch_rates` are for training without pre-training.
    A data set that is not named upstream is pre-trained on as the first one is, with the run's number of images. With
    `printed`, named data sets have the hyper-parameters that the paper prints (ViT, Tables 2, 3 and 4).
    """

    upstream: Mapping[str, RunConfig]
    downstream: Mapping[str, Options] = field(default_factory=dict)
    rates: tuple[float, ...] = (0.03, 0.1, 0.3)
    scratch: Options = field(default_factory=dict)
    scratch_rates: tuple[float, ...] = (0.003, 0.01, 0.03)
    printed: bool = False

    @property
    def first(self) -> RunConfig:
        """The base of pre-training on the first data set."""
        return next(iter(self.upstream.values()))

    def filled(self, config: RunConfig, base: RunConfig) -> RunConfig:
        """Fills in what the data set downstream, training from scratch, and a model of timm have of their own.

        What the command line changed from the preset's base stays as it was asked for.
        """
        own: dict[str, Any] = dict(self.downstream.get(config.dataset, {}))
        if config.dataset == "flowers":  # its val is not a part of the 1,020 images that the authors train on
            own["train_on_val"] = False
        if self.printed and config.dataset in self.downstream:
            own |= tables.fine_tuning(config)
        timm, scratch = config.model.startswith(TIMM) and not config.weights, parse(config.pretraining) is None
        if scratch and not timm and not config.weights:
            own |= self.scratch
        found = fill(config, own, base)
        if timm or scratch:
            found = replace(found, pretraining="")
        return replace(found, weights="timm") if timm else found

    def rates_of(self, config: RunConfig) -> tuple[float, ...]:
        """Returns the learning rates to choose from, ascending; 0.06 is for ResNets and hybrids only (ViT, B.1.1)."""
        if not config.pretraining and not config.weights:
            return self.scratch_rates
        if not self.printed or config.dataset not in self.downstream:
            return self.rates
        return tables.fine_tuning_rates(config.dataset, larger=family(config.model) != "vit")

    def pretraining(self, config: RunConfig) -> RunConfig | None:
        """Returns the supervised pre-training that a run starts from, if any: the same for all data sets downstream."""
        start = parse(config.pretraining)
        if start is None:
            return None
        own = tables.pre_training(config.model, *start) if self.printed and start.dataset in tables.EPOCHS else {}
        base = self.upstream.get(start.dataset) or replace(self.first, train_size=config.train_size)
        return pre_train(config, start, base, **own)
