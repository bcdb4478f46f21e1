import math

import pytest
import torch
from torch import Tensor, nn

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.probes.receptive_field import check, measure, receptive_fields

CNNS = [(name, size) for name, size in models.small() if "vit" not in name and not name.startswith("swin")]


class Plain(nn.Module):
    """A stack of layers as a model."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward_features(self, images: Tensor) -> Tensor:
        out: Tensor = self.layers(images)
        return out


def equal(kernel: int, inputs: int, outputs: int, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    nn.init.constant_(layer.weight, 0.3)
    return layer


def pixels(size: int, count: int = 3) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kernel", [1, 3, 5, 8])
@pytest.mark.parametrize("same", [True, False])
def test_one_convolution_of_equal_weights(kernel: int, same: bool) -> None:
    offsets = [offset - (kernel - 1) / 2 for offset in range(kernel)]
    expected = sum(math.hypot(down, right) for down in offsets for right in offsets) / kernel**2
    model = Plain(equal(kernel, 3, 4, padding=(kernel - 1) // 2 if same else 0))
    (field,) = receptive_fields(model, pixels(20))
    assert field.distance == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert int((field.weights > 0).sum()) == kernel**2
    assert float(field.weights.sum()) == pytest.approx(1)


def test_distances_are_from_where_the_field_lies() -> None:
    line = nn.Conv2d(3, 2, (1, 5), bias=False)
    nn.init.constant_(line.weight, 0.3)
    (field,) = receptive_fields(Plain(nn.ZeroPad2d((4, 0, 0, 0)), line), pixels(20))
    assert field.weights[10, 6:11].tolist() == pytest.approx([0.2] * 5)  # unit (10, 10), all of it left of its middle
    assert field.distance == pytest.approx((2 + 1 + 0 + 1 + 2) / 5, rel=1e-6)


def test_two_strided_convolutions_are_one_of_their_product() -> None:
    model = Plain(equal(3, 3, 2, 2, 1), nn.Identity(), equal(3, 2, 5, 2, 1))
    first, second = receptive_fields(model, pixels(32))
    along = torch.zeros(32, dtype=torch.float64)
    for unit in range(3):  # the centre, unit 4, has its middle on pixel 16, not on 17.5 or 18
        for tap in range(3):
            along[16 + 2 * (unit - 1) + tap - 1] += 1 / 9
    torch.testing.assert_close(second.weights, along[:, None] * along[None], rtol=1e-6, atol=1e-9)
    assert (first.stride, second.stride) == (2, 4)
    assert (first.module, second.module) == ("layers.1", "layers")
    expected = sum(
        float(along[16 + a] * along[16 + b]) * math.hypot(a, b) for a in range(-16, 16) for b in range(-16, 16)
    )
    assert second.distance == pytest.approx(expected, rel=1e-6)
    assert first.distance < second.distance


def test_a_slow_loop_over_images_and_channels_agrees() -> None:
    torch.manual_seed(0)
    model = Plain(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3, 2, 1), nn.Tanh())
    images, total = pixels(9, 20), torch.zeros(9, 9)
    for image in images:
        gradient = torch.zeros(3, 9, 9)
        for channel in range(5):
            single = image[None].clone().requires_grad_()
            model.forward_features(single)[0, channel, 2, 2].backward()
            assert single.grad is not None
            gradient += single.grad[0]
        total += gradient.abs().sum(0)
    found = receptive_fields(model, images)
    assert [field.stride for field in found] == [1, 9 / 5]
    torch.testing.assert_close(found[1].weights.float(), total / total.sum(), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(("name", "size"), CNNS)
def test_every_cnn_has_a_field_in_each_stage(name: str, size: int) -> None:
    torch.manual_seed(0)
    model = models.build(name, image_size=size, classes=3)
    fields = receptive_fields(model, pixels(size, 2))
    strides = [field.stride for field in fields]
    assert strides == sorted(set(strides))
    assert all(0 <= field.distance < size / math.sqrt(2) for field in fields)
    assert fields[-1].distance > 0


def test_stages_of_a_resnet_widen() -> None:
    torch.manual_seed(0)
    fields = receptive_fields(models.build("timm:resnet18", image_size=96, classes=3), pixels(96, 2))
    assert [field.module for field in fields] == ["act1", "layer1", "layer2", "layer3", "layer4"]
    assert [field.stride for field in fields] == [2, 4, 8, 16, 32]
    distances = [field.distance for field in fields]
    assert distances == sorted(distances)
    assert int((fields[0].weights > 0).sum()) == 49  # the 7 x 7 pixels of the first layer


def test_the_model_is_left_as_it_was_and_inference_mode_is_no_obstacle() -> None:
    name = next(name for name, size in CNNS if size == 32)
    model = models.build(name, image_size=32, classes=3).train()
    next(model.children()).eval()
    modes, values = [part.training for part in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}
    images = (40 * pixels(32).abs()).to(torch.uint8)
    with torch.inference_mode():
        found = measure(model, images + 1, lambda batch: batch / 127.5 - 1)
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(value, values[key]) for key, value in model.state_dict().items())
    assert all(value.grad is None for value in model.parameters())
    assert not any(part._forward_hooks for part in model.modules())
    expected = receptive_fields(model, images + 1, normalise=lambda batch: batch / 127.5 - 1)
    assert list(found) == [f"receptive_field_s{stage:02}" for stage in range(len(expected))]
    assert found["receptive_field_s00"] == (pytest.approx(expected[0].distance), "pixels")


def test_check_refuses_early_and_needs_no_storage() -> None:
    with torch.device("meta"):
        cnn, vit = (
            models.build("timm:test_resnet", image_size=32, classes=3),
            models.build("vit-32x2/2", image_size=8, classes=3),
        )
    check(cnn, 32)
    assert cnn.training
    with pytest.raises(UserError, match="measure its attention distance"):
        check(vit, 8)
    with pytest.raises(UserError, match="no feature map of more than one unit"):
        check(Plain(equal(8, 3, 2)), 8)


def test_what_has_no_receptive_field_is_refused() -> None:
    with pytest.raises(UserError, match="measure its attention distance"):
        receptive_fields(models.build("vit-32x2/2", image_size=8, classes=3), pixels(8))
    with pytest.raises(UserError, match="no feature map of more than one unit"):
        receptive_fields(Plain(equal(8, 3, 2)), pixels(8))
    with pytest.raises(UserError, match="at least one image"):
        receptive_fields(Plain(equal(3, 3, 2)), pixels(8)[:0])
    dead = equal(3, 3, 2)
    nn.init.zeros_(dead.weight)
    with pytest.raises(ValueError, match="No finite gradient"):
        receptive_fields(Plain(dead), pixels(8))
