"""The paper's hyper-parameters (ViT, Tables 2, 3 and 4) as fields of a run's config."""

from __future__ import annotations

from typing import Any

from vision_repro.config import RunConfig, UserError
from vision_repro.papers.hyper_rules import vit_fine_tuning, vit_pretraining

EPOCHS = {"imagenet": 300, "imagenet21k": 90}
"""Data set -> epochs of pre-training (ViT, Table 3)."""


def fine_tuning(config: RunConfig) -> dict[str, Any]:
    """Returns the fields of fine-tuning on the run's data set (Table 4); on ImageNet those of the best models.

    There ViT-L/16 and ViT-H/14 have the larger images and the averaged weights of Table 2.
    """
    best = config.dataset == "imagenet" and config.model in ("vit-l/16", "vit-h/14")
    rule = vit_fine_tuning(config.dataset, model=config.model, best=best)
    side = 392 if rule.crop == 384 and config.model == "vit-h/14" else rule.crop  # 384 is no multiple of 14
    return {
        "steps": rule.schedule.steps,
        "global_batch": rule.batch,
        "image_size": side,
        "grad_clip": rule.grad_clip or 0.0,
        "weight_decay": rule.weight_decay,
        "polyak": rule.averaging or 0.0,
    }


def fine_tuning_rates(dataset: str, *, larger: bool) -> tuple[float, ...]:
    """Returns the learning rates of fine-tuning (Table 4), ascending; 0.06 is for `larger` rates only (B.1.1)."""
    return tuple(sorted(rate for rate in vit_fine_tuning(dataset).learning_rates if rate <= 0.03 or larger))


def pre_training(model: str, dataset: str, steps: int) -> dict[str, Any]:
    """Returns the fields of pre-training (Table 3); models that it does not tell of have those of ViT-L/16."""
    try:
        rule = vit_pretraining(model, dataset, epochs=EPOCHS[dataset])
    except UserError:
        rule = vit_pretraining("vit-l/16", dataset, epochs=EPOCHS[dataset])
    return {
        "lr": rule.learning_rate,
        "global_batch": rule.batch,
        "weight_decay": rule.weight_decay,
        "warmup": min(0.5, rule.schedule.warmup / steps),
        "grad_clip": rule.grad_clip or 0.0,
    }
