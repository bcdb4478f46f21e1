from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import alexnet as torchvision_alexnet

from vision_repro import models
from vision_repro.models.alexnet import PATTERN
from vision_repro.models.layers.response_norm import ResponseNorm


class Row(NamedTuple):
    """A row of a table of the lecture slides: output, memory of it [KB], parameters with bias, multiply-adds."""

    channels: int
    side: int
    kilobytes: float
    parameters: int
    macs: int


SLIM = {
    "conv1": Row(64, 56, 784, 23_296, 72_855_552),
    "pool1": Row(64, 27, 182.25, 0, 419_904),
    "conv2": Row(192, 27, 546.75, 307_392, 223_948_800),
    "pool2": Row(192, 13, 126.75, 0, 292_032),
    "conv3": Row(384, 13, 253.5, 663_936, 112_140_288),
    "conv4": Row(256, 13, 169, 884_992, 149_520_384),
    "conv5": Row(256, 13, 169, 590_080, 99_680_256),
    "pool5": Row(256, 6, 36, 0, 82_944),
    "flatten": Row(9216, 1, 36, 0, 0),
    "fc6": Row(4096, 1, 16, 37_752_832, 37_748_736),
    "fc7": Row(4096, 1, 16, 16_781_312, 16_777_216),
    "fc8": Row(1000, 1, 3.90625, 4_097_000, 4_096_000),
}
WIDE = {
    "conv1": Row(96, 55, 1134.375, 34_944, 105_415_200),
    "pool1": Row(96, 27, 273.375, 0, 629_856),
    "conv2": Row(256, 27, 729, 614_656, 447_897_600),
    "pool2": Row(256, 13, 169, 0, 389_376),
    "conv3": Row(384, 13, 253.5, 885_120, 149_520_384),
    "conv4": Row(384, 13, 253.5, 1_327_488, 224_280_576),
    "conv5": Row(256, 13, 169, 884_992, 149_520_384),
    "pool5": Row(256, 6, 36, 0, 82_944),
    "flatten": Row(9216, 1, 36, 0, 0),
    "fc6": Row(4096, 1, 16, 37_752_832, 37_748_736),
    "fc7": Row(4096, 1, 16, 16_781_312, 16_777_216),
    "fc8": Row(1000, 1, 3.90625, 4_097_000, 4_096_000),
}


def alexnet(name: str, image_size: int, classes: int = 10) -> Any:
    torch.manual_seed(0)
    return models.build(name, image_size=image_size, classes=classes).eval()


def rows(name: str, image_size: int) -> dict[str, Row]:
    """Returns what one image makes of every layer, in the terms of the slides: a pooling costs K x K per output."""
    found: dict[str, Row] = {}

    def note(key: str, layer: nn.Module, output: Tensor) -> None:
        channels, side = output.shape[1], output.shape[2] if output.ndim == 4 else 1
        taps = layer.weight[0].numel() if isinstance(layer, nn.Conv2d | nn.Linear) else 0
        taps = 9 if isinstance(layer, nn.MaxPool2d) else taps
        kilobytes = output.numel() * 4 / 1024
        found[key] = Row(channels, side, kilobytes, models.parameters(layer), output.numel() * taps)

    with torch.device("meta"):
        model = alexnet(name, image_size, 1000)
        layers = {**dict(model.features.named_children()), **dict(model.neck.named_children()), "fc8": model.head}
        for key, layer in layers.items():
            layer.register_forward_hook(lambda layer, _, output, key=key: note(key, layer, output))
        model(torch.empty(1, 3, image_size, image_size))
    return found


@pytest.mark.parametrize(("name", "table"), [("alexnet-64", SLIM), ("alexnet", WIDE)])
def test_every_row_of_the_slides(name: str, table: dict[str, Row]) -> None:
    found = rows(name, 227)
    assert {key: found[key] for key in table} == table


def test_the_sums_of_the_slides() -> None:
    slim, wide = SLIM.values(), WIDE.items()
    assert sum(row.kilobytes for row in slim) == 2339.15625
    assert sum(row.parameters for row in slim) == 61_100_840
    assert sum(row.macs for row in slim) == 717_562_112
    assert sum(row.parameters for _, row in wide) == 62_378_344
    assert sum(row.macs for key, row in wide if not key.startswith("pool")) == 1_135_256_096


def test_the_convolutions_of_the_paper_in_two_halves() -> None:
    """AlexNet, 3.5: the kernels of conv2 are 5x5x48, those of conv4 and conv5 3x3x192, conv3 sees all 256 maps."""
    with torch.device("meta"):
        features = alexnet("alexnet-grouped", 227).features
    kernels = [tuple(features.get_submodule(f"conv{index}").weight.shape) for index in range(1, 6)]
    assert kernels == [(96, 3, 11, 11), (256, 48, 5, 5), (384, 256, 3, 3), (384, 192, 3, 3), (256, 192, 3, 3)]


@pytest.mark.parametrize("image_size", [224, 227])
def test_the_papers_maps_of_55_pixels_at_both_sizes(image_size: int) -> None:
    found = rows("alexnet", image_size)
    sides = [found[key].side for key in ("conv1", "pool1", "pool2", "pool5")]
    assert sides == [55, 27, 13, 6]


@pytest.mark.parametrize("image_size", [224, 227])
def test_is_torchvisions(image_size: int) -> None:
    with torch.device("meta"):
        ours, theirs = alexnet("alexnet-64", image_size), torchvision_alexnet(num_classes=10).eval()
    theirs = theirs.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    state = theirs.state_dict()
    for value in state.values():
        bound = (3 / value[0].numel()) ** 0.5 if value.ndim > 1 else 0.1
        value.uniform_(-bound, bound, generator=generator)
    ours.load_state_dict(dict(zip(ours.state_dict(), state.values(), strict=True)), assign=True)
    images = torch.randn(2, 3, image_size, image_size, generator=generator)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


def block_diagonal(weight: Tensor) -> Tensor:
    """Returns the ungrouped kernels that do what these do in two groups."""
    outputs, inputs = weight.shape[:2]
    whole = weight.new_zeros(outputs, 2 * inputs, *weight.shape[2:])
    whole[: outputs // 2, :inputs] = weight[: outputs // 2]
    whole[outputs // 2 :, inputs:] = weight[outputs // 2 :]
    return whole


def test_grouped_is_ungrouped_with_block_diagonal_kernels() -> None:
    halves, whole = alexnet("alexnetx0.125-grouped", 32), alexnet("alexnetx0.125", 32)
    state = OrderedDict(halves.state_dict())
    for index in (2, 4, 5):
        state[f"features.conv{index}.weight"] = block_diagonal(state[f"features.conv{index}.weight"])
    whole.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(halves(images), whole(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("alexnet", 2), ("alexnet-grouped", 2), ("alexnet-nolrn", 0), ("alexnet-64", 0), ("alexnet-64-lrn", 2)],
)
def test_normalisation_stands_between_relu_and_pooling(name: str, expected: int) -> None:
    with torch.device("meta"):
        model = alexnet(name, 227)
    norms = [item for item in model.modules() if isinstance(item, ResponseNorm)]
    assert len(norms) == expected
    assert all((item.size, item.alpha, item.beta, item.k) == (5, 1e-4, 0.75, 2.0) for item in norms)
    keys = list(dict(model.features.named_children()))
    for index in (1, 2) if expected else ():
        place = keys.index(f"norm{index}")
        assert keys[place - 2 : place + 2] == [f"conv{index}", f"relu{index}", f"norm{index}", f"pool{index}"]
    drops = [item.p for item in model.modules() if isinstance(item, nn.Dropout)]
    assert drops == [0.5, 0.5]
    assert list(dict(model.neck.named_children()))[-3:] == ["fc7", "relu7", "drop7"]


@pytest.mark.parametrize(
    ("image_size", "poolings", "side"),
    [(64, [1, 2, 5], 3), (32, [1, 2, 5], 3), (15, [1, 2, 5], 1), (14, [2, 5], 2), (8, [2, 5], 1), (3, [5], 1)],
)
def test_small_images_keep_the_structure(image_size: int, poolings: list[int], side: int) -> None:
    found = rows("alexnetx0.125", image_size)
    assert [int(key[4:]) for key in found if key.startswith("pool")] == poolings
    assert found["pool5"].side == side
    assert found["flatten"].channels == 32 * side**2


def test_the_papers_initialisation() -> None:
    model = alexnet("alexnetx0.5-gaussian", 32)
    for key, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05), key
            ones = key.rpartition(".")[2] in ("conv2", "conv4", "conv5", "fc6", "fc7")
            assert layer.bias is not None
            assert torch.equal(layer.bias, torch.full_like(layer.bias, float(ones))), key


@pytest.mark.parametrize(
    "name", ["alexnet-64-nolrn", "alexnet-64-grouped", "alexnet-lrn", "alexnet-nolrn-grouped", "alexnetx", "alexnet-32"]
)
def test_names_that_are_none(name: str) -> None:
    assert not PATTERN.fullmatch(name)
