"""Shifts: a slow loop over pixels, networks that cannot notice a circular shift, and one that notices each."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vision_repro.config import Launch, RunConfig
from vision_repro.probes import decisions, shift
from vision_repro.store.runs import RunFolder
from vision_repro.training import run
from vision_repro.training.context import RunContext


class Task(nn.Module):
    """A model with a task's `predict`."""

    device = torch.device("cpu")

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def predict(self, images: Tensor) -> Tensor:
        found: Tensor = self.model(images.double() / 255).argmax(1)
        return found


class MeanColour(nn.Module):
    """Logits that are the mean of each colour."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def given(monkeypatch: pytest.MonkeyPatch, images: Tensor, labels: Tensor) -> Any:
    """Returns a module whose first test images are these."""
    monkeypatch.setattr(shift, "first_images", lambda module, split, count: (images[:count], labels[:count]))
    return SimpleNamespace()


def pixels(count: int, size: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(seed)).byte()


def classes(count: int) -> Tensor:
    return torch.randint(0, 3, (count,), generator=torch.Generator().manual_seed(9))


def test_distances_are_powers_of_two_up_to_a_quarter() -> None:
    assert [shift.distances(size) for size in (3, 4, 8, 16, 32)] == [(), (1,), (1, 2), (1, 2, 4), (1, 2, 4, 8)]
    assert shift.distances(224)[-1] == 32


def test_shifts_are_circular_pixel_by_pixel() -> None:
    images = pixels(2, 5)
    moved = shift.shifted(images, 2, -1)
    for row in range(5):
        for column in range(5):
            assert torch.equal(moved[:, :, (row + 2) % 5, (column - 1) % 5], images[:, :, row, column])


def test_accuracy_and_consistency_are_those_of_a_slow_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    count, images, labels = 260, pixels(260, 8), classes(260)  # more than one part
    task = Task(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double())
    found = shift.measure_task(task, given(monkeypatch, images, labels))
    assert set(found) == {
        "shift_accuracy_00",
        "shift_accuracy_01",
        "shift_accuracy_02",
        "shift_consistency_01",
        "shift_consistency_02",
    }
    for distance in (1, 2):
        right, same = 0, 0
        for image, label in zip(images, labels, strict=True):
            still = task.predict(image[None])
            for down, across in ((distance, 0), (-distance, 0), (0, distance), (0, -distance)):
                decided = task.predict(image.roll((down, across), (1, 2))[None])
                right, same = right + int(decided == label), same + int(decided == still)
        assert 0 < same < 4 * count
        assert found[f"shift_accuracy_{distance:02}"] == (right / (4 * count), "fraction")
        assert found[f"shift_consistency_{distance:02}"] == (same / (4 * count), "fraction")


def circular(stride: int, images: Tensor) -> nn.Module:
    """Returns a net of circular convolutions whose mean logits over the images are 0, so that all classes occur."""
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3, stride, padding=1, padding_mode="circular")
    second = nn.Conv2d(8, 3, 3, padding=1, padding_mode="circular")
    model = nn.Sequential(first, nn.ReLU(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    with torch.no_grad():
        second.bias -= model(images.double() / 255).mean(0)
    assert len(set(Task(model).predict(images).tolist())) == 3
    return model


def test_what_cannot_notice_a_circular_shift_is_exactly_consistent(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = pixels(200, 16), classes(200)
    for model in (MeanColour(), circular(1, images)):
        found = shift.measure_task(Task(model), given(monkeypatch, images, labels))
        accuracies = {value for name, (value, _) in found.items() if "accuracy" in name}
        assert {value for name, (value, _) in found.items() if "consistency" in name} == {1.0}
        assert len(accuracies) == 1


def test_a_stride_of_two_notices_one_pixel_and_not_two(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pixels(200, 16)
    found = shift.measure_task(Task(circular(2, images)), given(monkeypatch, images, classes(200)))
    assert found["shift_consistency_01"][0] < 1
    assert found["shift_consistency_02"][0] == found["shift_consistency_04"][0] == 1


def test_no_more_than_the_first_images_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    count = decisions.IMAGES + 20
    images, labels = torch.zeros(count, 3, 8, 8, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64)
    labels[: decisions.IMAGES // 4] = 1
    found = shift.measure_task(Task(MeanColour()), given(monkeypatch, images, labels))
    assert found["shift_accuracy_01"][0] == 0.75


@pytest.mark.slow
def test_a_run_has_the_numbers_of_all_three_probes(tmp_path: Path) -> None:
    config = RunConfig(
        model="lenet5",
        train_size=40,
        steps=2,
        evaluations=1,
        global_batch=16,
        lr=1e-3,
        shots="",
        select="last",
        probes="shift patch_shuffle texture_shape",
        precision="fp32",
    )
    place = RunContext(
        folder=RunFolder(tmp_path, config),
        launch=Launch(wandb="off"),
        cache=tmp_path / "cache",
        settings=("model",),
        accelerator="cpu",
        report=lambda message: None,
    )
    found = run.execute(config, place)["metrics"]
    whole = found["test_accuracy"]["value"]  # digits have fewer test images than a probe looks at
    assert found["shift_accuracy_00"]["value"] == found["shuffled_accuracy_01"]["value"] == pytest.approx(whole)
    assert {"shift_consistency_02", "shuffled_accuracy_04", "shape_share", "cue_share"} <= set(found)
