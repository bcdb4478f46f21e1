import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vision_repro.models.layers.swin_blocks import (
    PatchMerging,
    WindowAttention,
    merge,
    partition,
    relative_index,
    shift_mask,
)
from vision_repro.models.swin import msa_macs, wmsa_macs


def attention(side: int, window: int, shift: int, relative: bool, channels: int = 8, heads: int = 2) -> WindowAttention:
    torch.manual_seed(0)
    layer = WindowAttention(channels, heads, side=side, window=window, shift=shift, relative=relative)
    for value in layer.parameters():
        nn.init.normal_(value, std=0.5)
    return layer


def slow_attention(layer: WindowAttention, tokens: Tensor) -> Tensor:
    """Attention of every token of a map `[H, W, C]`, one by one (Swin, section 3.2 and Figure 4).

    Nothing is rolled: a window of the shifted grid that leaves the map goes on at the other edge, and -100 is added to
    the logits of tokens on the other side of that edge.
    """
    side, heads, window, shift = tokens.shape[0], layer.heads, layer.window, layer.shift
    width = tokens.shape[-1] // heads
    places = list(itertools.product(range(side), repeat=2))
    query, key, value = (part.unflatten(-1, (heads, width)) for part in layer.qkv(tokens).chunk(3, -1))
    out = torch.zeros_like(query)
    for y, x in places:
        row, column = (y - shift) % side, (x - shift) % side
        logits, seen = [], []
        for v, u in places:
            other_row, other_column = (v - shift) % side, (u - shift) % side
            if (row // window, column // window) != (other_row // window, other_column // window):
                continue
            logit = (query[y, x] * key[v, u]).sum(-1) / width**0.5
            if layer.relative_position_bias_table is not None:
                down, right = row - other_row + window - 1, column - other_column + window - 1
                logit = logit + layer.relative_position_bias_table[down * (2 * window - 1) + right]
            if shift and ((y < shift) != (v < shift) or (x < shift) != (u < shift)):
                logit = logit - 100
            logits.append(logit)
            seen.append(value[v, u])
        assert len(seen) == window**2
        out[y, x] = (torch.stack(logits).softmax(0)[..., None] * torch.stack(seen)).sum(0)
    found: Tensor = layer.proj(out.flatten(-2))
    return found


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(("side", "window", "shift"), [(6, 3, 1), (6, 3, 0), (8, 4, 2), (4, 4, 0), (6, 2, 1)])
def test_attention_is_the_slow_one(side: int, window: int, shift: int, relative: bool, fused: bool) -> None:
    layer = attention(side, window, shift, relative)
    layer.fused_attn = fused
    tokens = torch.randn(2, side, side, 8)
    with torch.no_grad():
        expected = torch.stack([slow_attention(layer, image) for image in tokens])
        torch.testing.assert_close(layer(tokens), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("shift", "relative"), [(2, True), (0, True), (2, False), (0, False)])
def test_fused_and_explicit_attention_have_one_gradient(shift: int, relative: bool) -> None:
    layer, tokens = attention(8, 4, shift, relative), torch.randn(2, 8, 8, 8)
    gradients = []
    for fused in (True, False):
        layer.fused_attn = fused
        layer.zero_grad()
        torch.autograd.backward(layer(tokens).square().sum())
        gradients.append([value.grad.clone() for value in layer.parameters() if value.grad is not None])
    assert len(gradients[0]) == 4 + relative
    for left, right in zip(*gradients, strict=True):
        # The gradient of a key's bias is zero: what is there is the rounding of the others.
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5 * float(left.abs().max()) + 1e-4)


def test_the_softmax_matrix_can_be_read_and_is_zero_across_the_seam() -> None:
    layer, seen = attention(8, 4, 2, relative=True), []
    layer.attn_drop.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    layer(torch.randn(3, 8, 8, 8))
    assert not seen
    layer.fused_attn = False
    layer(torch.randn(3, 8, 8, 8))
    (matrix,) = seen
    assert matrix.shape == (3, 4, 2, 16, 16)
    torch.testing.assert_close(matrix.sum(-1), torch.ones(3, 4, 2, 16))
    allowed = (matrix > 1e-20).sum(-1)
    # the first window is whole, the second cut once, the last cut twice, into 4 x 4, 4 x 2 and 2 x 2 tokens
    assert (allowed[:, 0] == 16).all()
    assert (allowed[:, 1] == 8).all()
    assert (allowed[:, 3] == 4).all()


def test_partition_and_merge() -> None:
    tokens = torch.randn(2, 6, 9, 5)
    windows = partition(tokens, 3)
    assert windows.shape == (2, 6, 9, 5)
    for index, (top, left) in enumerate(itertools.product((0, 3), (0, 3, 6))):
        assert torch.equal(windows[:, index], tokens[:, top : top + 3, left : left + 3].flatten(1, 2))
    assert torch.equal(merge(windows, 6, 9), tokens)


@pytest.mark.parametrize("window", [1, 2, 3, 7])
def test_relative_index(window: int) -> None:
    places = list(itertools.product(range(window), repeat=2))
    offsets = list(itertools.product(range(1 - window, window), repeat=2))
    expected = [[offsets.index((a - c, b - d)) for c, d in places] for a, b in places]
    assert relative_index(window).tolist() == expected


@pytest.mark.parametrize(("side", "window", "shift"), [(8, 4, 2), (14, 7, 3), (6, 2, 1)])
def test_shift_mask(side: int, window: int, shift: int) -> None:
    mask = shift_mask(side, window, shift)
    marks = torch.arange(side**2).reshape(1, side, side, 1)
    rolled = partition(marks.roll((-shift, -shift), (1, 2)), window)[0, :, :, 0]
    for region, barrier in zip(rolled.tolist(), mask, strict=True):
        # tokens may meet if they were at most a window apart before the roll
        rows, columns = torch.tensor(region) // side, torch.tensor(region) % side
        near = ((rows[:, None] - rows).abs() < window) & ((columns[:, None] - columns).abs() < window)
        assert torch.equal(barrier, torch.where(near, 0.0, -100.0))


def test_merging_patches() -> None:
    torch.manual_seed(0)
    layer, tokens = PatchMerging(3), torch.randn(2, 4, 6, 3)
    nn.init.normal_(layer.norm.weight)
    out = layer(tokens)
    assert out.shape == (2, 2, 3, 6)
    for row, column in itertools.product(range(2), range(3)):
        corners = [tokens[:, 2 * row + down, 2 * column + right] for down, right in ((0, 0), (1, 0), (0, 1), (1, 1))]
        torch.testing.assert_close(out[:, row, column], layer.reduction(layer.norm(torch.cat(corners, -1))))


@pytest.mark.parametrize(
    ("side", "channels", "msa", "wmsa"),
    # million multiply-adds of one attention module of Swin-T at 224 pixels, from Eq. 1 and 2
    [(56, 96, 2003.8, 145.1), (28, 192, 351.6, 130.4), (14, 384, 145.1, 123.0), (7, 768, 119.3, 119.3)],
)
def test_closed_forms(side: int, channels: int, msa: float, wmsa: float) -> None:
    assert round(msa_macs(side, side, channels) / 1e6, 1) == msa
    assert round(wmsa_macs(side, side, channels, 7) / 1e6, 1) == wmsa


@pytest.mark.parametrize(("side", "window", "shift"), [(8, 4, 2), (8, 4, 0), (8, 8, 0), (6, 3, 1)])
def test_closed_forms_are_what_is_counted(side: int, window: int, shift: int) -> None:
    layer = attention(side, window, shift, relative=True, channels=12, heads=3)
    layer.fused_attn = False
    with FlopCounterMode(display=False) as counter:
        layer(torch.randn(1, side, side, 12))
    assert counter.get_total_flops() == 2 * wmsa_macs(side, side, 12, window)
    if window == side:
        assert wmsa_macs(side, side, 12, window) == msa_macs(side, side, 12)
