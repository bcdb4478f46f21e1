from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models as torchvision_models

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.models.resnet import Block, ResNet, Widened, parse

# ResNet, Table 6 and section 4.2: parameters [millions] of the CIFAR networks, 10 classes
TABLE_6 = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7, 1202: 19.4}


def resnet(name: str, image_size: int = 8, classes: int = 10) -> ResNet:
    model = models.build(name, image_size=image_size, classes=classes)
    assert isinstance(model, ResNet)
    return model


def on_meta(name: str, image_size: int = 224) -> ResNet:
    with torch.device("meta"):
        return resnet(name, image_size)


def with_statistics(model: nn.Module) -> nn.Module:
    """Returns the model in eval mode, no BatchNorm of it doing nothing."""
    torch.manual_seed(1)
    for item in model.modules():
        if isinstance(item, nn.BatchNorm2d):
            for value, low, high in ((item.weight, 0.5, 1.5), (item.bias, -1, 1)):
                nn.init.uniform_(value, low, high)
            assert item.running_mean is not None
            assert item.running_var is not None
            item.running_mean.uniform_(-1, 1)
            item.running_var.uniform_(0.5, 1.5)
    return model.eval()


# --- against other implementations ---


@pytest.mark.parametrize("depth", [18, 50])
def test_is_torchvisions_network(depth: int) -> None:
    ours = with_statistics(resnet(f"resnet{depth}", 224))
    theirs = getattr(torchvision_models, f"resnet{depth}")(num_classes=10).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_weights_have_torchvisions_names_and_shapes(depth: int) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision_models, f"resnet{depth}")(num_classes=10)
    expected = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in on_meta(f"resnet{depth}").state_dict().items()} == expected


def slow_norm(state: dict[str, Tensor], key: str, images: Tensor) -> Tensor:
    mean, var, scale, shift = (state[f"{key}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return torch.stack(
        [(images[:, c] - mean[c]) / torch.sqrt(var[c] + 1e-5) * scale[c] + shift[c] for c in range(images.shape[1])],
        1,
    )


def slow_shortcut(kind: str, state: dict[str, Tensor], key: str, images: Tensor, out: Tensor) -> Tensor:
    """Returns what is added to `out`, the block's last map: options A, B and C of ResNet, section 4.1."""
    stride = images.shape[-1] // out.shape[-1]
    if kind == "plain":
        return torch.zeros_like(out)
    if kind == "allproj" or (kind == "projection" and images.shape != out.shape):
        weight = state[f"{key}.downsample.0.weight"]
        return slow_norm(state, f"{key}.downsample.1", functional.conv2d(images, weight, stride=stride))
    added = torch.zeros_like(out)
    for row in range(out.shape[2]):
        for column in range(out.shape[3]):
            added[:, : images.shape[1], row, column] = images[:, :, row * stride, column * stride]
    return added


def slow_cifar(kind: str, state: dict[str, Tensor], count: int, images: Tensor) -> Tensor:
    """Returns the logits of a 6n + 2 network, n = `count`, layer by layer as in ResNet, section 4.2."""
    out = functional.conv2d(images, state["conv1.weight"], padding=1)
    out = slow_norm(state, "bn1", out).clamp(min=0)
    for stage in (1, 2, 3):
        for index in range(count):
            key, stride, before = f"layer{stage}.{index}", 2 if stage > 1 and index == 0 else 1, out
            out = functional.conv2d(before, state[f"{key}.conv1.weight"], stride=stride, padding=1)
            out = slow_norm(state, f"{key}.bn1", out).clamp(min=0)
            out = slow_norm(state, f"{key}.bn2", functional.conv2d(out, state[f"{key}.conv2.weight"], padding=1))
            out = (out + slow_shortcut(kind, state, key, before, out)).clamp(min=0)
    pooled = out.flatten(2).sum(2) / (out.shape[2] * out.shape[3])
    return pooled @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize("kind", ["identity", "projection", "allproj", "plain"])
def test_cifar_network_is_the_slow_one(kind: str) -> None:
    name = "plain14x0.25" if kind == "plain" else f"resnet14x0.25-{kind}"
    model = with_statistics(resnet(name))
    images = torch.randn(2, 3, 8, 8)
    expected = slow_cifar(kind, model.state_dict(), 2, images)
    torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "strides"), [("resnet50x0.125-v1", [2, 1, 1]), ("resnet50x0.125", [1, 2, 1])])
def test_where_a_bottleneck_halves_its_map(name: str, strides: list[int]) -> None:
    model = on_meta(name)
    for stage in (2, 3, 4):
        first, second = (model.get_submodule(f"layer{stage}.{index}") for index in (0, 1))
        found: Any = [[getattr(block, f"conv{i}").stride[0] for i in (1, 2, 3)] for block in (first, second)]
        assert found == [strides, [1, 1, 1]]


# --- the paper's numbers ---


def cifar_parameters(depth: int) -> int:
    """Returns the parameters of a 6n + 2 network with 10 classes, shortcuts of type A, counted stage by stage."""
    total, inputs, blocks = 3 * 16 * 9 + 2 * 16, 16, (depth - 2) // 6
    for channels in (16, 32, 64):
        total += 9 * inputs * channels + (2 * blocks - 1) * 9 * channels**2 + 2 * blocks * 2 * channels
        inputs = channels
    return total + 64 * 10 + 10


@pytest.mark.parametrize("depth", TABLE_6)
def test_cifar_parameters_are_the_papers(depth: int) -> None:
    found = models.parameters(on_meta(f"resnet{depth}", 32))
    assert found == cifar_parameters(depth) == models.parameters(on_meta(f"plain{depth}", 32))
    digits = 2 if TABLE_6[depth] < 1 else 1
    assert round(found / 1e6, digits) == TABLE_6[depth]


def test_parameters_of_resnet_20() -> None:
    # the count that akamaster/pytorch_resnet_cifar10 gives for its faithful ResNet-20 too
    assert cifar_parameters(20) == 269_722


@pytest.mark.parametrize("prefix", ["resnet", "plain"])
@pytest.mark.parametrize(
    "rest", ["8", "20", "56", "110", "11-bottleneck", "29-bottleneck", "101-bottleneck", "18", "34", "50", "101", "152"]
)
def test_the_depth_counts_the_layers(prefix: str, rest: str) -> None:
    model = on_meta(prefix + rest, 32)
    layers = [name for name, item in model.named_modules() if isinstance(item, nn.Conv2d | nn.Linear)]
    assert len([name for name in layers if "downsample" not in name]) == int(rest.removesuffix("-bottleneck"))


def test_parameters_of_the_shortcuts_of_table_3() -> None:
    plain, a, b, c = (
        models.parameters(on_meta(name))
        for name in ("plain34", "resnet34-identity", "resnet34-projection", "resnet34-allproj")
    )
    changes = [(64, 128), (128, 256), (256, 512)]
    kept = [64] * 3 + [128] * 3 + [256] * 5 + [512] * 2
    assert plain == a
    assert b - a == sum(left * right + 2 * right for left, right in changes)
    assert c - b == sum(width * width + 2 * width for width in kept)
    assert b == models.parameters(on_meta("resnet34"))


def test_defaults_of_the_shortcuts() -> None:
    assert parse("resnet20").shortcut == "identity"
    assert parse("resnet34").shortcut == parse("resnet50").shortcut == "projection"
    assert parse("plain34").shortcut is None
    # 101 = 9 * 11 + 2: the option, not the depth, says which network is meant
    assert parse("resnet101-bottleneck").blocks == (11, 11, 11)


# --- the parts ---


def test_shortcut_a_has_no_parameters_and_takes_odd_sides() -> None:
    layer, images = Widened(3, 2), torch.randn(2, 2, 7, 7)
    out = layer(images)
    assert out.shape == (2, 5, 4, 4)
    assert torch.equal(out[:, :2], images[:, :, ::2, ::2])
    assert not out[:, 2:].any()
    assert not list(layer.parameters())


@pytest.mark.parametrize("image_size", [5, 7, 8, 33])
def test_every_image_size_will_do(image_size: int) -> None:
    for name in ("resnet8x0.25", "resnet8x0.25-projection", "resnet18x0.0625"):
        assert resnet(name, image_size).eval()(torch.randn(1, 3, image_size, image_size)).shape == (1, 10)


def test_without_its_layers_a_block_passes_its_input_on_and_a_plain_one_nothing() -> None:
    images = torch.rand(2, 4, 6, 6)
    for name, expected in (("resnet8", images), ("plain8", torch.zeros_like(images))):
        block = Block(4, 4, 1, parse(name))
        nn.init.zeros_(block.get_parameter("bn2.weight"))
        assert torch.equal(block(images), expected)


def test_starts_as_the_docstring_says() -> None:
    torch.manual_seed(0)
    model = resnet("resnet20", 32)
    kernel = model.get_parameter("layer3.1.conv2.weight")
    assert kernel.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    scales = [value for name, value in model.named_parameters() if ".bn2.weight" in name]
    assert len(scales) == 9
    assert all((value == 1).all() for value in scales)


@pytest.mark.parametrize(
    ("name", "image_size", "expected"),
    [("resnet18", 224, 7), ("resnet18", 64, 8), ("resnet50", 32, 4), ("resnet20", 32, 8), ("resnet20", 224, 56)],
)
def test_side_of_the_last_map(name: str, image_size: int, expected: int) -> None:
    model = on_meta(name, image_size)
    found = model.forward_features(torch.empty(2, 3, image_size, image_size, device="meta"))
    assert found.shape == (2, model.fc.in_features, expected, expected)


def test_features_are_the_pooled_map() -> None:
    model = resnet("resnet8x0.5").eval()
    images = torch.randn(3, 3, 8, 8)
    pooled = model.forward_features(images).mean((2, 3))
    assert torch.equal(models.features(model, images), pooled)
    assert torch.equal(model(images), model.get_classifier()(pooled))


@pytest.mark.parametrize("name", ["resnet8", "plain8", "resnet11x0.5-bottleneck-allproj", "resnet18x0.125"])
def test_learns_a_small_batch_by_heart(name: str) -> None:
    torch.manual_seed(0)
    model, images, labels = resnet(name), torch.randn(16, 3, 8, 8), torch.arange(16) % 10
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet21", "no such network has 21 layers; expected a depth of 18, 34, 50, 101, 152 or 6n"),
        ("resnet2", "no such network has 2 layers"),
        ("resnet20-bottleneck-v2", 'option "v2" is unknown'),
        ("resnet21-bottleneck", r"expected a depth of 9n \+ 2"),
        ("resnet20-projecton", 'option "projecton" is unknown.*Did you mean "projection"'),
        ("resnet20-identity-allproj", "at most one kind of shortcut"),
        ("resnet50-v1-v1", "each option once"),
        ("plain20-identity", "no kind of shortcut"),
        ("resnet18-v1", "this network has none"),
        ("resnet20x0.01", "leaves no channel"),
    ],
)
def test_names_that_cannot_be_built(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.build(name, image_size=8, classes=10)
