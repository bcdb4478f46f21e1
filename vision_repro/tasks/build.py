"""Builds the task of a run: its training objective around an architecture."""

from __future__ import annotations

from typing import Any

from vision_repro.config import RunConfig
from vision_repro.tasks.classifier import Classifier
from vision_repro.tasks.masked_autoencoder import MaskedAutoencoder
from vision_repro.tasks.masked_patch import MaskedPatchPrediction
from vision_repro.tasks.task import Task


def build(config: RunConfig, model: Any, settings: dict[str, Any]) -> Task:
    """Returns the task for `config.objective`."""
    if config.objective == "supervised":
        return Classifier(model, loss=config.loss, **settings)
    if config.objective == "mae":
        return MaskedAutoencoder(model, masked=config.corrupted, seed=config.seed, **settings)
    return MaskedPatchPrediction(
        model, target=config.objective, corrupted=config.corrupted, seed=config.seed, **settings
    )
