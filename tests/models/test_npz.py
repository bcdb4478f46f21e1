"""Files written here as the authors write theirs, read by us, by timm, and computed with as the authors do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.models.weights.npz import convert, slots

Arrays = dict[str, np.ndarray[Any, Any]]


def drawer(seed: int = 0, scale: float = 0.2) -> Callable[..., np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return lambda *shape: (scale * rng.standard_normal(shape)).astype(np.float32)


def vit_arrays(
    width: int = 32,
    depth: int = 2,
    heads: int = 2,
    patch: int = 2,
    tokens: int = 17,
    inputs: int = 3,
    classes: int = 5,
    hidden: bool = False,
    class_token: bool = True,
) -> Arrays:
    """The names and shapes of google-research/vision_transformer, vit_jax/models_vit.py."""
    draw, each = drawer(), width // heads
    arrays = {"embedding/kernel": draw(patch, patch, inputs, width), "embedding/bias": draw(width)}
    arrays["Transformer/posembed_input/pos_embedding"] = draw(1, tokens, width)
    if class_token:
        arrays["cls"] = draw(1, 1, width)
    for layer in range(depth):
        block = f"Transformer/encoderblock_{layer}"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            arrays |= {f"{block}/{norm}/scale": 1 + draw(width), f"{block}/{norm}/bias": draw(width)}
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            arrays |= {
                f"{attention}/{part}/kernel": draw(width, heads, each),
                f"{attention}/{part}/bias": draw(heads, each),
            }
        arrays |= {f"{attention}/out/kernel": draw(heads, each, width), f"{attention}/out/bias": draw(width)}
        mlp = f"{block}/MlpBlock_3"
        arrays |= {f"{mlp}/Dense_0/kernel": draw(width, 4 * width), f"{mlp}/Dense_0/bias": draw(4 * width)}
        arrays |= {f"{mlp}/Dense_1/kernel": draw(4 * width, width), f"{mlp}/Dense_1/bias": draw(width)}
    arrays |= {"Transformer/encoder_norm/scale": 1 + draw(width), "Transformer/encoder_norm/bias": draw(width)}
    if hidden:
        arrays |= {"pre_logits/kernel": draw(width, width), "pre_logits/bias": draw(width)}
    if classes:
        arrays |= {"head/kernel": draw(width, classes), "head/bias": draw(classes)}
    return arrays


def hybrid_arrays(layers: tuple[int, ...], old_norms: bool = False, **vit: Any) -> Arrays:
    """The ResNet of vit_jax/models_resnet.py before a ViT; old files have GroupNorm vectors of shape [1, 1, 1, C]."""
    draw = drawer(1)

    def norm(name: str, channels: int) -> Arrays:
        shape = (1, 1, 1, channels) if old_norms else (channels,)
        return {f"{name}/scale": 1 + draw(*shape), f"{name}/bias": draw(*shape)}

    arrays, before = {"conv_root/kernel": draw(7, 7, 3, 64), **norm("gn_root", 64)}, 64
    for stage, count in enumerate(layers):
        width = 64 * 2**stage
        for unit in range(count):
            name = f"block{stage + 1}/unit{unit + 1}"
            shapes = {1: (1, 1, before, width), 2: (3, 3, width, width), 3: (1, 1, width, 4 * width)}
            for part, shape in shapes.items():
                arrays |= {f"{name}/conv{part}/kernel": draw(*shape), **norm(f"{name}/gn{part}", shape[-1])}
            if unit == 0:
                arrays |= {
                    f"{name}/conv_proj/kernel": draw(1, 1, before, 4 * width),
                    **norm(f"{name}/gn_proj", 4 * width),
                }
            before = 4 * width
    return arrays | vit_arrays(inputs=before, **vit)


def bit_arrays(layers: tuple[int, ...], classes: int = 5) -> Arrays:
    """The names and shapes that google-research/big_transfer, bit_pytorch/models.py reads."""
    draw, conv, before = drawer(2), "standardized_conv2d/kernel", 64
    arrays = {f"resnet/root_block/{conv}": draw(7, 7, 3, before)}
    for stage, count in enumerate(layers):
        middle = 64 * 2**stage
        for unit in range(count):
            name = f"resnet/block{stage + 1}/unit{unit + 1:02d}"
            shapes = {"a": (1, 1, before, middle), "b": (3, 3, middle, middle), "c": (1, 1, middle, 4 * middle)}
            for part, shape in shapes.items():
                arrays[f"{name}/{part}/{conv}"] = draw(*shape)
                arrays[f"{name}/{part}/group_norm/gamma"] = 1 + draw(shape[2])
                arrays[f"{name}/{part}/group_norm/beta"] = draw(shape[2])
            if unit == 0:
                arrays[f"{name}/a/proj/{conv}"] = draw(1, 1, before, 4 * middle)
            before = 4 * middle
    arrays |= {"resnet/group_norm/gamma": 1 + draw(before), "resnet/group_norm/beta": draw(before)}
    return arrays | {"resnet/head/conv2d/kernel": draw(1, 1, before, classes), "resnet/head/conv2d/bias": draw(classes)}


# name, image size, what the file is
CASES = [
    ("vit-32x2/2", 8, lambda: vit_arrays()),
    ("vit-64x3/4", 32, lambda: vit_arrays(64, 3, 4, 4, 65)),
    ("vit-32x2/2-gap", 8, lambda: vit_arrays(tokens=16, class_token=False)),
    ("r26+vit-64x2/32", 96, lambda: hybrid_arrays((2, 2, 2, 2), width=64, heads=4, patch=1, tokens=10)),
    ("r11/4+vit-32x2/16", 64, lambda: hybrid_arrays((1, 1, 1), old_norms=True, patch=1, tokens=17)),
    ("r/4+vit-32x2/8", 32, lambda: hybrid_arrays((), tokens=17)),
    ("bit-r20x1/4", 32, lambda: bit_arrays((2, 2, 2))),
    ("bit-r14x1", 96, lambda: bit_arrays((1, 1, 1, 1))),
]


def loaded(name: str, image_size: int, arrays: Arrays) -> nn.Module:
    model = models.build(name, image_size=image_size, classes=5)
    model.load_state_dict(convert(arrays, model, "x.npz"))
    return model.eval()


@pytest.mark.parametrize(("name", "image_size", "arrays"), CASES)
def test_timm_reads_the_same(name: str, image_size: int, arrays: Callable[[], Arrays], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays())
    ours = loaded(name, image_size, arrays())
    torch.manual_seed(0)
    theirs: Any = models.build(name, image_size=image_size, classes=5).eval()
    theirs.load_pretrained(str(tmp_path / "x.npz"))
    for key, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[key]), key
    images = torch.randn(2, 3, image_size, image_size)
    with torch.no_grad():
        logits = ours(images)
        assert torch.equal(logits, theirs(images))
    assert logits.std() > 0.01


def flax_dense(tokens: np.ndarray[Any, Any], arrays: Arrays, name: str) -> np.ndarray[Any, Any]:
    return tokens @ arrays[f"{name}/kernel"] + arrays[f"{name}/bias"]


def flax_norm(tokens: np.ndarray[Any, Any], arrays: Arrays, name: str) -> np.ndarray[Any, Any]:
    scaled = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(tokens.var(-1, keepdims=True) + 1e-6)
    return scaled * arrays[f"{name}/scale"] + arrays[f"{name}/bias"]


def flax_attention(tokens: np.ndarray[Any, Any], arrays: Arrays, name: str) -> np.ndarray[Any, Any]:
    query, key, value = (
        np.einsum("btd,dhe->bthe", tokens, arrays[f"{name}/{part}/kernel"]) + arrays[f"{name}/{part}/bias"]
        for part in ("query", "key", "value")
    )
    logits = np.einsum("bqhe,bkhe->bhqk", query / np.sqrt(query.shape[-1]), key)
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mixed = np.einsum("bhqk,bkhe->bqhe", weights, value)
    return np.einsum("bqhe,hed->bqd", mixed, arrays[f"{name}/out/kernel"]) + arrays[f"{name}/out/bias"]


@pytest.mark.parametrize(("hidden", "name"), [(False, "vit-32x2/2"), (True, "vit-32x2/2-tanh")])
def test_a_vit_computes_what_its_file_does_in_flax(hidden: bool, name: str) -> None:
    arrays = vit_arrays(hidden=hidden)
    images = np.random.default_rng(3).standard_normal((2, 8, 8, 3)).astype(np.float32)
    patches = images.reshape(2, 4, 2, 4, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 16, 12)
    tokens = patches @ arrays["embedding/kernel"].reshape(12, 32) + arrays["embedding/bias"]
    tokens = np.concatenate((np.tile(arrays["cls"], (2, 1, 1)), tokens), 1)
    tokens = tokens + arrays["Transformer/posembed_input/pos_embedding"]
    for layer in range(2):
        block = f"Transformer/encoderblock_{layer}"
        first = flax_norm(tokens, arrays, f"{block}/LayerNorm_0")
        tokens = tokens + flax_attention(first, arrays, f"{block}/MultiHeadDotProductAttention_1")
        second = flax_norm(tokens, arrays, f"{block}/LayerNorm_2")
        grown = torch.from_numpy(flax_dense(second, arrays, f"{block}/MlpBlock_3/Dense_0"))
        tokens = tokens + flax_dense(F.gelu(grown).numpy(), arrays, f"{block}/MlpBlock_3/Dense_1")
    found = flax_norm(tokens, arrays, "Transformer/encoder_norm")[:, 0]
    found = np.tanh(flax_dense(found, arrays, "pre_logits")) if hidden else found
    expected = torch.from_numpy(flax_dense(found, arrays, "head"))
    model = loaded(name, 8, arrays)
    with torch.no_grad():
        torch.testing.assert_close(
            model(torch.from_numpy(images).permute(0, 3, 1, 2)), expected, rtol=1e-4, atol=1e-4, check_dtype=False
        )


def standard_conv(maps: torch.Tensor, kernel: np.ndarray[Any, Any], stride: int = 1) -> torch.Tensor:
    """A weight-standardised convolution with the kernel of a file, [height, width, inputs, outputs]."""
    centred = kernel - kernel.mean((0, 1, 2))
    standard = (centred / np.sqrt(kernel.var((0, 1, 2)) + 1e-10)).transpose(3, 2, 0, 1)
    return F.conv2d(maps, torch.from_numpy(standard), stride=stride, padding=kernel.shape[0] // 2)


def test_a_bit_computes_what_its_file_does() -> None:
    arrays, conv = bit_arrays((2, 2, 2)), "standardized_conv2d/kernel"
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def active(maps: torch.Tensor, name: str) -> torch.Tensor:
        scale, shift = (torch.from_numpy(arrays[f"{name}/group_norm/{part}"]) for part in ("gamma", "beta"))
        return F.group_norm(maps, 32, scale, shift).relu()

    maps = F.max_pool2d(F.pad(standard_conv(images, arrays[f"resnet/root_block/{conv}"], 2), (1, 1, 1, 1)), 3, 2)
    for stage, count in enumerate((2, 2, 2)):
        for unit in range(count):
            name, stride = f"resnet/block{stage + 1}/unit{unit + 1:02d}", 2 if stage and not unit else 1
            inside = active(maps, f"{name}/a")
            short = maps if unit else standard_conv(inside, arrays[f"{name}/a/proj/{conv}"], stride)
            inside = active(standard_conv(inside, arrays[f"{name}/a/{conv}"]), f"{name}/b")
            inside = active(standard_conv(inside, arrays[f"{name}/b/{conv}"], stride), f"{name}/c")
            maps = short + standard_conv(inside, arrays[f"{name}/c/{conv}"])
    pooled = active(maps, "resnet").mean((2, 3))
    kernel, bias = (torch.from_numpy(arrays[f"resnet/head/conv2d/{part}"]) for part in ("kernel", "bias"))
    model = loaded("bit-r20x1/4", 32, arrays)
    with torch.no_grad():
        torch.testing.assert_close(model(images), pooled @ kernel[0, 0] + bias, rtol=1e-3, atol=1e-3)


def test_a_file_of_training_state_has_its_weights_under_a_prefix() -> None:
    arrays = vit_arrays()
    model = models.build("vit-32x2/2", image_size=8, classes=5)
    inside = {**{f"opt/target/{key}": value for key, value in arrays.items()}, "opt/state/step": np.zeros(1, np.int32)}
    found, expected = convert(inside, model, "x.npz"), convert(arrays, model, "x.npz")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_every_parameter_of_a_model_has_a_slot() -> None:
    for name, image_size, _ in CASES:
        model = models.build(name, image_size=image_size, classes=5)
        needed, optional = slots(model)
        head = {slot.here for slot in optional}
        assert {slot.here for slot in needed} | (head & set(model.state_dict())) == set(model.state_dict())


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("vit-32x2/4", {}, r'x.npz: its "embedding/kernel" has shape \[2, 2, 3, 32\], expected \[4, 4, 3, 32\]'),
        ("vit-64x2/2", {}, r'its "embedding/kernel" has shape \[2, 2, 3, 32\], expected \[2, 2, 3, 64\]'),
        ("vit-32x3/2", {}, 'it lacks "Transformer/encoderblock_2/LayerNorm_0/scale"'),
        ("vit-32x1/2", {}, 'its "Transformer/encoderblock_1/LayerNorm_0/bias" has no place in it'),
        ("vit-32x2/2-gap", {}, 'its "cls" has no place in it'),
        ("vit-32x2/2-pos2d", {}, 'its "Transformer/posembed_input/pos_embedding" has no place in it'),
        ("vit-32x2/2-posrel", {}, "has no place in it|it lacks"),
        ("r8+vit-32x2/2", {}, 'it lacks "conv_root/kernel"'),
        ("bit-r11x1/4", {}, 'it lacks "resnet/root_block/standardized_conv2d/kernel"'),
        ("vit-32x2/2", {"cls": np.zeros((1, 1, 32), np.int64)}, 'its "cls" holds int64, expected floating-point'),
        ("vit-32x2/2", {"cls": np.zeros((32, 1), np.float32)}, r'its "cls" has shape \[32, 1\], expected \[1, 1, 32\]'),
        ("vit-32x2/2", {"params/cls": np.zeros(1)}, "big_vision's layout"),
    ],
)
def test_files_of_another_model(name: str, change: Arrays, message: str) -> None:
    model = models.build(name, image_size=8, classes=5)
    with pytest.raises(UserError, match=message):
        convert({**vit_arrays(), **change}, model, "x.npz")


def test_heads_of_another_width() -> None:
    model = models.build("vit-32x2/2", image_size=8, classes=5)
    with pytest.raises(UserError, match=r'query/kernel" has shape \[32, 4, 8\], expected \[32, 2, 16\]'):
        convert(vit_arrays(heads=4), model, "x.npz")


def test_no_such_files_of_other_architectures() -> None:
    model = models.build("timm:test_resnet", image_size=64, classes=5)
    with pytest.raises(UserError, match=r"A \.npz file holds a ViT, a hybrid or a BiT, not a ResNet"):
        convert({}, model, "x.npz")
