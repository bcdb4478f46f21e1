"""Probes by name, in a run: which there are, what they see, and what becomes of their numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vision_repro import datasets, models
from vision_repro.config import Launch, RunConfig, UserError, run_id
from vision_repro.files.subset import take
from vision_repro.probes import dispatch, features, knn, linear
from vision_repro.probes.attention_distance import mean_distances
from vision_repro.store.runs import RunFolder
from vision_repro.training import assemble, run
from vision_repro.training.context import RunContext

CONFIG = RunConfig(
    model="vit-32x2/2", train_size=40, steps=4, evaluations=2, global_batch=16, lr=1e-3, shots="",
    probes="attention_distance",
)  # fmt: skip


def place(root: Path, config: RunConfig) -> RunContext:
    return RunContext(
        folder=RunFolder(root, config),
        launch=Launch(wandb="off"),
        cache=root / "cache",
        settings=("model",),
        accelerator="cpu",
        report=lambda message: None,
    )


def metrics(root: Path, config: RunConfig) -> dict[str, Any]:
    found: dict[str, Any] = run.execute(config, place(root, config))["metrics"]
    return found


def expected(root: Path, model: torch.nn.Module) -> list[float]:
    """The slow way: the first test images by hand, normalised by hand."""
    splits = datasets.load("digits", None, root / "cache")
    images = splits.test.images[:128].float() / 127.5 - 1
    return [value for layer in mean_distances(model, images) for value in layer.tolist()]


def distances(found: dict[str, Any]) -> list[float]:
    return [cell["value"] for name, cell in sorted(found.items()) if name.startswith("attention_distance")]


def test_a_run_records_the_probe_s_numbers_of_the_tested_weights(tmp_path: Path) -> None:
    found = metrics(tmp_path, CONFIG)
    names = [f"attention_distance_l{layer:02}_h{head:02}" for layer in range(2) for head in range(2)]
    assert [name for name in found if name.startswith("attention_distance")] == names
    assert {found[name]["unit"] for name in names} == {"pixels"}
    model = models.build(CONFIG.model, image_size=8, classes=10)
    weights = tmp_path / run_id(CONFIG) / "weights.ckpt"
    model.load_state_dict(torch.load(weights, weights_only=True))
    assert distances(found) == pytest.approx(expected(tmp_path, model), rel=1e-5)


def test_feature_probes_of_a_run_share_one_extraction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    extract = features.frozen_features

    def note(trainer: Any, task: Any, loader: Any) -> Any:
        found = extract(trainer, task, loader)
        calls.append(len(found[1]))
        return found

    monkeypatch.setattr(features, "frozen_features", note)
    config = replace(CONFIG, probes="linear knn attention_distance", shots="1", steps=40, train_size=100)
    found = metrics(tmp_path, config)
    assert calls == [200, 397, 100]  # val and test for the shots, and all images trained on for the others
    model = models.build(CONFIG.model, image_size=8, classes=10).eval()
    model.load_state_dict(torch.load(tmp_path / run_id(config) / "weights.ckpt", weights_only=True))
    splits = datasets.load("digits", None, tmp_path / "cache")
    chosen = take(splits.train.labels, 100, 0)
    every = {"train": chosen, "val": torch.arange(200), "test": torch.arange(397)}
    parts: list[torch.Tensor] = []
    with torch.inference_mode():
        for name, indices in every.items():
            split = getattr(splits, name)
            inputs = split.images[indices].float() / 127.5 - 1
            parts += [models.features(model, inputs), split.labels[indices]]
    given = features.Features(*parts)
    expected = linear.measure_features(given, 10) | knn.measure_features(given, 10)
    assert {name: found[name]["value"] for name in expected} == pytest.approx(
        {name: value for name, (value, _) in expected.items()}, abs=0.006
    )
    assert min(found["linear_accuracy"]["value"], found["knn_accuracy"]["value"]) > 0.2
    assert found["attention_distance_l00_h00"]["unit"] == "pixels"


def test_without_feature_probes_no_features_are_extracted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "frozen_features", None)
    assert metrics(tmp_path, CONFIG)


def test_without_training_the_weights_of_a_run_give_its_numbers_again(tmp_path: Path) -> None:
    first = metrics(tmp_path, replace(CONFIG, shots="1"))
    weights = tmp_path / run_id(replace(CONFIG, shots="1")) / "weights.ckpt"
    given = replace(CONFIG, budget="none", weights=str(weights), lr=None, shots="1")
    again = metrics(tmp_path, given)
    assert distances(again) == pytest.approx(distances(first), rel=1e-6)
    assert again["test_accuracy"] == first["test_accuracy"]
    assert again["few_shot_1"] == first["few_shot_1"]
    assert not {"train_loss", "val_accuracy"} & set(again)
    folder = tmp_path / run_id(given)
    assert not (folder / "weights.ckpt").exists()
    assert (folder / "metrics.csv").read_text() == ""
    assert run.execute(given, place(tmp_path, given))["selected_step"] == 0


def test_weights_without_the_classes_tell_no_accuracy(tmp_path: Path) -> None:
    other = models.build(CONFIG.model, image_size=8, classes=3)
    file = tmp_path / "other.ckpt"
    torch.save(other.state_dict(), file)
    given = replace(CONFIG, budget="none", weights=str(file), lr=None)
    found = metrics(tmp_path, given)
    assert "test_accuracy" not in found
    assert distances(found) == pytest.approx(expected(tmp_path, other), rel=1e-5)


def test_untrained_weights_are_measured_if_asked_for(tmp_path: Path) -> None:
    found = [metrics(tmp_path, replace(CONFIG, budget="none", weights="random", seed=seed)) for seed in (0, 1)]
    assert distances(found[0]) != distances(found[1])
    assert all("test_accuracy" not in item for item in found)  # chance says nothing of them


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"budget": "none"}, "--weights=random"),
        ({"weights": "random"}, "--budget=none"),
        ({"probes": "attention_distance", "views": "ten"}, "one view"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        RunConfig(**values)


def test_an_unknown_probe_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match='Did you mean "attention_distance"'):
        dispatch.check(("attention_distanc",), torch.nn.Identity(), 8)
    for name in ("dispatch", "images", "few_shot", "features", "ridge", "../config"):  # no probes
        with pytest.raises(UserError, match="unknown"):
            dispatch.find(name)
    assert {"attention_distance", "knn", "linear"} <= set(dispatch.names())


def test_a_model_without_attention_is_refused_before_anything_is_trained() -> None:
    with torch.device("meta"):
        dispatch.check(("attention_distance",), models.build("vit-32x2/2", image_size=8, classes=10), 8)
        with pytest.raises(UserError, match="no attention"):
            dispatch.check(("attention_distance",), models.build("bit-r11x0.15", image_size=8, classes=10), 8)


def test_several_devices_train_nothing_is_refused() -> None:
    given = replace(CONFIG, budget="none", weights="random")
    with pytest.raises(UserError, match="one device"):
        assemble.check_division(given, Launch(devices=2))
