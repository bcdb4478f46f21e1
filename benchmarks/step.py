"""What Lightning costs a training step: the suite's Trainer and task against a bare PyTorch loop on the same tensors.

On one thread, which is what a worker of the pool has, in the arithmetic that the suite prefers on this processor.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial, wraps
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.timing import Row, differences, in_turns, ratios, show
from vision_repro.tasks.task import Task
from vision_repro.training.device import cpu_has_bf16, quiet_threads

quiet_threads()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from lightning import LightningModule, Trainer  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402
from torchmetrics.classification import MulticlassAccuracy  # noqa: E402

from benchmarks.workload import CLASSES, a_place, random_data, recorder  # noqa: E402
from vision_repro.augmentation.augment import normalise  # noqa: E402
from vision_repro.augmentation.batch import Batch  # noqa: E402
from vision_repro.config import RunConfig  # noqa: E402
from vision_repro.tasks.classifier import Classifier  # noqa: E402
from vision_repro.training import assemble  # noqa: E402
from vision_repro.training.context import RunContext  # noqa: E402

WARM_UP = 5  # steps left out at the start of each fit


class OneLayer(nn.Module):
    """The least model: what is left of a step is the cost of the loop around it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits `[B, K]`."""
        logits: Tensor = self.layer(images.flatten(1))
        return logits


class PlainTask(LightningModule):
    """What a tutorial writes: loss and accuracy logged at each step, AdamW with its defaults."""

    def __init__(self, model: nn.Module, lr: float) -> None:
        super().__init__()
        self.model, self.lr = model, lr
        self.train_accuracy = MulticlassAccuracy(num_classes=CLASSES)

    def training_step(self, batch: list[Tensor], batch_index: int) -> Tensor:
        """Returns the mean cross-entropy."""
        images, labels = batch
        logits = self.model(normalise(images))
        loss = F.cross_entropy(logits, labels)
        self.train_accuracy(logits, labels)
        self.log("train_loss", loss)
        self.log("train_accuracy", self.train_accuracy)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


def a_step(stamps: Sequence[float]) -> float:
    """Returns the median time of a step [s] from the moments at which the steps began."""
    return median(later - earlier for earlier, later in zip(stamps[WARM_UP:], stamps[WARM_UP + 1 :], strict=False))


def stamped(task: Any) -> list[float]:
    """Returns a list to which each of the task's training steps will add the moment of its start."""
    stamps: list[float] = []
    inner = task.training_step

    @wraps(inner)  # Lightning reads the signature
    def training_step(batch: Any, batch_index: int) -> Tensor:
        stamps.append(time.perf_counter())
        loss: Tensor = inner(batch, batch_index)
        return loss

    task.training_step = training_step
    return stamps


def a_task(config: RunConfig, context: RunContext, data: Any) -> Task:
    """Returns the task of a run as `run.execute` builds it; the model `one-layer` is this file's."""
    if config.model != "one-layer":
        return assemble.make_task(config, context, data)[0]
    task = Classifier(OneLayer(), lr=1e-3, weight_decay=config.weight_decay, steps=config.total_steps)
    task.augmentation = config.augmentation
    return task


def with_lightning(config: RunConfig, context: RunContext, data: Any) -> float:
    """Returns the time of a step [s] of the suite's own Trainer and task."""
    task = a_task(config, context, data)
    stamps = stamped(task)
    assemble.make_trainer(config, context, recorder(config, context, data)).fit(task, datamodule=data)
    return a_step(stamps)


def bare(config: RunConfig, context: RunContext, data: Any) -> float:
    """Returns the time of a step [s] of a loop in plain PyTorch: same model, optimizer, schedule, clipping, batches."""
    model = a_task(config, context, data)
    chosen = model.configure_optimizers()
    data.trainer = None  # the loaders start at step 0
    return a_step(
        loop(
            model.model,
            chosen["optimizer"],
            chosen["lr_scheduler"]["scheduler"],
            data.train_dataloader(),
            config.precision == "bf16",
        )
    )


def loop(model: nn.Module, optimizer: Any, schedule: Any, batches: Iterable[Batch], bf16: bool) -> list[float]:
    """Trains on all batches; returns the moments at which the steps began [s]."""
    stamps = []
    model.train()
    for batch in batches:
        stamps.append(time.perf_counter())
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss: Any = F.cross_entropy(model(normalise(batch.images)).float(), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return stamps


def all_defaults(config: RunConfig, root: Path, data: Any) -> float:
    """Returns the time of a step [s] with the Trainer's defaults, a DataLoader and logged torchmetrics."""
    split = data.splits.train
    task = PlainTask(OneLayer(), lr=1e-3)
    stamps = stamped(task)
    loader = DataLoader(TensorDataset(split.images, split.labels), config.global_batch, shuffle=True)
    with redirect_stdout(StringIO()):
        Trainer(max_steps=config.total_steps, accelerator="cpu", default_root_dir=root).fit(task, loader)
    return a_step(stamps)


def a_config(model: str, size: int, steps: int) -> RunConfig:
    """Returns the config of a benchmark run."""
    return RunConfig(
        model=model,
        image_size=size,
        train_size=1200,
        steps=steps,
        global_batch=64,
        lr=1e-3,
        evaluations=1,
        shots="",
    )


def prepared(root: Path, model: str, size: int, steps: int, precision: str) -> tuple[RunConfig, RunContext, Any]:
    """Returns the config, context and data of a benchmark run."""
    config = a_config(model, size, steps)
    config = replace(config, precision=precision)
    return config, a_place(root, config, precision), random_data(config)


def rates(root: Path, model: str, size: int, steps: int, rounds: int) -> Row:
    """Returns the speed of the suite as a fraction of the bare loop's."""
    precision = "bf16" if cpu_has_bf16() else "fp32"
    pieces = prepared(root, model, size, steps, precision)
    ours, plain = in_turns([partial(with_lightning, *pieces), partial(bare, *pieces)], rounds)
    what = f"{model}, {size}x{size}, {precision}, {64 / median(ours):.0f} images/s: images/s against a bare loop"
    return Row(what, ratios(plain, ours), goal=">= 0.97")


def extra(root: Path, steps: int, rounds: int) -> list[Row]:
    """Returns the microseconds that Lightning adds to a step, as the suite uses it and with all its defaults."""
    config, context, data = prepared(root, "one-layer", 8, steps, "fp32")
    ways: list[Callable[[], float]] = [
        partial(with_lightning, config, context, data),
        partial(bare, config, context, data),
        partial(all_defaults, config, root, data),
    ]
    ours, plain, default = in_turns(ways, rounds)
    micro = [tuple(1e6 * item for item in differences(way, plain)) for way in (ours, default)]
    step = f"over a bare step of {1e6 * median(plain):.0f} us"
    return [
        Row(f"one-layer model, {step}: extra", micro[0], "us a step", "<= 250"),
        Row(f"one-layer model, {step}: extra of the defaults", micro[1], "us a step"),
    ]


def silence() -> None:
    """Stops Lightning's advice, which would stand between the rows."""
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def main(options: Sequence[str]) -> int:
    """Measures and prints; `--quick` shows only that it works."""
    quick = "--quick" in options
    silence()
    torch.set_num_threads(1)
    rounds = 1 if quick else 5
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = [
            rates(root, "vit-64x4/2", 8, 12 if quick else 60, rounds),
            rates(root, "vit-128x4/4", 32, 8 if quick else 14, rounds),
            *extra(root, 50 if quick else 600, rounds),
        ]
    show("A training step, on one thread", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
