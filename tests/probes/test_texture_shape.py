"""Texture against shape: images mixed by a slow loop, and models that see one of the two cues only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vision_repro.config import UserError
from vision_repro.probes import texture_shape
from vision_repro.probes.patch_shuffle import cut, orders
from vision_repro.probes.texture_shape import partners, parts, patch_side, pictures


class Asked:
    """A task with this rule for float images."""

    device = torch.device("cpu")

    def __init__(self, rule: Any) -> None:
        self.rule = rule

    def predict(self, images: Tensor) -> Tensor:
        found: Tensor = self.rule(images.float()).long()
        return found


def measured(monkeypatch: pytest.MonkeyPatch, rule: Any, images: Tensor, labels: Tensor) -> dict[str, float]:
    monkeypatch.setattr(texture_shape, "first_images", lambda module, split, count: (images[:count], labels[:count]))
    return {name: value for name, (value, _) in texture_shape.measure_task(Asked(rule), None).items()}


def test_there_are_about_as_many_pixels_as_patches_along_a_side() -> None:
    assert [patch_side(size) for size in (4, 8, 16, 28, 32, 64, 224, 384)] == [2, 2, 4, 4, 4, 8, 8, 16]
    assert [patch_side(size) for size in (2, 9, 15, 30)] == [1, 1, 1, 2]
    with pytest.raises(UserError, match="--image_size=15 gives patches without texture"):
        texture_shape.check(nn.Identity(), 15)
    texture_shape.check(nn.Identity(), 8)


def test_partners_are_the_next_images_of_another_class() -> None:
    assert partners(torch.tensor([0, 0, 1, 1, 2, 0, 0])).tolist() == [2, 2, 4, 4, 5, 2, 2]
    labels = torch.randint(0, 4, (200,), generator=torch.Generator().manual_seed(0))
    assert (labels[partners(labels)] != labels).all()
    with pytest.raises(UserError, match="at least two classes"):
        partners(torch.zeros(5, dtype=torch.int64))


def test_shape_and_texture_are_those_of_a_slow_loop() -> None:
    images = torch.randint(0, 256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(2)).byte()
    shape, texture = parts(images)
    order = orders(2, 16)
    for index in range(2):
        for place in range(16):
            row, column = divmod(place, 4)
            patch = images[index, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].float()
            assert torch.allclose(shape[index, place], patch.mean((1, 2), keepdim=True))
            row, column = divmod(int(order[index, place]), 4)
            source = images[index, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].float()
            assert torch.allclose(texture[index, place], source - source.mean((1, 2), keepdim=True))


def test_a_mixed_image_has_the_means_of_one_and_the_differences_of_the_other() -> None:
    images = torch.randint(4, 10, (2, 3, 16, 16), generator=torch.Generator().manual_seed(2)).mul(16).byte()
    images[1] = images[1] // 8 * 8
    shape, texture = parts(images)
    again, differences = parts(pictures(shape[:1] + texture[1:]))
    assert torch.allclose(again, shape[:1], atol=0.51)  # a pixel is rounded
    undone = differences[0][orders(1, 16)[0].argsort()]
    assert torch.allclose(undone, texture[1], atol=1.01)
    assert texture.abs().max() > 20


def two_classes(count: int = 120) -> tuple[Tensor, Tensor]:
    """Returns images that are bright above (class 0) or below, with a weak (class 0) or a strong texture."""
    labels = torch.arange(count) * 7 % 3 % 2
    images = torch.full((count, 3, 16, 16), 90.0)
    images[labels == 0, :, :8] = 160.0
    images[labels == 1, :, 8:] = 160.0
    checks = (torch.arange(16)[:, None] + torch.arange(16)).remainder(2).mul(2).sub(1)
    return (images + checks * torch.where(labels == 1, 40.0, 5.0)[:, None, None, None]).byte(), labels


def by_shape(images: Tensor) -> Tensor:
    """Bright above or below."""
    return images[:, :, :8].mean((1, 2, 3)) < images[:, :, 8:].mean((1, 2, 3))


def by_texture(images: Tensor) -> Tensor:
    """Differences within patches, weak or strong, wherever they are."""
    return cut(images, 4).std((2, 3, 4)).mean(1) > 20


def test_a_model_of_one_cue_decides_for_it_always(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = two_classes()
    found = measured(monkeypatch, by_shape, images, labels)
    assert (found["shape_share"], found["cue_share"], found["shape_only_accuracy"]) == (1, 1, 1)
    assert abs(found["texture_only_accuracy"] - 0.5) < 0.25  # guesses
    found = measured(monkeypatch, by_texture, images, labels)
    assert (found["shape_share"], found["cue_share"], found["texture_only_accuracy"]) == (0, 1, 1)
    assert found["shape_only_accuracy"] == pytest.approx(float((labels == 0).float().mean()))  # sees none, says 0


def test_decisions_for_neither_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = two_classes()

    def sometimes(seen: Tensor) -> Tensor:
        return torch.where(torch.arange(len(seen)) % 4 == 0, by_shape(seen).long(), 2)

    found = measured(monkeypatch, sometimes, images, labels)
    assert (found["shape_share"], found["cue_share"]) == (1, 0.25)
    found = measured(monkeypatch, lambda seen: torch.full((len(seen),), 2), images, labels)
    assert found["cue_share"] == 0
    assert "shape_share" not in found
