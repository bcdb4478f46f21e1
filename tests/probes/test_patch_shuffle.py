"""Shuffled patches: cut and put together by a slow loop, and networks that cannot tell."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.probes import patch_shuffle
from vision_repro.probes.patch_shuffle import cut, grids, join, orders, shuffled
from vision_repro.tasks.classifier import Classifier


def pixels(count: int, size: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(1)).byte()


def test_grids_divide_the_image_into_patches_of_two_pixels_or_more() -> None:
    assert [grids(size) for size in (8, 16, 32)] == [(2, 4), (2, 4, 8), (2, 4, 8, 16)]
    assert grids(224) == (2, 4, 7, 8, 14, 16)
    assert grids(14) == (2, 7)
    with pytest.raises(UserError, match="--image_size=9 cannot be shuffled"):
        patch_shuffle.check(nn.Identity(), 9)
    patch_shuffle.check(nn.Identity(), 8)


def test_patches_are_put_where_a_slow_loop_puts_them() -> None:
    images, grid, side = pixels(3, 12), 4, 3
    found, order = shuffled(images, grid), orders(3, grid**2)
    for index in range(3):
        for place in range(grid**2):
            row, column = divmod(place, grid)
            source_row, source_column = divmod(int(order[index, place]), grid)
            for down in range(side):
                for across in range(side):
                    here = found[index, :, row * side + down, column * side + across]
                    there = images[index, :, source_row * side + down, source_column * side + across]
                    assert torch.equal(here, there)


def test_cut_and_join_are_inverse() -> None:
    images = pixels(2, 8)
    assert torch.equal(join(cut(images, 4), 4), images)
    assert torch.equal(cut(images, 2)[:, 1], images[:, :, :4, 4:])


def test_orders_are_permutations_fixed_by_place_and_grid() -> None:
    found = orders(50, 16)
    assert torch.equal(found.sort(1).values, torch.arange(16).expand(50, 16))
    assert torch.equal(orders(7, 16), found[:7])
    assert len({tuple(row.tolist()) for row in found}) == 50
    counts = orders(2400, 4).mul(torch.tensor([64, 16, 4, 1])).sum(1).bincount()
    assert len(counts[counts > 0]) == math.factorial(4)
    assert all(50 < count < 160 for count in counts[counts > 0].tolist())  # 100 of each in the mean


def measured(monkeypatch: pytest.MonkeyPatch, task: Any, images: Tensor, labels: Tensor) -> dict[str, float]:
    monkeypatch.setattr(patch_shuffle, "first_images", lambda module, split, count: (images[:count], labels[:count]))
    return {name: value for name, (value, unit) in patch_shuffle.measure_task(task, None).items() if unit == "fraction"}


def told(model: nn.Module) -> Classifier:
    task = Classifier(model, lr=1e-3, weight_decay=0.0, steps=1)
    return task.eval()


class Colours(nn.Module):
    """Logits that are the mean of each colour, added exactly."""

    def forward(self, images: Tensor) -> Tensor:
        return images.double().add(1).mul(127.5).round().sum((2, 3))


def test_the_mean_colour_is_blind_to_all_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pixels(300, 16)
    labels = images.double().sum((2, 3)).argmax(1)
    labels[::3] = (labels[::3] + 1) % 3
    found = measured(monkeypatch, told(Colours()), images, labels)
    assert found == dict.fromkeys((f"shuffled_accuracy_{grid:02}" for grid in (1, 2, 4, 8)), pytest.approx(2 / 3))


@pytest.mark.parametrize(("name", "blind"), [("vit-32x2/4-gap-pos0", True), ("vit-32x2/4-gap", False)])
def test_a_vit_without_positions_is_blind_at_its_own_patches(
    monkeypatch: pytest.MonkeyPatch, name: str, blind: bool
) -> None:
    torch.manual_seed(0)
    model = models.build(name, image_size=16, classes=10)
    nn.init.normal_(model.get_classifier().weight)  # type: ignore[operator]
    if not blind:
        nn.init.normal_(model.get_parameter("pos_embed"))
    images, task = pixels(100, 16), told(model)
    with torch.no_grad():
        labels = task.predict(images)
    found = measured(monkeypatch, task, images, labels)
    assert found["shuffled_accuracy_01"] == 1
    assert (found["shuffled_accuracy_04"] > 0.97) is blind  # rounding may tip an image
    assert found["shuffled_accuracy_08"] < 1  # cuts through its patches


def test_labels_and_place_decide_nothing_but_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    class Corner:
        device = torch.device("cpu")

        def predict(self, images: Tensor) -> Tensor:
            return images[:, 0, 0, 0].long()

    images = torch.arange(16).reshape(1, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    images = images.expand(400, 3, 8, 8).byte()
    found = measured(monkeypatch, Corner(), images, torch.zeros(400, dtype=torch.int64))
    kept = float((orders(400, 16)[:, 0] == 0).float().mean())
    assert found["shuffled_accuracy_04"] == pytest.approx(kept)
    assert 0.02 < kept < 0.12  # 1 in 16
    assert SimpleNamespace(**found).shuffled_accuracy_02 == pytest.approx(0.25, abs=0.08)
