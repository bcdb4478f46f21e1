"""Measures the weights of a run: accuracy, few-shot accuracy and probes. Only this module evaluates on `test`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning import Trainer

from vision_repro.accounting import ledger
from vision_repro.config import RunConfig
from vision_repro.datasets import conventions
from vision_repro.probes import dispatch
from vision_repro.probes.features import Frozen, in_order
from vision_repro.probes.few_shot import draw_shots, few_shot_accuracy
from vision_repro.store.arrays import Array
from vision_repro.store.measurements import ACCURACY, FEW_SHOT, Measurement, Metrics
from vision_repro.tasks.classifier import Classifier
from vision_repro.tasks.task import Task
from vision_repro.training.meter import PHASES
from vision_repro.training.recorder import Recorder

_UNITS = {"val_accuracy": "fraction", "val_correct": "fraction"}
_CLASSIFYING = ("supervised", "mean-colour", "downsized")


class Evaluation:
    """The weights of a run, ready to measure; features that several measurements need are computed once.

    `start` holds the metrics of the probes that measured the initial weights, by probe; `classifies` says whether the
    model's head was trained for the classes of the data.
    """

    def __init__(
        self,
        config: RunConfig,
        trainer: Trainer,
        task: Task,
        module: Any,
        folder: Path,
        classifies: bool,
        start: Mapping[str, Metrics],
    ) -> None:
        self.config, self.trainer, self.task, self.module = config, trainer, task.eval(), module
        self.folder, self.classifies, self.start = folder, classifies, start
        self._frozen: dict[str, Frozen] = {}
        task.to(trainer.strategy.root_device)

    def frozen(self, views: str) -> Frozen:
        """Returns the frozen features of all splits; those of `test` with these views."""
        self.module.views = views
        return self._frozen.setdefault(views, Frozen(self.trainer, self.task, self.module))


def check_shots(which: Sequence[Measurement], config: RunConfig, module: Any) -> None:
    """Raises UserError, before anything is trained, if `val` has too few images for the few-shot probe."""
    shots = [int(str(item.option("shots"))) for item in which if item.name == FEW_SHOT]
    if shots:
        draw_shots(module.labels("val"), module.classes, max(shots), draw=0, seed=config.seed)


def measure_start(which: Sequence[Measurement], task: Task, module: Any) -> dict[str, Metrics]:
    """Returns the metrics of the probes that measure the initial weights, by probe."""
    names = [item.name for item in which if item.name not in (ACCURACY, FEW_SHOT)]
    return {name: dispatch.measure_initial_weights(name, task, module) for name in names}


def measure(which: Measurement, at: Evaluation) -> tuple[Metrics, dict[str, Array]]:
    """Returns the metrics of one measurement, and its arrays. Every rank must call it, and finds the same."""
    views = str(which.option("views"))
    if which.name == ACCURACY:
        return _accuracy(at, views) if at.classifies else ({}, {})
    return (_few_shot(which, at, views) if which.name == FEW_SHOT else _probe(which, at, views)), {}


def _probe(which: Measurement, at: Evaluation, views: str) -> Metrics:
    """Returns what a probe finds in the weights, found before the first step, and makes of the meter's seconds."""
    frozen = at.frozen(views)
    seconds = {} if (cost := ledger.read_cost(at.folder)) is None else {x: cost[f"{x}_seconds"] for x in PHASES}
    return {
        **dispatch.measure_weights(which.name, at.task, at.module, frozen),
        **at.start.get(which.name, {}),
        **dispatch.measure_seconds(which.name, seconds),
    }


def _accuracy(at: Evaluation, views: str) -> tuple[Metrics, dict[str, Array]]:
    """Returns top-1 accuracy on `test` with what else is usual for the data set; and the class of each image.

    The arrays `predicted` and `label` are uint16 `[N]`, in the order of the split.
    """
    assert isinstance(at.task, Classifier)
    at.module.views = views
    at.trainer.test(at.task, datamodule=at.module, verbose=False)
    accuracy = at.task.accuracy(at.module.expected("test"))
    found, labels = in_order(at.trainer.world_size, at.task.predictions()).unbind(1)
    usual = conventions.of_predictions(at.config.dataset, at.module, found, labels)
    classes = {"predicted": found.numpy().astype("uint16"), "label": labels.numpy().astype("uint16")}
    return {"test_accuracy": (accuracy, "fraction"), **usual}, classes


def _few_shot(which: Measurement, at: Evaluation, views: str) -> Metrics:
    """Returns the mean few-shot accuracy over the draws.

    Deviation: the few labelled images come from `val`, which is not trained on, instead of the training images of
    another data set; the data sets of the small presets have no downstream data set.
    """
    shots, draws = (int(str(which.option(name))) for name in ("shots", "draws"))
    frozen = at.frozen(views)
    (values,) = few_shot_accuracy(
        *frozen.of("val"),
        *frozen.of("test"),
        classes=at.module.classes,
        shots=(shots,),
        draws=draws,
        seed=at.config.seed,
    ).values()
    return {f"few_shot_{shots}": (sum(values) / len(values), "fraction")}


def learning_metrics(config: RunConfig, recorder: Recorder) -> dict[str, tuple[float, str]]:
    """Returns the metrics on `val` of the selected weights, and the last training loss, from the learning curve."""
    last = recorder.curve[-1]
    values = recorder.best["values"] if config.select == "best" else last
    names = [name for name in last if name.startswith("val_")]
    loss = "nats" if config.objective in _CLASSIFYING else "squares"
    loss = "hinge" if config.loss == "hinge" else loss
    of_val = {name: (values[name], _UNITS.get(name, loss)) for name in names}
    return {**of_val, "train_loss": (last["train_loss"], loss)}
