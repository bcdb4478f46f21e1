"""Taps inside the map: a closed form against a convolution of ones, and padding in every disguise."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import StdConv2dSame
from torch import Tensor, nn

from vision_repro.accounting.conv_padding import Axis
from vision_repro.accounting.profiler import account


@st.composite
def axes(draw: st.DrawFn) -> Axis:
    size, kernel, dilation = (draw(st.integers(1, top)) for top in (12, 5, 3))
    low, high = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    low += max(0, dilation * (kernel - 1) + 1 - size - low - high)  # the kernel fits
    return Axis(size, kernel, draw(st.integers(1, 5)), dilation, low, high)


def slow_pairs(axis: Axis) -> tuple[int, int]:
    """Every position and every tap, one by one: pairs at all, and pairs on a pixel of the map."""
    everywhere = inside = 0
    start = -axis.low
    while start + axis.dilation * (axis.kernel - 1) < axis.size + axis.high:
        for tap in range(axis.kernel):
            everywhere += 1
            inside += 0 <= start + tap * axis.dilation < axis.size
        start += axis.stride
    return everywhere, inside


@settings(max_examples=300, deadline=None)
@given(axes())
def test_closed_form_equals_a_loop_over_taps(axis: Axis) -> None:
    assert (axis.all_taps, axis.inside_taps) == slow_pairs(axis)


@settings(max_examples=60, deadline=None)
@given(axes())
def test_closed_form_equals_a_convolution_of_ones(axis: Axis) -> None:
    ones = F.pad(torch.ones(1, 1, axis.size), (axis.low, axis.high))
    found = F.conv1d(ones, torch.ones(1, 1, axis.kernel), stride=axis.stride, dilation=axis.dilation)
    assert found.shape[-1] == axis.positions
    assert int(found.sum()) == axis.inside_taps


class Padded(nn.Module):
    """Padding before a convolution, by `F.pad`, in one or two steps, around or after the map."""

    def __init__(self, *pads: tuple[int, ...], value: float = 0.0) -> None:
        super().__init__()
        self.pads, self.value = pads, value
        self.conv = nn.Conv2d(3, 5, 3, stride=2, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        for pad in self.pads:
            images = F.pad(images, pad, value=self.value)
        out: Tensor = self.conv(images)
        return out


def ones_inside(model: Padded, size: int) -> int:
    """The taps on pixels, counted by a convolution of ones."""
    images = torch.ones(1, 3, size, size)
    with torch.no_grad():
        model.conv.weight.fill_(1)
        return int(model(images).sum())


@pytest.mark.parametrize(
    "pads", [((1, 1, 1, 1),), ((0, 1, 0, 1),), ((1, 2),), ((1, 0, 0, 0), (0, 1, 1, 1)), ((2, 0, 0, 3), (1, 1, 1, 1))]
)
def test_zeros_padded_before_a_convolution_are_padding(pads: tuple[tuple[int, ...], ...]) -> None:
    model = Padded(*pads)
    layer = account(model, 8).layers[-1]
    assert layer.inside_macs == ones_inside(model, 8)
    assert layer.macs == layer.output[2] * layer.output[3] * 5 * 3 * 9
    assert layer.input == (1, 3, 8, 8)


def test_other_values_and_crops_are_no_padding() -> None:
    for model in (Padded((1, 1, 1, 1), value=1.0), Padded((-1, -1, -1, -1))):
        layer = account(model, 8).layers[-1]
        assert layer.inside_macs == layer.macs


def test_channels_of_zeros_are_no_padding() -> None:
    model = nn.Sequential(nn.ConstantPad3d((0, 0, 0, 0, 0, 2), 0.0), nn.Conv2d(5, 4, 3, padding=1))
    layer = account(model, 6).layers[-1]
    assert (layer.macs, layer.inside_macs) == (6 * 6 * 9 * 4 * 5, 16 * 16 * 4 * 5)


def test_same_padding_of_the_hybrids_is_padding() -> None:
    conv = StdConv2dSame(3, 4, 7, stride=2)
    layer = account(conv, 32).layers[-1]
    axis = Axis(32, 7, 2, 1, 2, 3)
    assert layer.padding == ((2, 3), (2, 3))
    assert (layer.macs, layer.inside_macs) == (4 * 3 * axis.all_taps**2, 4 * 3 * axis.inside_taps**2)
    assert layer.kind == "conv"


def test_without_padding_both_readings_agree() -> None:
    found = account(nn.Conv2d(3, 8, 5, stride=3), 17)
    assert found.macs("inside") == found.macs("all") == 5 * 5 * 8 * 3 * 25
