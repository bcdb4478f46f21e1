"""Networks of one kernel or several in a stage: weights and FLOPs of the formulas, and what differs between them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, pad
from torch.utils.flop_counter import FlopCounterMode

from vision_repro import models
from vision_repro.accounting.flops import forward_flops
from vision_repro.accounting.layers import Account
from vision_repro.accounting.profiler import account
from vision_repro.analysis.judges.kernels import inside, receptive_field, weights
from vision_repro.config import UserError
from vision_repro.models.kernel_net import parse
from vision_repro.papers.tables import paper_table

STACKS = ("5", "3.3", "3.3-linear", "7", "3.3.3", "3.3.3-linear")
ITEMS = {
    "one 5x5 conv, C to C": "5", "two 3x3 convs, C to C": "3.3", "one 7x7 conv, C to C": "7",
    "three 3x3 convs, C to C": "3.3.3",
}  # fmt: skip
"""Rows of the slides' rules, and the stacks that they speak of."""


def net(name: str, image_size: int = 32, classes: int = 10) -> Any:
    torch.manual_seed(0)
    return models.build(name, image_size=image_size, classes=classes)


def counted(name: str, image_size: int = 32) -> Account:
    with torch.device("meta"):
        return account(net(name, image_size), image_size)


def sides(stack: str) -> list[int]:
    return [int(side) for side in stack.split("-")[0].split(".")]


def stage(book: Account, number: int, kind: str = "conv") -> list[Any]:
    return [layer for layer in book.layers if f"stage{number}." in layer.name and layer.kind == kind]


@pytest.mark.parametrize("stack", STACKS)
def test_a_stage_has_the_weights_and_flops_of_the_formulas(stack: str) -> None:
    book, channels = counted(f"kernels-{stack}-c8.12.20"), (8, 12, 20)
    area = {"5": 25, "3.3": 18, "7": 49, "3.3.3": 27}[stack.removesuffix("-linear")]
    for number, count in enumerate(channels, start=1):
        convs, pixels = stage(book, number), (32 >> (number - 1)) ** 2
        assert sum(layer.parameters for layer in convs) == area * count**2 == weights(sides(stack), count)
        assert sum(2 * layer.macs for layer in convs) == 2 * pixels * area * count**2
        assert all(layer.input[1:] == layer.output[1:] == (count, *2 * (32 >> (number - 1),)) for layer in convs)


def test_the_slides_print_these_weights() -> None:
    printed = {row["item"]: row for row in paper_table("vgg_slide") if row["quantity"] == "parameters"}
    assert ITEMS.keys() <= printed.keys()
    for item, stack in ITEMS.items():
        factor = re.match(r"(\d+)C", printed[item]["slide_value"])
        assert factor is not None
        assert weights(sides(stack), 7) == int(factor[1]) * 49


@pytest.mark.parametrize("options", ["", "-s2", "-norm", "-linear-norm-s2"])
@pytest.mark.parametrize("stack", ["5", "3.3", "3.3.3"])
def test_the_whole_network_is_the_sum_of_its_parts(stack: str, options: str) -> None:
    """Stem, widening, stages, norms and head by hand; the accountant; torch's own counter."""
    if stack == "5" and "-norm" in options:
        options = ""
    first, second, side = 6, 10, 16 if "-s2" in options else 32
    name = f"kernels-{stack}{options}-c{first}.{second}"
    between = (len(sides(stack)) - 1) * ("-norm" in options)
    kernels = 27 * first, weights(sides(stack), first), first * second, weights(sides(stack), second)
    norms = 2 * (2 + between) * (first + second)
    head = 10 * second
    areas = side**2, side**2, (side // 2) ** 2, (side // 2) ** 2
    flops = 2 * (sum(count * area for count, area in zip(kernels, areas, strict=True)) + head)
    model = net(name).eval()
    assert models.parameters(model) == counted(name).parameters == sum(kernels) + norms + head + 10
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 32, 32))
    assert forward_flops(model, 32) == 2 * counted(name).macs() == counter.get_total_flops() == flops


@pytest.mark.parametrize(("large", "small"), [("5", "3.3"), ("7", "3.3.3"), ("5", "3.3-linear")])
def test_networks_differ_in_their_stacks_only(large: str, small: str) -> None:
    def rest(stack: str) -> dict[str, torch.Size]:
        state = net(f"kernels-{stack}-c4.8").state_dict()
        return {re.sub(r"conv\d$", "conv", key): value.shape for key, value in state.items() if ".conv" not in key[8:]}

    def between(stack: str) -> list[str]:
        return [type(layer).__name__ for layer in net(f"kernels-{stack}-c4.8").features.stage1]

    assert rest(large) == rest(small)
    assert between(large) == ["Conv2d", "BatchNorm2d", "ReLU"]
    inner = ["Conv2d"] if "linear" in small else ["Conv2d", "ReLU"]
    assert between(small) == inner * (len(sides(small)) - 1) + ["Conv2d", "BatchNorm2d", "ReLU"]


def test_linear_or_not_differ_in_the_relu_only() -> None:
    curved, linear = (net(f"kernels-3.3.3{kind}-c4.8", 8) for kind in ("", "-linear"))
    assert {key: value.shape for key, value in curved.state_dict().items()} == {
        key: value.shape for key, value in linear.state_dict().items()
    }
    kinds = [[type(layer) for layer in model.features.stage2] for model in (curved, linear)]
    assert [kind for kind in kinds[0][:-1] if kind is not nn.ReLU] == kinds[1][:-1]
    normed = [type(layer) for layer in net("kernels-3.3-norm-c4", 8).features.stage1]
    assert normed == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d, nn.BatchNorm2d, nn.ReLU]


@pytest.mark.parametrize("stack", ["5", "3.3", "3.3-linear", "7", "3.3.3", "3.3.3-linear"])
def test_receptive_fields_by_the_gradient(stack: str) -> None:
    part = net(f"kernels-{stack}-c4", 8).features.stage1.eval()
    image = torch.rand(1, 4, 21, 21, requires_grad=True)
    part.norm.bias.data.fill_(100.0)  # past the last ReLU
    part(image)[0, :, 10, 10].sum().backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0) > 0
    side = receptive_field(sides(stack))
    assert side == {"5": 5, "3.3": 5, "7": 7, "3.3.3": 7}[stack.removesuffix("-linear")]
    assert int(seen.any(0).sum()) == int(seen.any(1).sum()) == side


def test_a_linear_stack_is_one_large_kernel_but_for_the_border() -> None:
    """Two 3x3 kernels without a ReLU are the 5x5 kernel that is their product, where no padding is in reach."""
    part = net("kernels-3.3-linear-c5", 16).double().features.stage1
    first, second = part.conv1.weight, part.conv2.weight  # [out, in, 3, 3]
    product = conv2d(pad(first.transpose(0, 1), (2, 2, 2, 2)), second.flip(2, 3)).transpose(0, 1)
    images = torch.randn(2, 5, 12, 12, dtype=torch.float64)
    with torch.no_grad():
        stacked, whole = part.conv2(part.conv1(images)), conv2d(images, product, padding=2)
    torch.testing.assert_close(stacked[..., 1:-1, 1:-1], whole[..., 1:-1, 1:-1])
    assert not torch.allclose(stacked[..., 0, :], whole[..., 0, :])
    curved = net("kernels-3.3-c5", 16).double().features.stage1
    with torch.no_grad():
        assert not torch.allclose(curved(images)[..., 2:-2, 2:-2], part(images)[..., 2:-2, 2:-2])


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_keeps_the_variance_at_first(stack: str) -> None:
    """Behind a ReLU He's rule makes the variance 2 E[x^2]; a kernel behind a kernel keeps it. Ten draws."""
    torch.manual_seed(0)
    found, images = [], torch.randn(1, 32, 24, 24).relu()
    for _ in range(10):
        part: Any = models.build(f"kernels-{stack}-c32", image_size=32, classes=10)
        *before, _, _ = part.features.stage1
        with torch.no_grad():
            found.append(float(nn.Sequential(*before)(images)[..., 6:-6, 6:-6].square().mean()))
    assert sum(found) / len(found) == pytest.approx(2 * float(images.square().mean()), rel=0.15)


@pytest.mark.parametrize(("side", "pixels"), [(3, 8), (5, 8), (7, 8), (7, 16), (5, 4), (7, 4), (7, 2), (1, 3)])
def test_the_share_of_taps_on_the_map_is_the_accountants(side: int, pixels: int) -> None:
    layer = stage(counted(f"kernels-{side}-c4", pixels), 1)[0]
    assert inside(side, pixels) == pytest.approx(layer.inside_macs / layer.macs, rel=1e-12)


def test_the_names() -> None:
    assert parse("kernels-3.3-linear-s2-c16.32") == ((3, 3), (16, 32), True, False, 2)
    assert parse("kernels-7x0.5") == ((7,), (8, 16, 32), False, False, 1)
    assert parse("kernels-5.3.1-norm") == ((5, 3, 1), (16, 32, 64), False, True, 1)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("kernels-4", "even side"),
        ("kernels-3.0", "even side"),
        ("kernels-5-linear", "between two kernels"),
        ("kernels-5-norm-c8", "between two kernels"),
        ("kernels-3.3-c8.0", "no channel"),
        ("kernels-3.3x0", "Width x0"),
        ("kernels-3.3-s2-c4.8.16.32", "at least 16 pixels"),
        ("kernels-3.3-c8,16", "is unknown"),
    ],
)
def test_what_cannot_be_built(name: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        net(name, 8)
