import copy
import math
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.probes.attention import each_attention, geometry

KINDS = (
    ("vit-32x2/2", 8), ("vit-32x2/2-gap", 8), ("vit-32x2/2-posrel", 8), ("vit-32x2/2-pos2d-every", 8),
    ("r8x0.25+vit-64x2/2", 8), ("timm:test_vit", 64), ("swin-32x2.2/1", 8), ("swin-32x2.2/1-nobias-abspos", 8),
    ("swin-32x2.2.2/4-droppath0.1", 64),
)  # fmt: skip
TWINS = ("timm:swin_tiny_patch4_window7_224", "swin-t")


class Given(nn.Module):
    """A layer whose matrix is given; like the real ones it shows it on its explicit path only."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.fused_attn, self.num_heads, self.weights = True, len(weights), weights
        self.attn_drop = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        if not self.fused_attn:
            self.attn_drop(self.weights.expand(len(images), -1, -1, -1))
        return images


class Stub(nn.Module):
    """A model of given matrices `[H, T, T]`, one a layer, over patches of an image."""

    def __init__(self, *matrices: Tensor, grid: int, patch: int, prefix: int, pooling: str = "token") -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))
        self.patch_embed = SimpleNamespace(grid_size=(grid, grid), img_size=(grid * patch, grid * patch))
        self.num_prefix_tokens, self.global_pool = prefix, pooling
        self.blocks = nn.Sequential(*(Given(weights) for weights in matrices))

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.blocks(images)
        return out


def peaky(name: str, size: int) -> nn.Module:
    """A model whose attention is far from uniform and from symmetric."""
    torch.manual_seed(1)
    model = models.build(name, image_size=size, classes=3)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "qkv" in key:
                value.mul_(3)
            if "bias_table" in key or "offsets" in key:
                value.normal_()
    return model


def pixels(size: int, count: int = 3) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def slow_layers(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Each layer's attention between all its tokens `[B, H, T, T]` in float64, written out from queries and keys.

    A Swin's tokens are those of its whole map in raster order; attention across windows and seams is zero.
    """
    exact: Any = copy.deepcopy(model).double().eval()
    found: list[Tensor] = []

    def look(layer: Any, arguments: tuple[Tensor, ...], _: Tensor) -> None:
        found.append(_slow_swin(layer, arguments[0]) if hasattr(layer, "window") else _slow_vit(layer, arguments[0]))

    for layer in exact.modules():
        if hasattr(layer, "fused_attn"):
            layer.register_forward_hook(look)
    with torch.no_grad():
        exact(images.double())
    return found


def _heads(joint: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    width = joint.shape[-1] // 3 // heads
    query, key = (part.unflatten(-1, (heads, width)).transpose(1, 2) for part in joint.chunk(3, -1)[:2])
    return query / math.sqrt(width), key


def _slow_vit(layer: Any, tokens: Tensor) -> Tensor:
    query, key = _heads(layer.qkv(tokens), layer.num_heads)
    logits = torch.einsum("bhqd,bhkd->bhqk", query, key)
    if hasattr(layer, "offsets"):
        count = tokens.shape[1]
        offsets = layer.offsets.unflatten(-1, (layer.num_heads, -1))
        for q in range(count):
            for k in range(count):
                logits[:, :, q, k] += torch.einsum("bhd,hd->bh", query[:, :, q], offsets[count - 1 - (q - k)])
    return logits.softmax(-1)


def _slow_swin(layer: Any, tokens: Tensor) -> Tensor:
    side, window, shift = tokens.shape[1], layer.window, layer.shift
    query, key = _heads(layer.qkv(tokens.flatten(1, 2)), layer.heads)
    logits = torch.einsum("bhqd,bhkd->bhqk", query, key)
    rolled = [((t // side - shift) % side, (t % side - shift) % side) for t in range(side * side)]
    allowed = torch.zeros(side * side, side * side, dtype=torch.bool)
    for q, (row, column) in enumerate(rolled):
        for k, (row_, column_) in enumerate(rolled):
            same = row // window == row_ // window and column // window == column_ // window
            # in one window and no further apart in the image than in the window: not on two sides of the seam
            unwrapped = abs(q // side - k // side) < window and abs(q % side - k % side) < window
            allowed[q, k] = same and unwrapped
            if same and layer.relative_position_bias_table is not None:
                index = (row - row_ + window - 1) * (2 * window - 1) + column - column_ + window - 1
                logits[:, :, q, k] += layer.relative_position_bias_table[index]
    return logits.masked_fill(~allowed, -math.inf).softmax(-1)


def whole_maps(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Each layer's attention as `each_attention` shows it, windows put at their places: `[B, H, T, T]` as above."""
    places, found = geometry(model, images.shape[-1]), []

    def place(layer: int, weights: Tensor) -> None:
        centres = places.centres[layer]
        if len(centres) == 1:
            found.append(weights.clone())
            return
        apart = centres.flatten(0, 1)[:, 1].unique().diff()[0]
        side = round(images.shape[-1] / float(apart))
        token = ((centres[..., 0] // apart) * side + centres[..., 1] // apart).long()
        shown = places.between_patches(layer, weights)
        whole = torch.zeros(len(images), weights.shape[1], side**2, side**2)
        for index, row in enumerate(token):
            whole[:, :, row[:, None], row[None]] = shown[:, index]
        found.append(whole)

    each_attention(model, images, place)
    return found


@pytest.mark.parametrize(("name", "size"), KINDS)
def test_it_shows_what_queries_and_keys_give(name: str, size: int) -> None:
    model, images = peaky(name, size), pixels(size)
    expected, shown = slow_layers(model, images), whole_maps(model, images)
    assert len(shown) == len(expected) == geometry(model, size).layers
    for weights, slow in zip(shown, expected, strict=True):
        torch.testing.assert_close(weights.double(), slow, rtol=1e-3, atol=1e-5)
        assert (weights.mT.double() - slow).abs().max() > 0.02  # swapped axes would show
    assert [weights.shape[1] for weights in shown] == list(geometry(model, size).heads)


@pytest.mark.parametrize(("name", "size"), KINDS)
def test_the_model_is_left_as_it_was(name: str, size: int) -> None:
    model, images = peaky(name, size), pixels(size)
    model.train()
    next(model.children()).eval()  # a frozen part keeps its mode
    layers: list[Any] = [part for part in model.modules() if hasattr(part, "fused_attn")]
    layers[0].fused_attn = False
    before = [(part.training, getattr(part, "fused_attn", None)) for part in model.modules()]
    values = {key: value.clone() for key, value in model.state_dict().items()}

    def fail(layer: int, _: Tensor) -> None:
        raise KeyError(layer)

    output = each_attention(model, images, lambda *_: None)
    with pytest.raises(KeyError):
        each_attention(model, images, fail)
    assert [(part.training, getattr(part, "fused_attn", None)) for part in model.modules()] == before
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert all(torch.equal(value, values[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(output, model.eval()(images), rtol=1e-4, atol=1e-5)


def test_one_matrix_lives_at_a_time() -> None:
    model, images = peaky("vit-32x4/2", 8), pixels(8)
    shown: list[Any] = []

    def look(_: int, weights: Tensor) -> None:
        assert all(earlier() is None for earlier in shown)
        shown.append(weakref.ref(weights))

    each_attention(model, images, look)
    assert len(shown) == 4


def test_geometry_of_each_kind() -> None:
    vit = geometry(models.build("vit-32x2/2", image_size=8, classes=3), 8)
    assert (vit.grid, vit.patch, vit.prefix, vit.layers, vit.heads, vit.windows) == (4, 2.0, 1, 2, (2, 2), (1, 1))
    assert vit.centres[0][0, :5].tolist() == [[1, 1], [1, 3], [1, 5], [1, 7], [3, 1]]
    gap = geometry(models.build("vit-32x2/2-gap", image_size=8, classes=3), 8)
    assert gap.prefix == 0
    hybrid = geometry(models.build("r8x0.25/2+vit-64x2/4", image_size=32, classes=3), 32)
    assert (hybrid.grid, hybrid.patch) == (8, 4.0)
    swin = geometry(models.build("swin-32x2.2/1", image_size=8, classes=3), 8)
    assert (swin.grid, swin.patch, swin.prefix, swin.heads, swin.windows) == (8, 1.0, 0, (2, 2, 4, 4), (4, 4, 1, 1))
    assert swin.centres[1][3].tolist()[:4] == [[6.5, 6.5], [6.5, 7.5], [6.5, 0.5], [6.5, 1.5]]  # shifted: wraps around
    assert swin.centres[2][0, :2].tolist() == [[1, 1], [1, 3]]


def test_timm_and_our_swin_lie_alike() -> None:
    with torch.device("meta"):
        theirs, ours = (models.build(name, image_size=224, classes=3) for name in TWINS)
    with torch.device("cpu"):
        first, second = geometry(theirs, 224), geometry(ours, 224)
    assert (first.grid, first.patch, first.heads) == (second.grid, second.patch, second.heads)
    assert all(torch.equal(a, b) for a, b in zip(first.centres, second.centres, strict=True))


def test_a_model_without_attention_is_refused() -> None:
    model = models.build("timm:test_resnet", image_size=32, classes=3)
    with pytest.raises(UserError, match="has no attention to look at"):
        geometry(model, 32)
    with pytest.raises(UserError, match="has no attention to look at"):
        each_attention(model, pixels(32), lambda *_: None)


def test_an_image_that_does_not_fit_is_refused() -> None:
    model = models.build("vit-32x2/2", image_size=8, classes=3)
    with pytest.raises(UserError, match=r"built for images of 8 x 8 pixels, not 16"):
        geometry(model, 16)


def test_attention_with_other_tokens_is_refused() -> None:
    cait = models.build("timm:cait_xxs24_224", image_size=224, classes=3)
    with pytest.raises(UserError, match="layer 0 is 1 x 197"):
        each_attention(cait, pixels(224, 1), lambda *_: None)
    stub = Stub(torch.ones(1, 9, 9) / 9, grid=2, patch=4, prefix=1)
    with pytest.raises(UserError, match="has 9 tokens, not 4 patches and 1 other"):
        geometry(stub, 8).between_patches(0, torch.ones(3, 1, 9, 9) / 9)
    oblong = Stub(torch.ones(1, 8, 8) / 8, grid=2, patch=4, prefix=0)
    oblong.patch_embed.grid_size = (2, 4)
    with pytest.raises(UserError, match="2 x 4 patches"):
        geometry(oblong, 8)


def test_a_layer_that_stays_silent_is_an_error() -> None:
    stub = Stub(torch.ones(1, 4, 4) / 4, torch.ones(1, 4, 4) / 4, grid=2, patch=4, prefix=0)
    stub.blocks[1].forward = lambda images: images
    with pytest.raises(RuntimeError, match=r"2 attention layers .* these were read: \[0\]"):
        each_attention(stub, pixels(8), lambda *_: None)


@pytest.mark.slow
def test_compiled_models_are_not_silent() -> None:
    model, images = peaky("vit-32x2/2", 8).eval(), pixels(8)
    expected = whole_maps(model, images)
    wrapped: Any = torch.compile(model, backend="eager")
    seen: list[int] = []
    each_attention(wrapped, images, lambda layer, _: seen.append(layer))
    model.compile(backend="eager")
    with torch.no_grad():
        model(images)
    for weights, plain in zip(whole_maps(model, images), expected, strict=True):
        torch.testing.assert_close(weights, plain)
    assert seen == [0, 1]
