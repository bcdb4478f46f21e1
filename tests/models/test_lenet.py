from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from vision_repro import models
from vision_repro.models.lenet import GREY, PATTERN, SOURCES, Grey, ScaledTanh, SparseConv, Subsample

# LeCun et al. 1998, II.B: trainable parameters of the layers
ROWS_1998 = {"features.c1": 156, "features.s2_pool": 12, "features.c3": 1_516, "features.s4_pool": 32}
ROWS_1998 |= {"neck.c5": 48_120, "neck.f6": 10_164}


def lenet(name: str, image_size: int = 32, classes: int = 10) -> Any:
    torch.manual_seed(0)
    return models.build(name, image_size=image_size, classes=classes).eval()


def shapes(model: nn.Module, image_size: int) -> dict[str, tuple[int, ...]]:
    """Returns the output shape [C, H, W] or [D] of every layer."""
    found: dict[str, tuple[int, ...]] = {}
    for name, layer in model.named_modules():
        layer.register_forward_hook(lambda _, __, output, name=name: found.update({name: tuple(output.shape[1:])}))
    model(torch.randn(1, 3, image_size, image_size))
    return found


def test_the_papers_60000_parameters() -> None:
    model = lenet("lenet5-1998")
    assert {key: models.parameters(model.get_submodule(key)) for key in ROWS_1998} == ROWS_1998
    assert sum(ROWS_1998.values()) == 60_000
    assert models.parameters(model) - models.parameters(model.head) == 60_000


def test_the_papers_maps() -> None:
    found = shapes(lenet("lenet5"), 32)
    assert found["features.grey"] == (1, 32, 32)
    assert found["features.c1"] == (6, 28, 28)
    assert found["features.s2_pool"] == (6, 14, 14)
    assert found["features.c3"] == (16, 10, 10)
    assert found["features.s4_pool"] == (16, 5, 5)
    assert found["neck.c5"] == (120, 1, 1)
    assert found["neck.f6"] == (84,)


@pytest.mark.parametrize(
    ("image_size", "c1", "s2", "c3", "s4"),
    [(28, 28, 14, 10, 5), (8, 8, 4, 4, 2), (16, 16, 8, 4, 2), (64, 60, 30, 26, 13), (4, 4, 2, 2, 1)],
)
def test_other_sizes(image_size: int, c1: int, s2: int, c3: int, s4: int) -> None:
    found = shapes(lenet("lenet5", image_size), image_size)
    layers = ("c1", "s2_pool", "c3", "s4_pool")
    assert [found[f"features.{layer}"][1] for layer in layers] == [c1, s2, c3, s4]
    assert found["neck.c5"] == (120, 1, 1)


def test_table_1_of_the_paper() -> None:
    assert len(SOURCES) == len(set(SOURCES)) == 16
    assert sorted(len(item) for item in SOURCES) == [3] * 6 + [4] * 9 + [6]
    assert sum(len(item) for item in SOURCES) * 25 + 16 == 1_516
    # every row of the table has ten crosses
    assert [sum(source in item for item in SOURCES) for source in range(6)] == [10] * 6
    # contiguous triples and quadruples, modulo 6, then the discontinuous quadruples
    assert all(set(SOURCES[index]) == {(index + step) % 6 for step in range(3)} for index in range(6))
    assert all(set(SOURCES[index + 6]) == {(index + step) % 6 for step in range(4)} for index in range(6))
    assert [set(item) for item in SOURCES[12:15]] == [{0, 1, 3, 4}, {1, 2, 4, 5}, {0, 2, 3, 5}]


def sparse_loop(maps: Tensor, layer: SparseConv) -> Tensor:
    kernels = iter(layer.weight)
    outputs = []
    for index, sources in enumerate(SOURCES):
        parts = [F.conv2d(maps[:, source : source + 1], next(kernels)[None, None]) for source in sources]
        outputs.append(torch.stack(parts).sum(0) + layer.bias[index])
    return torch.cat(outputs, 1)


def test_c3_sees_what_the_table_says() -> None:
    torch.manual_seed(0)
    layer = SparseConv(padding=0)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    maps = torch.randn(2, 6, 14, 14)
    torch.testing.assert_close(layer(maps), sparse_loop(maps, layer), rtol=1e-4, atol=1e-4)
    assert int((layer.dense().abs().sum((2, 3)) > 0).sum()) == 60


def subsample_loop(maps: Tensor, layer: Subsample) -> Tensor:
    four = maps[:, :, ::2, ::2] + maps[:, :, 1::2, ::2] + maps[:, :, ::2, 1::2] + maps[:, :, 1::2, 1::2]
    return torch.stack(
        [layer.coefficient[index] * four[:, index] + layer.bias[index] for index in range(maps.shape[1])], 1
    )


def squash(inputs: Tensor) -> Tensor:
    return 1.7159 * torch.tanh(2 * inputs / 3)


def test_the_net_of_1998_step_by_step() -> None:
    model = lenet("lenet5-1998")
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    images = torch.randn(2, 3, 32, 32)
    parts, top = model.features, model.neck
    maps = torch.stack([weight * images[:, index] for index, weight in enumerate(GREY)]).sum(0)[:, None]
    maps = squash(F.conv2d(maps, parts.c1.weight, parts.c1.bias))
    maps = squash(subsample_loop(maps, parts.s2_pool))
    maps = squash(sparse_loop(maps, parts.c3))
    maps = squash(subsample_loop(maps, parts.s4_pool)).flatten(1)
    units = squash(maps @ top.c5.weight.flatten(1).T + top.c5.bias)
    units = squash(units @ top.f6.weight.T + top.f6.bias)
    torch.testing.assert_close(models.features(model, images), units, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model(images), units @ model.head.weight.T + model.head.bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["lenet5", "lenet5-sigmoid"])
def test_the_slides_net_squashes_after_pooling_the_other_before(name: str) -> None:
    model = lenet(name)
    images = torch.randn(2, 3, 32, 32)
    parts, top = model.features, model.neck
    maps = F.conv2d(parts.grey(images), parts.c1.weight, parts.c1.bias)
    maps = F.avg_pool2d(maps, 2).sigmoid() if "sigmoid" in name else F.avg_pool2d(maps.tanh(), 2)
    maps = F.conv2d(maps, parts.c3.weight, parts.c3.bias)
    maps = F.avg_pool2d(maps, 2).sigmoid() if "sigmoid" in name else F.avg_pool2d(maps.tanh(), 2)
    act = torch.sigmoid if "sigmoid" in name else torch.tanh
    units = act(maps.flatten(1) @ top.c5.weight.flatten(1).T + top.c5.bias)
    units = act(units @ top.f6.weight.T + top.f6.bias)
    torch.testing.assert_close(model(images), units @ model.head.weight.T + model.head.bias, rtol=1e-4, atol=1e-5)


def test_grey_is_pils() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    expected = torch.from_numpy(np.array(Image.fromarray(pixels).convert("L"))).float()
    found = Grey()(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())[0, 0]
    assert float((found - expected).abs().max()) <= 1


def test_grey_images_stay_what_they_are() -> None:
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(Grey()(images.expand(-1, 3, -1, -1)), images)


def test_the_squashing_keeps_one_and_minus_one() -> None:
    torch.testing.assert_close(
        ScaledTanh()(torch.tensor([1.0, -1.0, 0.0])), torch.tensor([1.0, -1.0, 0.0]), atol=1e-4, rtol=0
    )


def test_the_paper_draws_within_its_bounds() -> None:
    model = lenet("lenet5-1998")
    for layer, inputs in ((model.features.c1, 25), (model.neck.c5, 400), (model.neck.f6, 120)):
        largest = float(layer.weight.detach().abs().max())
        assert 0.9 * 2.4 / inputs < largest <= 2.4 / inputs
    kernels = model.features.c3.weight.detach().abs().flatten(1).amax(1)
    assert float(kernels[:18].max()) <= 2.4 / 75
    assert float(kernels[18:54].max()) <= 2.4 / 100
    assert float(kernels[54:].max()) <= 2.4 / 150
    assert float(kernels.min()) > 0


@pytest.mark.parametrize("name", ["lenet", "lenet5-relu", "lenet5-sigmoid-1998", "lenet5x2"])
def test_names_that_are_none(name: str) -> None:
    assert not PATTERN.fullmatch(name)
