"""What is usual for a data set: mean per class by hand, ReaL by its own counting, and where they are asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from vision_repro import datasets, models
from vision_repro.config import Launch, RunConfig, run_id
from vision_repro.datasets import digits, real_labels
from vision_repro.datasets.conventions import mean_per_class, of_predictions
from vision_repro.files.listing import Files
from vision_repro.store.runs import RunFolder
from vision_repro.training import run
from vision_repro.training.context import RunContext


def test_five_images_by_hand() -> None:
    labels, found = torch.tensor([0, 0, 0, 0, 2]), torch.tensor([0, 0, 1, 0, 2])
    assert float((found == labels).double().mean()) == 0.8
    assert mean_per_class(found, labels) == (3 / 4 + 1) / 2  # class 1 has no image, though it is predicted


def test_it_is_scikit_learn_s_balanced_accuracy() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 37, (200,), generator=generator) ** 2 // 37
    found = torch.where(torch.rand(200, generator=generator) < 0.6, labels, (labels + 1) % 30)
    with np.errstate(all="ignore"):
        keep = torch.isin(found, labels)  # scikit-learn warns of classes that occur in predictions only
    expected = balanced_accuracy_score(labels[keep].numpy(), found[keep].numpy())
    assert mean_per_class(found[keep], labels[keep]) == pytest.approx(expected, rel=1e-12)


def test_it_is_asked_for_by_the_data_set() -> None:
    one = torch.zeros(1, dtype=torch.long)
    asked = {
        name: set(of_predictions(name, SimpleNamespace(), one, one)) for name in datasets.names() if name != "imagenet"
    }
    assert {name for name, metrics in asked.items() if metrics} == {"pets", "flowers"}
    assert asked["pets"] == {"test_mean_per_class"}


def test_real_accuracy_is_of_the_images_by_their_numbers() -> None:
    numbers = [3, 2, 1, 4]  # not in the order of the file; image 1 has no ReaL label
    names = np.array([f"n01440764/ILSVRC2012_val_{number:08}.JPEG".encode() for number in numbers])
    files = Files(Path("val"), names, np.zeros(4, dtype=np.int64))
    module, sets = SimpleNamespace(listing=SimpleNamespace(test=files)), real_labels.read()
    found = torch.tensor([min(sets[2]), 0, 5, max(sets[3])])
    assert 0 not in sets[1]
    metrics = of_predictions("imagenet", module, found, torch.zeros(4, dtype=torch.long))
    assert metrics == {"test_real_accuracy": (2 / 3, "fraction")}
    assert of_predictions("imagenet", module, found[:3], torch.zeros(3, dtype=torch.long)) == {}  # one was skipped


def place(root: Path, config: RunConfig) -> RunContext:
    return RunContext(
        folder=RunFolder(root, config),
        launch=Launch(wandb="off"),
        cache=root / "cache",
        settings=("model",),
        accelerator="cpu",
        report=lambda message: None,
    )


def test_a_run_measures_it_on_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "MEAN_PER_CLASS", ("digits",), raising=False)
    config = RunConfig(
        model="vit-32x2/4",
        train_size=200,
        steps=30,
        evaluations=2,
        global_batch=32,
        lr=3e-3,
        shots="",
    )
    metrics: dict[str, Any] = run.execute(config, place(tmp_path, config))["metrics"]
    model = models.build(config.model, image_size=8, classes=10).eval()
    model.load_state_dict(torch.load(tmp_path / run_id(config) / "weights.ckpt", weights_only=True))
    test = datasets.load("digits", None, tmp_path / "cache").test
    with torch.inference_mode():
        found = model(test.images.float() / 127.5 - 1).argmax(1)
    shares = [float((found[test.labels == label] == label).double().mean()) for label in range(10)]
    assert metrics["test_mean_per_class"]["value"] == pytest.approx(sum(shares) / 10, rel=1e-12)
    assert metrics["test_mean_per_class"]["value"] != metrics["test_accuracy"]["value"]
    other = replace(config, seed=1, steps=2)
    monkeypatch.setattr(digits, "MEAN_PER_CLASS", ())
    assert "test_mean_per_class" not in run.execute(other, place(tmp_path, other))["metrics"]
