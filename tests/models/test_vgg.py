from typing import Any

import pytest
import torch
import torchvision.models
from torch import Tensor, nn

from vision_repro import models
from vision_repro.config import UserError

NAMES = [f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "-bn")]


def vgg(name: str, image_size: int = 224, classes: int = 1000) -> Any:
    torch.manual_seed(0)
    return models.build(name, image_size=image_size, classes=classes).eval()


def on_meta(name: str, image_size: int = 224, classes: int = 1000) -> Any:
    with torch.device("meta"):
        return vgg(name, image_size, classes)


def walk(name: str, image_size: int) -> dict[str, tuple[int, int, int]]:
    """Returns channels, side and multiply-adds of every layer."""
    found: dict[str, tuple[int, int, int]] = {}

    def note(key: str, layer: nn.Module, output: Tensor) -> None:
        taps = layer.weight[0].numel() if isinstance(layer, nn.Conv2d | nn.Linear) else 0
        found[key] = (output.shape[1], output.shape[2] if output.ndim == 4 else 1, output.numel() * taps)

    model = on_meta(name, image_size)
    for part in (model.features, model.neck):
        for key, layer in part.named_children():
            layer.register_forward_hook(lambda layer, _, output, key=key: note(key, layer, output))
    model.head.register_forward_hook(lambda layer, _, output: note("fc8", layer, output))
    model(torch.empty(1, 3, image_size, image_size, device="meta"))
    return found


def test_the_slides_numbers_of_vgg_16() -> None:
    model, found = on_meta("vgg16"), walk("vgg16", 224)
    assert found["flatten"] == (25_088, 1, 0)
    assert [model.neck.fc6.weight.numel(), models.parameters(model.neck.fc6)] == [102_760_448, 102_764_544]
    assert [model.neck.fc7.weight.numel(), models.parameters(model.neck.fc7)] == [16_777_216, 16_781_312]
    assert [model.head.weight.numel(), models.parameters(model.head)] == [4_096_000, 4_097_000]
    assert models.parameters(model.features) == 14_714_688
    assert models.parameters(model) == 14_714_688 + 123_642_856
    assert sum(macs for _, _, macs in found.values()) == 15_470_264_320


def test_the_slides_rule_of_the_stages() -> None:
    """A pooling halves the map and the channels double: half the memory, four times the parameters, equal work."""
    model, found = on_meta("vgg16"), walk("vgg16", 224)
    for before, after in (("conv1_2", "conv2_2"), ("conv2_2", "conv3_2"), ("conv3_2", "conv4_2")):
        (channels, side, macs), (channels_after, side_after, macs_after) = found[before], found[after]
        assert (channels_after, side_after, macs_after) == (2 * channels, side // 2, macs)
        assert macs == 36 * (side // 2) ** 2 * channels**2
        kernels, kernels_after = (model.features.get_submodule(key).weight.numel() for key in (before, after))
        assert (kernels, kernels_after) == (9 * channels**2, 36 * channels**2)


def test_a_padding_of_one_keeps_the_map_and_five_poolings_halve_it() -> None:
    found = walk("vgg16", 224)
    sides = {1: 224, 2: 112, 3: 56, 4: 28, 5: 14}
    for key, (channels, side, _) in found.items():
        if key.startswith("conv"):
            assert side == sides[int(key[4])]
            assert channels == min(512, 32 * 2 ** int(key[4]))
    assert found["pool5"][:2] == (512, 7)


@pytest.mark.parametrize("name", NAMES)
def test_the_convolutions_are_torchvisions(name: str) -> None:
    ours, theirs = vgg(name, 32, 10).features, torchvision.models.vgg.make_layers
    column = {"11": "A", "13": "B", "16": "D", "19": "E"}[name[3:5]]
    theirs = theirs(torchvision.models.vgg.cfgs[column], batch_norm=name.endswith("bn")).eval()
    with torch.no_grad():
        for key, value in ours.state_dict().items():
            if "running" in key:
                value.uniform_(0.5, 1.5)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11", "vgg11-bn"])
def test_the_whole_net_is_torchvisions(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = vgg(name, 224, 10), getattr(torchvision.models, name.replace("-", "_"))(num_classes=10).eval()
    theirs = theirs.to_empty(device="cpu")
    state = theirs.state_dict()
    generator = torch.Generator().manual_seed(0)
    for key, value in state.items():
        if value.is_floating_point():
            bound = (6 / value[0].numel()) ** 0.5 if value.ndim > 1 else 0.1
            value.uniform_(*((0.5, 1.5) if "running_var" in key else (-bound, bound)), generator=generator)
        else:
            value.zero_()
    ours.load_state_dict(dict(zip(ours.state_dict(), state.values(), strict=True)), assign=True)
    images = torch.randn(1, 3, 224, 224, generator=generator)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("depth", "millions"), [(11, 28.5), (13, 28.7), (16, 34.0), (19, 39.3)])
def test_the_parameters_of_the_reference_on_cifar_100(depth: int, millions: float) -> None:
    """weiaicunzai/pytorch-cifar100, README.md, which prints 39.0 for 19 layers."""
    model = on_meta(f"vgg{depth}-bn-fc4096", 32, classes=100)
    assert round(models.parameters(model) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("name", "image_size", "poolings", "side", "hidden"),
    [
        ("vgg16", 32, [1, 2, 3, 4, 5], 1, 512),
        ("vgg11", 64, [1, 2, 3, 4, 5], 2, 512),
        ("vgg11", 96, [1, 2, 3, 4, 5], 3, 4096),
        ("vgg11x0.25", 8, [3, 4, 5], 1, 128),
        ("vgg19", 31, [2, 3, 4, 5], 1, 512),
        ("vgg11-fc64", 32, [1, 2, 3, 4, 5], 1, 64),
    ],
)
def test_small_images(name: str, image_size: int, poolings: list[int], side: int, hidden: int) -> None:
    found = walk(name, image_size)
    assert [int(key[4:]) for key in found if key.startswith("pool")] == poolings
    assert found["pool5"][1] == side
    assert found["fc6"][0] == found["fc7"][0] == hidden


def test_without_hidden_layers_the_features_are_the_map() -> None:
    model = vgg("vgg11x0.125-fc0", 64, 10)
    images = torch.randn(2, 3, 64, 64)
    found = models.features(model, images)
    assert found.shape == (2, 4 * 64)
    assert torch.equal(found, model.forward_features(images).flatten(1))
    assert not any(isinstance(item, nn.Dropout) for item in model.modules())


@pytest.mark.parametrize(
    ("name", "rate"),
    [("vgg11x0.125", 0.5), ("vgg11x0.125-drop0.5", 0.5), ("vgg11x0.125-bn-fc64-drop0.25", 0.25), ("vgg11-drop0", 0.0)],
)
def test_dropout_sets_that_fraction_of_the_hidden_units_to_zero(name: str, rate: float) -> None:
    model = vgg(name, 32, 10)
    drops = [item for item in model.modules() if isinstance(item, nn.Dropout)]
    assert [drop.p for drop in drops] == [rate, rate]
    units = drops[0].train()(torch.ones(20_000))
    assert float((units == 0).float().mean()) == pytest.approx(rate, abs=0.02)
    assert float(units.max()) == pytest.approx(1 / (1 - rate))


def test_the_rate_of_dropout_changes_no_weights() -> None:
    ours, theirs = (vgg(f"vgg11x0.125{option}", 32, 10).state_dict() for option in ("", "-drop0"))
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    assert len(ours) == len(theirs)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("vgg11-drop1", "a rate below 1"),
        ("vgg11-drop1.5", "a rate below 1"),
        ("vgg11-fc0-drop0.5", "no -drop, as -fc0"),
    ],
)
def test_nothing_is_left_of_all_units_or_of_none(name: str, wanted: str) -> None:
    with pytest.raises(UserError, match=f'"{name}" has no units to drop .* of: expected {wanted}'):
        vgg(name, 32, 10)


@pytest.mark.parametrize(("name", "hint"), [("vgg12", " Did you mean"), ("vgg119", " Did you mean"), ("vgg20", "")])
def test_unknown_depths(name: str, hint: str) -> None:
    with pytest.raises(UserError, match=rf"VGG depth {name[3:]} is unknown: expected one of 11, 13, 16, 19\.{hint}"):
        vgg(name)
