import pytest
import torch
from timm.models.resnetv2 import ResNetV2
from timm.models.resnetv2 import resnetv2_50x1_bit as timm_bit
from torch import nn

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.models import bit
from vision_repro.models.bit import norm_groups

# google-research/big_transfer, bit_pytorch/models.py, and big_vision/models/bit.py: computed parameters without head
PUBLISHED = {
    "bit-r50x1": 23_500_352,
    "bit-r50x2": 93_891_712,
    "bit-r50x3": 211_174_080,
    "bit-r101x1": 42_492_480,
    "bit-r101x3": 381_789_888,
    "bit-r152x1": 58_136_128,
    "bit-r152x2": 232_238_208,
    "bit-r152x4": 928_340_224,
    "bit-r200x3": 562_488_000,
}


def resnet(name: str, image_size: int = 8, classes: int = 10) -> ResNetV2:
    model = models.build(name, image_size=image_size, classes=classes)
    assert isinstance(model, ResNetV2)
    return model


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published(name: str) -> None:
    with torch.device("meta"):
        model = resnet(name, 224)
    assert models.parameters(model) - models.parameters(model.head) == PUBLISHED[name]


def test_what_is_published_with_a_head_is_what_is_published_without() -> None:
    for item in bit.PUBLISHED:
        assert item.parameters == PUBLISHED[item.name] + (2048 * int(item.name[-1]) + 1) * 1000
    assert {item.name for item in bit.PUBLISHED} == set(PUBLISHED)


def test_is_timms_published_network() -> None:
    ours, theirs = resnet("bit-r50x1", 224, classes=2).eval(), timm_bit(num_classes=2).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(1, 3, 96, 96)
    # the two differ in the epsilon of the weight standardisation alone, 1e-10 and 1e-8
    torch.testing.assert_close(models.features(ours, images), models.features(theirs, images), rtol=1e-3, atol=1e-3)


def test_the_depth_counts_the_layers() -> None:
    for depth in (8, 11, 14, 20, 26, 50, 101, 152):
        with torch.device("meta"):
            model = resnet(f"bit-r{depth}x0.125")
        convolutions = [name for name, item in model.named_modules() if isinstance(item, nn.Conv2d)]
        assert len([name for name in convolutions if "downsample" not in name]) == depth


@pytest.mark.parametrize(
    ("name", "image_size", "expected"),
    [("bit-r11x0.125", 8, 2), ("bit-r11x0.125/2", 32, 4), ("bit-r11x0.125/4", 32, 2), ("bit-r50x0.125", 96, 3)],
)
def test_side_of_the_last_map(name: str, image_size: int, expected: int) -> None:
    model = resnet(name, image_size)
    found = model.forward_features(torch.randn(2, 3, image_size, image_size))
    assert found.shape == (2, model.num_features, expected, expected)


def test_features_are_the_pooled_map() -> None:
    model = resnet("bit-r11x0.125").eval()
    images = torch.randn(3, 3, 8, 8)
    expected = model.forward_features(images).mean((2, 3))
    torch.testing.assert_close(models.features(model, images), expected)


def test_starts_at_equal_logits() -> None:
    assert not resnet("bit-r11x0.125")(torch.randn(2, 3, 8, 8)).any()


@pytest.mark.parametrize(
    ("channels", "expected"), [(64, 32), (2048, 32), (16, 8), (8, 4), (40, 20), (72, 24), (136, 17)]
)
def test_norm_groups(channels: int, expected: int) -> None:
    assert norm_groups(channels) == expected
    assert channels % expected == 0
    assert channels // expected >= 2


def test_a_filters_scale_and_offset_change_nothing() -> None:
    torch.manual_seed(0)
    model = resnet("bit-r8x0.125").eval()
    images = torch.randn(2, 3, 8, 8)
    before = models.features(model, images)
    with torch.no_grad():
        for item in model.modules():
            if isinstance(item, nn.Conv2d) and item is not model.head.fc:
                item.weight.mul_(3).add_(0.5)
    torch.testing.assert_close(models.features(model, images), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bit-r51x1", "depth 51 is unknown: expected one of 8, 11"),
        ("bit-r11x0", "width 0.0 is not a width"),
        ("bit-r11x1/3", "stem stride 3 is unknown"),
    ],
)
def test_names_that_cannot_be_built(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.build(name, image_size=8, classes=10)
