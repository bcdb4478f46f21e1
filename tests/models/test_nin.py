from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vision_repro import models


def nin(name: str = "nin", image_size: int = 32, classes: int = 10) -> Any:
    torch.manual_seed(0)
    return models.build(name, image_size=image_size, classes=classes).eval()


def on_meta(name: str, image_size: int, classes: int) -> Any:
    with torch.device("meta"):
        return nin(name, image_size, classes)


def shapes(name: str, image_size: int) -> dict[str, tuple[int, int]]:
    """Returns channels and side of the map behind every layer."""
    found: dict[str, tuple[int, int]] = {}
    model = on_meta(name, image_size, 10)
    for key, layer in model.features.named_children():
        layer.register_forward_hook(lambda _, __, output, key=key: found.update({key: tuple(output.shape[1:3])}))
    model(torch.empty(1, 3, image_size, image_size, device="meta"))
    return found


def convolutions(name: str, image_size: int) -> list[tuple[int, ...]]:
    features = on_meta(name, image_size, 10).features
    return [tuple(item.weight.shape) for item in features.modules() if isinstance(item, nn.Conv2d)]


def test_the_net_for_cifar() -> None:
    """mavenlin/cuda-convnet, NIN/cifar-10_def: layers, sides, and the sum of parameters."""
    assert convolutions("nin", 32) == [
        *((192, 3, 5, 5), (160, 192, 1, 1), (96, 160, 1, 1)),
        *((192, 96, 5, 5), (192, 192, 1, 1), (192, 192, 1, 1)),
        *((192, 192, 3, 3), (192, 192, 1, 1)),
    ]
    found = shapes("nin", 32)
    assert [found[key] for key in ("conv1_3", "pool1", "conv2_3", "pool2", "conv3_2")] == [
        *((96, 32), (96, 16), (192, 16), (192, 8), (192, 8)),
    ]
    layers = 192 * 75 + 192 + 160 * 193 + 96 * 161 + 192 * 2401 + 2 * 192 * 193 + 192 * 1729 + 192 * 193 + 10 * 193
    assert models.parameters(on_meta("nin", 32, 10)) == layers == 966_986
    assert [item.p for item in nin().modules() if isinstance(item, nn.Dropout)] == [0.5, 0.5]


def test_the_net_for_imagenet() -> None:
    found = shapes("nin", 224)
    assert [found[f"{key}"] for key in ("conv1_3", "pool1", "pool2", "pool3", "conv4_2")] == [
        *((96, 54), (96, 27), (256, 13), (384, 6), (1024, 6)),
    ]
    # the authors' snapshot has 29 MB
    assert round(4 * models.parameters(on_meta("nin", 224, 1000)) / 2**20) == 29
    assert list(shapes("nin", 224))[-5] == "drop3"


def test_the_mean_of_linear_maps_is_linear_in_the_mean() -> None:
    model = nin("ninx0.25")
    maps = model.forward_features(torch.randn(3, 3, 32, 32))
    class_maps = F.conv2d(maps, model.head.weight[:, :, None, None], model.head.bias)
    torch.testing.assert_close(model.forward_head(maps), class_maps.mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_the_authors_relu_on_the_class_maps() -> None:
    linear, ours = nin("ninx0.25"), nin("ninx0.25-relu")
    ours.load_state_dict(linear.state_dict())
    images = torch.randn(3, 3, 32, 32)
    maps = ours.forward_features(images)
    class_maps = F.conv2d(maps, ours.head.weight[:, :, None, None], ours.head.bias).relu()
    torch.testing.assert_close(ours(images), class_maps.mean((2, 3)), rtol=1e-4, atol=1e-5)
    assert float(ours(images).detach().min()) >= 0 > float(linear(images).detach().min())
    assert torch.equal(models.features(ours, images), models.features(linear, images))


@pytest.mark.parametrize("image_size", [32, 96])
def test_a_block_starts_as_its_first_convolution(image_size: int) -> None:
    model = nin("ninx0.25", image_size)
    seen: dict[str, torch.Tensor] = {}
    for key, layer in model.features.named_children():
        layer.register_forward_hook(lambda _, __, output, key=key: seen.update({key: output}))
    model(torch.randn(2, 3, image_size, image_size))
    last = seen["relu2_3"]
    assert torch.equal(last, seen["relu2_1"][:, : last.shape[1]])
    assert last.any()


@pytest.mark.parametrize(("reduction", "reduced"), [(4, (24, 48)), (1, (96, 192)), (1000, (1, 1))])
def test_a_bottleneck_stands_before_every_large_kernel_but_the_first(reduction: int, reduced: tuple[int, int]) -> None:
    found = convolutions(f"nin-bottleneck{reduction}", 32)
    assert found[0] == (192, 3, 5, 5)
    assert found[3:5] == [(reduced[0], 96, 1, 1), (192, reduced[0], 5, 5)]
    assert found[7:9] == [(reduced[1], 192, 1, 1), (192, reduced[1], 3, 3)]


def test_a_bottleneck_saves_most_of_the_parameters() -> None:
    direct, reduced = (models.parameters(on_meta(name, 32, 10)) for name in ("nin", "nin-bottleneck4"))
    saved = (192 * 96 * 25 + 192 * 192 * 9) - (24 * 96 + 24 + 192 * 24 * 25 + 48 * 192 + 48 + 192 * 48 * 9)
    assert direct - reduced == saved


@pytest.mark.parametrize("name", ["nin-bottleneck", "nin-bottleneck0", "nin-relu-bottleneck4", "nin-bn", "nin4"])
def test_names_that_are_none(name: str) -> None:
    from vision_repro.models.nin import PATTERN

    assert not PATTERN.fullmatch(name)
