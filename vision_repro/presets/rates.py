"""Peak learning rates of AdamW for supervised training, by data set and model, and where they come from."""

from __future__ import annotations

from dataclasses import replace

from vision_repro.config import RunConfig
from vision_repro.models.families import family

SEARCHED: dict[str, dict[str, float]] = {
    "digits": {
        "bit-r11x0.15": 0.01,
        "bit-r11x0.3125": 0.003,
        "r8x0.25+vit-64x3/2": 0.001,
        "vit-32x4/2": 0.01,
        "vit-64x4/2": 0.003,
    },
    "cifar10": {
        "bit-r11x0.3125/2": 0.003,
        "bit-r14x0.3125/2": 0.003,
        "vit-128x4/4": 0.001,
        "vit-64x4/4": 0.001,
    },
}
"""Highest mean `val` accuracy over the smallest and the largest size, from the grid of sweeps/data_scaling_lr_*.yaml.

The searches are in results/data_scaling/data_scaling_lr_*/table.csv; a test checks that these are their outcome.
"""
SEARCH_GRID = (3e-4, 1e-3, 3e-3, 1e-2)
"""The rates that the searches tried."""

_CIFAR = {"vit": 0.001, "bit": 0.003, "hybrid": 0.001}
OF_FAMILY: dict[str, dict[str, float]] = {
    "digits": {"vit": 0.003, "bit": 0.003, "hybrid": 0.001},
    "digits-0-4": {"vit": 0.003, "bit": 0.003, "hybrid": 0.001},
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
    "imagenette": _CIFAR,
}
"""For a model that was not searched: the rate of its family's largest searched model, or the ViTs' where no hybrid was.

Data sets without a search have the rates of the one that is most alike: digits, or CIFAR-10.
"""
UNTUNED = 1e-3
"""What a model without a search in its family gets; captions say so."""


def learning_rate(dataset: str, model: str) -> float:
    """Returns the peak learning rate: the model's own, else its family's, else `UNTUNED`."""
    own = SEARCHED.get(dataset, {}).get(model)
    return OF_FAMILY.get(dataset, {}).get(family(model), UNTUNED) if own is None else own


def is_searched(dataset: str, model: str) -> bool:
    """Returns whether the rate was searched for this very model and data set."""
    return model in SEARCHED.get(dataset, {})


def fill(config: RunConfig, rate: float) -> RunConfig:
    """Returns the run with this learning rate, unless it trains nothing or has one that was asked for."""
    return replace(config, lr=rate) if config.lr is None and config.budget != "none" else config


def fill_searched(preset: str, config: RunConfig) -> RunConfig:
    """Returns the run with the rate of its data set and model: the `fill_defaults` of a run of the scaling recipe."""
    return fill(config, learning_rate(config.dataset, config.model))
