import pytest
import timm
import torch
from timm.models.efficientnet import EfficientNet
from torch import nn

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.models.efficientnet import PUBLISHED, SIZES

# EfficientNet, Table 2, and Noisy Student (L2): parameters [millions], as printed
PRINTED = {"b0": 5.3, "b1": 7.8, "b2": 9.2, "b3": 12, "b4": 19, "b5": 30, "b6": 43, "b7": 66, "l2": 480}


def efficientnet(name: str, image_size: int = 8, classes: int = 10) -> EfficientNet:
    torch.manual_seed(0)
    model = models.build(name, image_size=image_size, classes=classes)
    assert isinstance(model, EfficientNet)
    return model


def test_is_timms_tensorflow_network() -> None:
    ours = efficientnet("efficientnet-b0", 224).eval()
    theirs = timm.create_model("tf_efficientnet_b0", num_classes=10).eval()
    for item in ours.modules():
        if isinstance(item, nn.BatchNorm2d):
            item.get_buffer("running_mean").uniform_(-0.1, 0.1)
            item.get_buffer("running_var").uniform_(0.5, 1.5)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


@pytest.mark.parametrize("size", SIZES)
def test_layers_are_timms(size: str) -> None:
    with torch.device("meta"):
        ours, theirs = (
            efficientnet(f"efficientnet-{size}", 224),
            timm.create_model(f"tf_efficientnet_{size}", num_classes=10),
        )
    left, right = (
        {name: str(item) for name, item in model.named_modules() if not list(item.children())}
        for model in (ours, theirs)
    )
    assert left == right


def test_parameters_are_the_printed() -> None:
    exact = {item.name.removeprefix("efficientnet-"): item.parameters / 1e6 for item in PUBLISHED}
    # B2 has 9.1 million; the paper prints 9.2
    assert {size for size in PRINTED if round(exact[size], 1 if PRINTED[size] < 10 else 0) != PRINTED[size]} == {"b2"}
    assert exact["b2"] == pytest.approx(9.2, rel=0.01)


@pytest.mark.parametrize(("image_size", "expected"), [(8, 1), (32, 2), (64, 4), (96, 3), (224, 7)])
def test_side_of_the_last_map(image_size: int, expected: int) -> None:
    with torch.device("meta"):
        model = efficientnet("efficientnet-b0x0.25", image_size)
        found = model.forward_features(torch.empty(2, 3, image_size, image_size))
    assert found.shape == (2, 320, expected, expected)


def test_the_stem_keeps_every_pixel_of_a_small_image() -> None:
    model, images = efficientnet("efficientnet-b0x0.25", 32), torch.randn(2, 3, 32, 32)
    expected = nn.functional.conv2d(images, model.conv_stem.weight, padding=1)
    torch.testing.assert_close(model.conv_stem(images), expected)


def test_width_multiplies_the_channels() -> None:
    with torch.device("meta"):
        half, whole = (efficientnet(f"efficientnet-{name}") for name in ("b0x0.5", "b0"))
    assert (whole.num_features, half.num_features) == (1280, 640)
    assert (whole.conv_head.in_channels, half.conv_head.in_channels) == (320, 160)
    assert len(list(half.modules())) == len(list(whole.modules()))


@pytest.mark.parametrize(("name", "dropout", "depth"), [("b0", 0.0, 0.0), ("b0-drop", 0.2, 0.2), ("b7-drop", 0.5, 0.2)])
def test_dropout(name: str, dropout: float, depth: float) -> None:
    with torch.device("meta"):
        model = efficientnet(f"efficientnet-{name}")
    rates = [item.drop_prob for item in model.modules() if hasattr(item, "drop_prob")]
    assert model.drop_rate == dropout
    assert max(rates, default=0.0) == pytest.approx(depth, rel=0.1)


def test_features_are_the_pooled_map() -> None:
    model, images = efficientnet("efficientnet-b0x0.25", 32).eval(), torch.randn(3, 3, 32, 32)
    pooled = model.forward_features(images).mean((2, 3))
    torch.testing.assert_close(models.features(model, images), pooled)
    assert torch.equal(model(images), model.get_classifier()(models.features(model, images)))


def test_learns_a_small_batch_by_heart() -> None:
    model, images, labels = efficientnet("efficientnet-b0x0.25"), torch.randn(16, 3, 8, 8), torch.arange(16) % 10
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert loss.item() < 0.2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet-b9", "expected one of b0, b1.*Did you mean"),
        ("efficientnet-v", "size is unknown"),
        ("efficientnet-b0x0", "width 0.0 is not a width"),
    ],
)
def test_names_that_cannot_be_built(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.build(name, image_size=8, classes=10)
