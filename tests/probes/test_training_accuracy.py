"""Training accuracy and loss: the slow way over a run's own images, counts by hand, nothing left behind."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vision_repro import datasets, models
from vision_repro.augmentation.batch import Batch
from vision_repro.config import Launch, RunConfig, UserError, run_id
from vision_repro.files.subset import take
from vision_repro.probes import training_accuracy
from vision_repro.store.runs import RunFolder
from vision_repro.tasks.task import Task
from vision_repro.training import run
from vision_repro.training.context import RunContext

CONFIG = RunConfig(
    dataset="digits", image_size=8, model="vgg11x0.06-bn", train_size=600, steps=30,
    global_batch=32, evaluations=1, lr=3e-3, normalisation="half", shots="", select="last", augmentation="crop-flip",
    probes="training_accuracy",
)  # fmt: skip


def test_a_run_records_accuracy_and_loss_on_its_own_images(tmp_path: Path) -> None:
    place = RunContext(
        folder=RunFolder(tmp_path, CONFIG),
        launch=Launch(wandb="off"),
        cache=tmp_path / "cache",
        settings=("model",),
        accelerator="cpu",
        report=lambda message: None,
    )
    found = run.execute(CONFIG, place)["metrics"]
    splits = datasets.load("digits", None, tmp_path / "cache")
    chosen = take(splits.train.labels, 600, CONFIG.seed)
    inputs, labels = splits.train.images[chosen].float() / 127.5 - 1, splits.train.labels[chosen]
    model = models.build(CONFIG.model, image_size=8, classes=10).eval()
    weights = torch.load(tmp_path / run_id(CONFIG) / "weights.ckpt", weights_only=True)
    model.load_state_dict(weights)
    with torch.inference_mode():
        singly = torch.cat([model(image[None]) for image in inputs])
    correct = int((singly.argmax(1) == labels).sum())
    assert 60 < correct < 600
    assert found["train_accuracy"] == {"value": pytest.approx(correct / 600, abs=2.1 / 600), "unit": "fraction"}
    expected = float(cross_entropy(singly, labels))
    assert found["final_train_loss"] == {"value": pytest.approx(expected, rel=1e-4), "unit": "nats"}


class Told(nn.Module):
    """A model whose logits are the first ten pixels of an image."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :10]


@pytest.mark.parametrize("count", [1, 7, 250, 251, 1030])
def test_every_image_counts_once_whatever_the_parts(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    labels = torch.randint(0, 10, (count,), generator=generator)
    right = torch.rand(count, generator=generator) < 0.7
    images = torch.zeros(count, 3, 2, 2, dtype=torch.uint8)
    shown = torch.where(right, labels, (labels + 1) % 10)
    images.view(count, 12)[torch.arange(count), shown] = 3
    task = SimpleNamespace(model=Told(), normalise=lambda images: images.float(), device=torch.device("cpu"))
    asked: list[Any] = []

    def first(*arguments: Any) -> Batch:
        asked.append(arguments)
        return Batch(images, labels)

    monkeypatch.setattr(training_accuracy, "first_images", first)
    found = training_accuracy.measure_task(task, "module")
    assert asked == [("module", "train", 5000)]
    assert found["train_accuracy"] == (pytest.approx(float(right.double().mean())), "fraction")
    loss = math.log(math.exp(3) + 9) - 3 * float(right.double().mean())
    assert found["final_train_loss"] == (pytest.approx(loss, rel=1e-6), "nats")


def test_statistics_and_random_numbers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = models.build("googlenetx0.06-bn", image_size=8, classes=10).eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    task = SimpleNamespace(model=model, normalise=lambda images: images.float() / 255, device=torch.device("cpu"))
    batch = Batch(torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8), torch.arange(40) % 10)
    monkeypatch.setattr(training_accuracy, "first_images", lambda *arguments: batch)
    random = torch.get_rng_state()
    found = [training_accuracy.measure_task(task, None) for _ in range(2)]
    assert found[0] == found[1]
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(value.grad is None for value in model.parameters())


def test_what_learns_no_classes_is_refused_before_it_is_trained() -> None:
    task = Task(Told(), lr=0.1, weight_decay=0.0, steps=1)
    with pytest.raises(UserError, match="supervised"):
        training_accuracy.measure_start(task, None)
