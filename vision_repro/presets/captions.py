"""Words that captions share: the budget, what a run saw, and its learning rates."""

from __future__ import annotations

from collections.abc import Iterable

from vision_repro.config import RunConfig
from vision_repro.experiment import Preset
from vision_repro.presets.rates import is_searched, learning_rate


def budget(base: RunConfig) -> str:
    """Returns `200 steps` or `7 epochs`."""
    return f"{base.steps} steps" if base.budget == "steps" else f"{base.epochs:g} epochs"


def training(base: RunConfig) -> str:
    """Returns `1200 training images, 200 steps of 32 images`."""
    return f"{base.train_size} training images, {budget(base)} of {base.global_batch} images"


def rates(dataset: str, models: Iterable[str]) -> str:
    """Returns the peak learning rates of the models, where they were searched, and for which they were not."""
    listed = list(models)
    chosen = ", ".join(f"{model} {learning_rate(dataset, model):g}" for model in listed)
    untuned = ", ".join(model for model in listed if not is_searched(dataset, model))
    return f"peak lr {chosen} (searched on val in sweeps/data_scaling_lr_*.yaml, untuned for {untuned or 'none'})"


def models(preset: Preset) -> list[str]:
    """Returns the models of a preset, in its order."""
    return [str(model) for model in preset.axes.get("model", (preset.shared.model,))]
