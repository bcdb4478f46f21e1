"""What the plain networks share, and that each of them learns."""

from typing import Any

import pytest
import torch
from torch import nn

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.models.layers.outputs import WithAuxiliary
from vision_repro.models.layers.plain import Mean, Plain, initialise_he, scaled, width_factor

LEARNERS = [
    ("lenet5", 8),
    ("lenet5-1998", 8),
    ("lenet5-sigmoid", 32),
    ("alexnetx0.125", 8),
    ("alexnetx0.125-grouped", 32),
    ("alexnet-64x0.125", 32),
    ("vgg11x0.125", 8),
    ("vgg16x0.125", 32),
    ("vgg11x0.125-bn", 64),
    ("ninx0.25", 8),
    ("ninx0.25-relu", 8),
    ("ninx0.25-bottleneck4", 8),
    ("googlenetx0.125", 8),
    ("googlenetx0.125-bn", 8),
    ("googlenetx0.125-nobottleneck-noaux", 8),
]


@pytest.mark.parametrize(("name", "image_size"), LEARNERS)
def test_learns_eight_images_by_heart(name: str, image_size: int) -> None:
    torch.manual_seed(0)
    model = models.build(name, image_size=image_size, classes=8).train()
    for item in model.modules():
        if isinstance(item, nn.Dropout):
            item.p = 0.0
    coarse = torch.randn(8, 3, 8, 8)
    images, labels = nn.functional.interpolate(coarse, size=(image_size, image_size)), torch.arange(8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(80):
        output = model(images)
        logits = output.logits if isinstance(output, WithAuxiliary) else output
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
        if losses[-1] < 0.5:
            return
    raise AssertionError(f"after 80 steps the loss is {losses[-1]:.3f}, at first it was {losses[0]:.3f}")


def test_the_parts_follow_each_other() -> None:
    torch.manual_seed(0)
    model = Plain(nn.Conv2d(3, 5, 3), Mean(), nn.Linear(5, 4))
    images = torch.randn(2, 3, 6, 6)
    maps = model.forward_features(images)
    assert maps.shape == (2, 5, 4, 4)
    vectors = model.forward_head(maps, pre_logits=True)
    torch.testing.assert_close(vectors, maps.flatten(2).mean(2))
    assert torch.equal(model(images), model.head(vectors))
    assert model.get_classifier() is model.head


def test_he_keeps_the_size_of_the_signal() -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(10):
        layers += [nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular"), nn.ReLU()]
    deep, head = nn.Sequential(*layers), nn.Linear(4096, 10)
    initialise_he(nn.Sequential(deep, head), head)
    images = torch.randn(4, 64, 8, 8)
    # each ReLU halves the second moment that its convolution doubles
    with torch.no_grad():
        ratio = deep(images).square().mean() / images.square().mean()
    assert 0.25 < ratio < 4  # Glorot's would leave 2^-10
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert not head.bias.any()


@pytest.mark.parametrize(
    ("channels", "factor", "multiple", "expected"),
    [(64, 1, 1, 64), (64, 0.25, 1, 16), (16, 0.01, 1, 1), (96, 0.1, 2, 10), (3, 0.1, 2, 2)],
)
def test_scaled(channels: int, factor: float, multiple: int, expected: int) -> None:
    assert scaled(channels, factor, multiple) == expected


def test_width_factor() -> None:
    assert width_factor(None) == 1
    assert width_factor("0.25") == 0.25


NAMES = ("alexnetx0", "alexnet-64x0.0", "vgg11x0", "ninx0.0", "googlenetx0")


@pytest.mark.parametrize("name", NAMES)
def test_a_width_of_zero_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"Width x0(\.0)? is not a width: expected a number above 0, such as x0.25"):
        models.build(name, image_size=32, classes=10)


LEAST = {"lenet5": 4, "alexnet": 3, "vgg11": 2, "nin": 4, "googlenet": 4}


@pytest.mark.parametrize("name", LEAST)
def test_images_too_small_are_refused_and_the_least_are_taken(name: str) -> None:
    least = LEAST[name]
    with pytest.raises(UserError, match=rf"{name} cannot take {least - 1}-pixel images: expected at least {least} "):
        models.build(name, image_size=least - 1, classes=10)
    with torch.device("meta"):
        model: Any = models.build(name, image_size=least, classes=10)
        assert model.eval()(torch.empty(2, 3, least, least)).shape == (2, 10)


SIZES = (*range(4, 20), 27, 28, 31, 32, 33, 34, 63, 64, 65, 66, 67, 96, 161, 223, 224, 225, 226, 227, 331)


@pytest.mark.parametrize(
    "name", ["lenet5", "lenet5-1998", "alexnetx0.1", "alexnet-64x0.1", "vgg11x0.1", "ninx0.1", "googlenetx0.1"]
)
def test_every_size_above_is_taken(name: str) -> None:
    """The sides that are computed ahead, for fc6 and the like, are those of the maps."""
    with torch.device("meta"):
        for image_size in SIZES:
            model: Any = models.build(name, image_size=image_size, classes=10)
            output = model.train()(torch.empty(2, 3, image_size, image_size))
            logits = [output.logits, *output.auxiliary] if isinstance(output, WithAuxiliary) else [output]
            assert all(item.shape == (2, 10) for item in logits), image_size
