from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision.models
from torch import Tensor, nn
from torchvision.models.googlenet import BasicConv2d

from vision_repro import models
from vision_repro.models.googlenet import BLOCKS, PATTERN
from vision_repro.models.layers.outputs import WithAuxiliary
from vision_repro.models.layers.response_norm import ResponseNorm

# lecture slides: channels, side, memory [KB], parameters with bias, multiply-adds (a pooling costs K x K per output)
STEM = {
    "conv1": (64, 112, 3136, 9_472, 118_013_952),
    "pool1": (64, 56, 784, 0, 1_806_336),
    "conv2": (64, 56, 784, 4_160, 12_845_056),
    "conv3": (192, 56, 2352, 110_784, 346_816_512),
    "pool2": (192, 28, 588, 0, 1_354_752),
}
# Table 1 of the paper, column "params", in units of 1024 and without biases
PAPER = {"3a": 159, "3b": 380, "4a": 364, "4b": 437, "4c": 463, "4d": 580, "4e": 840, "5a": 1072, "5b": 1388}
OUTPUTS = {
    **{"3a": (256, 28), "3b": (480, 28), "pool3": (480, 14)},
    **{"4a": (512, 14), "4b": (512, 14), "4c": (512, 14), "4d": (528, 14), "4e": (832, 14), "pool4": (832, 7)},
    **{"5a": (832, 7), "5b": (1024, 7)},
}


def googlenet(name: str, image_size: int = 32, classes: int = 10) -> Any:
    torch.manual_seed(0)
    return models.build(name, image_size=image_size, classes=classes)


def on_meta(name: str, image_size: int = 224, classes: int = 1000) -> Any:
    with torch.device("meta"):
        return googlenet(name, image_size, classes).eval()


def walk(model: Any, parts: dict[str, nn.Module], image_size: int = 224) -> dict[str, tuple[int, int]]:
    """Returns channels and side of the maps behind the named parts."""
    found: dict[str, tuple[int, int]] = {}
    for key, layer in parts.items():
        layer.register_forward_hook(lambda _, __, output, key=key: found.update({key: tuple(output.shape[1:3])}))
    model(torch.empty(1, 3, image_size, image_size, device="meta"))
    return found


def weights(part: nn.Module) -> int:
    """Returns the parameters of a part without its biases."""
    return sum(value.numel() for value in part.parameters() if value.ndim > 1)


# --- the paper and the slides ---


def test_every_row_of_the_slides() -> None:
    model = on_meta("googlenet")
    parts: dict[str, Any] = dict(model.stem.named_children())
    found = walk(model, parts)
    for key, (channels, side, kilobytes, parameters, macs) in STEM.items():
        taps = 9 if key.startswith("pool") else parts[key].conv.weight[0].numel()
        assert found[key] == (channels, side), key
        assert channels * side**2 * 4 / 1024 == kilobytes, key
        assert models.parameters(parts[key]) == parameters, key
        assert channels * side**2 * taps == macs, key
    assert sum(row[2] for row in STEM.values()) == 7644
    assert sum(row[3] for row in STEM.values()) == 124_416
    assert models.parameters(model.head) == 1_025_000


def test_the_papers_maps() -> None:
    model = on_meta("googlenet")
    assert walk(model, dict(model.body.items())) == OUTPUTS


def test_the_papers_column_of_parameters() -> None:
    """Exact where the paper's rows agree with its own channels; the blocks within 9 % (4c: 497.5 against 463)."""
    model = on_meta("googlenet-noaux")
    assert weights(model.stem.conv2) + weights(model.stem.conv3) == 112 * 1024
    assert weights(model.head) == 1000 * 1024
    for key, thousands in PAPER.items():
        assert weights(model.body[key]) / 1024 == pytest.approx(thousands, rel=0.09), key
    assert int(weights(model.body["3a"]) / 1024) == PAPER["3a"]


def test_the_bottleneck_of_the_slides() -> None:
    """28x28x192 to 5x5x32: 120 million multiply-adds, a tenth of it with 16 channels between."""
    with_it, without = (on_meta(name).body["3a"].five for name in ("googlenet", "googlenet-nobottleneck"))
    assert weights(without) * 28**2 == 120_422_400
    assert weights(with_it) * 28**2 == 12_443_648
    assert [item.kernel_size[0] for item in with_it.modules() if isinstance(item, nn.Conv2d)] == [1, 5]


def test_without_bottlenecks_the_maps_are_the_same() -> None:
    model = on_meta("googlenet-nobottleneck")
    assert walk(model, dict(model.body.items())) == OUTPUTS
    for key, widths in BLOCKS.items():
        block = model.body[key]
        assert [len(branch) for branch in (block.three, block.five, block.pool)] == [1, 1, 2]
        kernels = [item for item in block.modules() if isinstance(item, nn.Conv2d)]
        assert [item.out_channels for item in kernels] == [widths.one, widths.three, widths.five, widths.pool]


def test_normalisation_and_dropout() -> None:
    model = on_meta("googlenet")
    keys = list(dict(model.stem.named_children()))
    assert keys == ["conv1", "pool1", "norm1", "conv2", "conv3", "norm2", "pool2"]
    norms = [item for item in model.modules() if isinstance(item, ResponseNorm)]
    assert [(item.size, item.alpha, item.k) for item in norms] == [(5, 2e-5, 1.0)] * 2
    assert not any(isinstance(item, nn.BatchNorm2d) for item in model.modules())
    assert [item.p for item in model.modules() if isinstance(item, nn.Dropout)] == [0.7, 0.7, 0.4]
    batch_normed = list(on_meta("googlenet-bn").modules())
    assert not any(isinstance(item, ResponseNorm) for item in batch_normed)
    assert all(item.bias is None for item in batch_normed if isinstance(item, nn.Conv2d))


def test_the_auxiliary_classifiers_of_the_paper() -> None:
    """Section 5: 4x4x512 and 4x4x528 behind the pooling, 128 maps of a 1x1 convolution, 1024 units."""
    model = on_meta("googlenet")
    assert list(model.auxiliary) == ["4a", "4d"]
    for key, channels in (("4a", 512), ("4d", 528)):
        classifier = model.auxiliary[key]
        maps = classifier.pool(torch.empty(1, channels, 14, 14, device="meta"))
        assert maps.shape == (1, channels, 4, 4)
        assert (classifier.conv.conv.in_channels, classifier.conv.conv.out_channels) == (channels, 128)
        assert (classifier.fc.in_features, classifier.fc.out_features) == (2048, 1024)
    assert (classifier.pool.kernel_size, classifier.pool.stride) == (5, 3)


# --- against slow and foreign versions ---


class Slow:
    """The net once more, as calls on a dictionary of weights."""

    def __init__(self, state: dict[str, Tensor], image_size: int) -> None:
        self.state = state
        self.image_size = image_size

    def unit(self, maps: Tensor, key: str, padding: int, stride: int = 1) -> Tensor:
        weight, bias = self.state[f"{key}.conv.weight"], self.state.get(f"{key}.conv.bias")
        maps = F.conv2d(maps, weight, bias, stride=stride, padding=padding)
        if f"{key}.norm.weight" in self.state:
            mean, var, scale, shift = (
                self.state[f"{key}.norm.{name}"][None, :, None, None]
                for name in ("running_mean", "running_var", "weight", "bias")
            )
            maps = (maps - mean) / (var + 1e-3).sqrt() * scale + shift
        return maps.clamp(min=0)

    def response_norm(self, maps: Tensor) -> Tensor:
        return F.local_response_norm(maps, 5, alpha=1e-4, beta=0.75, k=1.0)

    def stem(self, maps: Tensor) -> Tensor:
        normed = "stem.conv1.norm.weight" in self.state
        large = self.image_size > 64
        stride = 2 if self.image_size > 32 else 1
        maps = self.unit(maps, "stem.conv1", 3 if large else 1, stride)
        maps = F.max_pool2d(maps, 3, 2, ceil_mode=True) if large else maps
        maps = maps if normed else self.response_norm(maps)
        maps = self.unit(self.unit(maps, "stem.conv2", 0), "stem.conv3", 1)
        maps = maps if normed else self.response_norm(maps)
        return F.max_pool2d(maps, 3, 2, ceil_mode=True)

    def block(self, maps: Tensor, key: str) -> Tensor:
        key = f"body.{key}"
        three, five = maps, maps
        last = 0
        if f"{key}.three.1.conv.weight" in self.state:
            last = 1
            three, five = self.unit(maps, f"{key}.three.0", 0), self.unit(maps, f"{key}.five.0", 0)
        branches = [
            self.unit(maps, f"{key}.one", 0),
            self.unit(three, f"{key}.three.{last}", 1),
            self.unit(five, f"{key}.five.{last}", 2),
            self.unit(F.max_pool2d(maps, 3, 1, 1), f"{key}.pool.1", 0),
        ]
        return torch.cat(branches, 1)

    def linear(self, vectors: Tensor, key: str) -> Tensor:
        return vectors @ self.state[f"{key}.weight"].T + self.state[f"{key}.bias"]

    def auxiliary(self, maps: Tensor, key: str) -> Tensor:
        key = f"auxiliary.{key}"
        maps = self.unit(F.avg_pool2d(maps, 5, 3), f"{key}.conv", 0).flatten(1)
        return self.linear(self.linear(maps, f"{key}.fc").clamp(min=0), f"{key}.head")

    def __call__(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps, others = self.stem(images), []
        for key in ("3a", "3b", "pool", "4a", "4b", "4c", "4d", "4e", "pool", "5a", "5b"):
            maps = F.max_pool2d(maps, 3, 2, ceil_mode=True) if key == "pool" else self.block(maps, key)
            if f"auxiliary.{key}.fc.weight" in self.state:
                others.append(self.auxiliary(maps, key))
        return self.linear(maps.sum((2, 3)) / (maps.shape[2] * maps.shape[3]), "head"), others


def disturbed(name: str, image_size: int) -> Any:
    """A model away from its zeros and ones, without dropout."""
    model = googlenet(name, image_size)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if "running_var" in key:
                value.uniform_(0.5, 1.5)
            elif value.ndim == 1 and value.is_floating_point():
                value.add_(0.1 * torch.randn_like(value))
    for item in model.modules():
        if isinstance(item, nn.Dropout):
            item.p = 0.0
    return model


@pytest.mark.parametrize("option", ["", "-bn", "-nobottleneck", "-noaux"])
@pytest.mark.parametrize("image_size", [32, 64, 161])
def test_is_the_slow_version_in_evaluation(option: str, image_size: int) -> None:
    model = disturbed(f"googlenetx0.125{option}", image_size).eval()
    images = torch.randn(2, 3, image_size, image_size)
    with torch.no_grad():
        expected, _ = Slow(model.state_dict(), image_size)(images)
        found = model(images)
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("option", ["", "-nobottleneck", "-aux0.5"])
def test_is_the_slow_version_in_training(option: str) -> None:
    image_size = 224
    model = disturbed(f"googlenetx0.0625{option}", image_size).train()
    images = torch.randn(2, 3, image_size, image_size)
    with torch.no_grad():
        expected, others = Slow(model.state_dict(), image_size)(images)
        found = model(images)
    assert isinstance(found, WithAuxiliary)
    torch.testing.assert_close(found.logits, expected, rtol=1e-4, atol=1e-4)
    assert len(found.auxiliary) == 2
    for one, other in zip(found.auxiliary, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert found.weight == (0.5 if option == "-aux0.5" else 0.3)


def corrected_torchvision() -> Any:
    """torchvision's net with the paper's 5x5 branches and its 3x3 pooling before 5a."""
    theirs = torchvision.models.googlenet(num_classes=10, aux_logits=False, init_weights=False)
    for block in theirs.modules():
        if hasattr(block, "branch3"):
            thin = block.branch3[1].conv
            block.branch3[1] = BasicConv2d(thin.in_channels, thin.out_channels, kernel_size=5, padding=2)
    theirs.maxpool4 = nn.MaxPool2d(3, 2, ceil_mode=True)
    return theirs.eval()


def test_is_torchvisions_but_for_the_kernels_of_5x5() -> None:
    ours, theirs = googlenet("googlenet-bn-noaux", 96).eval(), corrected_torchvision()
    with torch.no_grad():
        for key, value in ours.state_dict().items():
            if "running_var" in key:
                value.uniform_(0.5, 1.5)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


def test_torchvisions_published_parameters_lack_the_5x5() -> None:
    meta = torchvision.models.GoogLeNet_Weights.IMAGENET1K_V1.meta
    missing = sum((25 - 9) * widths.reduce5 * widths.five for widths in BLOCKS.values())
    assert models.parameters(on_meta("googlenet-bn-noaux")) == meta["num_params"] + missing


# --- the auxiliary classifiers in training ---


@pytest.mark.parametrize("name", ["googlenetx0.125", "googlenetx0.125-bn", "googlenetx0.125-nobottleneck-aux1.0"])
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = googlenet(name).train()
    logits, auxiliary, weight = model(torch.randn(8, 3, 32, 32))
    labels = torch.arange(8)
    loss = F.cross_entropy(logits, labels) + weight * sum(F.cross_entropy(item, labels) for item in auxiliary)
    loss.backward()
    for key, value in model.named_parameters():
        assert value.grad is not None, key
        assert value.grad.isfinite().all(), key
        assert value.grad.any(), key


def test_a_weight_of_zero_trains_nothing_but_leaves_no_parameter_out() -> None:
    model = googlenet("googlenetx0.125-aux0").train()
    logits, auxiliary, weight = model(torch.randn(8, 3, 32, 32))
    labels = torch.arange(8)
    (F.cross_entropy(logits, labels) + weight * sum(F.cross_entropy(item, labels) for item in auxiliary)).backward()
    for key, value in model.named_parameters():
        assert value.grad is not None, key
        assert bool(value.grad.any()) != key.startswith("auxiliary"), key


def test_auxiliary_classifiers_do_not_run_in_evaluation() -> None:
    model = googlenet("googlenetx0.125").eval()
    calls: list[nn.Module] = []
    for item in model.auxiliary.modules():
        item.register_forward_hook(lambda layer, *_: calls.append(layer))
    images = torch.randn(2, 3, 32, 32)
    assert model(images).shape == (2, 10)
    assert models.features(model, images).shape == (2, 128)
    assert not calls
    model.train()(images)
    assert calls


def test_without_auxiliary_classifiers_training_returns_logits() -> None:
    model = googlenet("googlenetx0.125-noaux").train()
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert not any(key.startswith("auxiliary") for key in model.state_dict())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("googlenet", 0.3), ("googlenet-aux1.0", 1.0), ("googlenet-aux0", 0.0), ("googlenet-aux2", 2)],
)
def test_the_weight_is_in_the_name(name: str, expected: float) -> None:
    assert on_meta(name, 32).weight == expected


@pytest.mark.parametrize(
    ("image_size", "sides"),
    [(8, [8, 4, 2]), (32, [16, 8, 4]), (64, [16, 8, 4]), (96, [12, 6, 3]), (224, [28, 14, 7]), (256, [32, 16, 8])],
)
def test_sides_at_other_sizes(image_size: int, sides: list[int]) -> None:
    model = on_meta("googlenetx0.125", image_size)
    found = walk(model, dict(model.body.items()), image_size)
    assert [found[key][1] for key in ("3a", "4a", "5a")] == sides


@pytest.mark.parametrize(
    "name", ["googlenet-aux", "googlenet-noaux-aux0.3", "googlenet-nobottleneck-bn", "googlenet-aux-1", "inception"]
)
def test_names_that_are_none(name: str) -> None:
    assert not PATTERN.fullmatch(name)
