"""What a run measures of its weights once training is over; the only context that looks at `test`."""

from __future__ import annotations

from typing import Any

from lightning import Trainer

from vision_repro.config import RunConfig
from vision_repro.datasets import conventions
from vision_repro.probes import named
from vision_repro.probes.features import Frozen, in_order
from vision_repro.probes.few_shot import draw_shots, few_shot_accuracy
from vision_repro.tasks.classifier import Classifier
from vision_repro.tasks.task import Task
from vision_repro.training.recorder import Recorder

_UNITS = {"val_accuracy": "fraction", "val_correct": "fraction"}
_CLASSIFYING = ("supervised", "mean-colour", "downsized")


def check_shots(config: RunConfig, module: Any) -> None:
    """Raises UserError, before anything is trained, if `val` has too few images for the few-shot probe."""
    if config.shot_counts:
        draw_shots(module.labels("val"), module.classes, max(config.shot_counts), draw=0, seed=config.seed)


def _few_shot(config: RunConfig, frozen: Frozen, module: Any) -> dict[str, tuple[float, str]]:
    """Returns the mean few-shot accuracy over the draws for each number of shots.

    Deviation: the few labelled images come from `val`, which no gradient has seen, instead of another data set's
    training images; the data sets of the small presets have no downstream partner.
    """
    if not config.shot_counts:
        return {}
    pool, pool_labels = frozen.of("val")
    features, labels = frozen.of("test")
    found = few_shot_accuracy(
        pool,
        pool_labels,
        features,
        labels,
        classes=module.classes,
        shots=config.shot_counts,
        draws=config.draws,
        seed=config.seed,
    )
    return {f"few_shot_{shots}": (sum(values) / len(values), "fraction") for shots, values in found.items()}


def _accuracy(config: RunConfig, trainer: Trainer, task: Task, module: Any) -> dict[str, tuple[float, str]]:
    """Returns top-1 accuracy on `test`, and what else is usual for the data set."""
    assert isinstance(task, Classifier)
    trainer.test(task, datamodule=module, verbose=False)
    accuracy = task.accuracy(module.expected("test"))
    found, labels = in_order(trainer.world_size, task.predictions()).unbind(1)
    return {
        "test_accuracy": (accuracy, "fraction"),
        **conventions.of_predictions(config.dataset, module, found, labels),
    }


def measure_run(
    config: RunConfig, trainer: Trainer, task: Task, module: Any, recorder: Recorder, *, classifies: bool
) -> dict[str, Any]:
    """Returns the metrics of the selected weights on `test`; no accuracy unless the model `classifies` with them."""
    if config.budget == "none":
        task.to(trainer.strategy.root_device)
        return {
            **(_accuracy(config, trainer, task, module) if classifies else {}),
            **_measure_features(config, trainer, task, module),
        }
    if config.select == "best":
        task.model.load_state_dict(recorder.best["weights"])
    supervised = config.objective == "supervised"
    return {
        **(_accuracy(config, trainer, task, module) if supervised else {}),
        **_measure_training(config, recorder),
        **_measure_features(config, trainer, task, module),
    }


def _measure_training(config: RunConfig, recorder: Recorder) -> dict[str, tuple[float, str]]:
    """Returns what the learning curve says of the selected weights."""
    last = recorder.curve[-1]
    values = recorder.best["values"] if config.select == "best" else last
    names = [name for name in last if name.startswith("val_")]
    loss = "nats" if config.objective in _CLASSIFYING else "squares"
    loss = "hinge" if config.loss == "hinge" else loss
    of_val = {name: (values[name], _UNITS.get(name, loss)) for name in names}
    return {**of_val, "train_loss": (last["train_loss"], loss)}


def _measure_features(config: RunConfig, trainer: Trainer, task: Task, module: Any) -> dict[str, Any]:
    frozen = Frozen(trainer, task, module)
    return {**_few_shot(config, frozen, module), **named.measure(config.probe_names, task, module, frozen)}


def diverged_metrics(config: RunConfig) -> dict[str, tuple[None, str]]:
    """Returns the metrics of a diverged run: named, without a value."""
    names = ["test_accuracy", "val_accuracy", *(f"few_shot_{shots}" for shots in config.shot_counts)]
    return {name: (None, "fraction") for name in names}
