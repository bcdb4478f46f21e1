"""What a run measures of its weights once training is over; the only place that looks at `test`."""

from __future__ import annotations

from typing import Any

from lightning import Trainer

from vision_repro.config import RunConfig
from vision_repro.probes import named
from vision_repro.probes.features import frozen_features
from vision_repro.probes.few_shot import draw_shots, few_shot_accuracy
from vision_repro.recorder import Recorder
from vision_repro.tasks.classifier import Classifier


def check_shots(config: RunConfig, module: Any) -> None:
    """Raises UserError, before anything is trained, if `val` has too few images for the few-shot probe."""
    if config.shot_counts:
        draw_shots(module.labels("val"), module.classes, max(config.shot_counts), draw=0, seed=config.seed)


def _few_shot(config: RunConfig, trainer: Trainer, task: Classifier, module: Any) -> dict[str, tuple[float, str]]:
    """Returns the mean few-shot accuracy over the draws for each number of shots.

    Deviation: the few labelled images come from `val`, which no gradient has seen, instead of another data set's
    training images; the data sets of the small presets have no downstream partner.
    """
    if not config.shot_counts:
        return {}
    pool, pool_labels = frozen_features(trainer, task, module.val_dataloader())
    features, labels = frozen_features(trainer, task, module.test_dataloader())
    found = few_shot_accuracy(
        pool, pool_labels, features, labels,
        classes=module.classes, shots=config.shot_counts, draws=config.draws, seed=config.seed,
    )  # fmt: skip
    return {f"few_shot_{shots}": (sum(values) / len(values), "fraction") for shots, values in found.items()}


def _accuracy(trainer: Trainer, task: Classifier, module: Any) -> dict[str, tuple[float, str]]:
    trainer.test(task, datamodule=module, verbose=False)
    return {"test_accuracy": (task.accuracy(module.expected("test")), "fraction")}


def of_trained(
    config: RunConfig, trainer: Trainer, task: Classifier, module: Any, recorder: Recorder
) -> dict[str, Any]:  # fmt: skip
    """Returns the metrics of the selected weights on `test`."""
    if config.select == "best":
        task.model.load_state_dict(recorder.best["weights"])
    last = recorder.curve[-1]
    val = recorder.best["accuracy"] if config.select == "best" else last["val_accuracy"]
    return {
        **_accuracy(trainer, task, module),
        "val_accuracy": (val, "fraction"),
        "train_loss": (last["train_loss"], "nats"),
        **_few_shot(config, trainer, task, module),
        **named.measure(config.probe_names, task, module),
    }


def of_given(
    config: RunConfig, trainer: Trainer, task: Classifier, module: Any, *, classifies: bool
) -> dict[str, Any]:  # fmt: skip
    """Returns the metrics of given weights: nothing of training, and no accuracy unless the model `classifies`."""
    task.to(trainer.strategy.root_device)
    return {
        **(_accuracy(trainer, task, module) if classifies else {}),
        **_few_shot(config, trainer, task, module),
        **named.measure(config.probe_names, task, module),
    }


def of_diverged(config: RunConfig) -> dict[str, tuple[None, str]]:
    """Returns the metrics of a diverged run: named, without a value."""
    names = ["test_accuracy", "val_accuracy", *(f"few_shot_{shots}" for shots in config.shot_counts)]
    return {name: (None, "fraction") for name in names}
