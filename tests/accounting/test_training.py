"""A training step: its counted multiply-adds, and the bytes it keeps for the backward pass."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from vision_repro import models
from vision_repro.accounting.profiler import account
from vision_repro.accounting.training import training_step


def on_meta(name: str, image_size: int) -> nn.Module:
    with torch.device("meta"):
        return models.build(name, image_size=image_size, classes=10)


def test_a_convolution_costs_twice_its_forward_pass_backwards_but_for_the_images() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1))
    first, second = account(model, 8).layers
    step = training_step(model, 8)
    assert step.macs == 2 * first.macs + 3 * second.macs
    assert step.inside_macs == 2 * first.inside_macs + 3 * second.inside_macs


@pytest.mark.parametrize("name", ["vit-64x2/4", "bit-r11x0.25/2", "resnet8", "swin-32x2.2/2", "vgg11x0.125-bn"])
def test_a_training_step_costs_what_torch_counts(name: str) -> None:
    model = on_meta(name, 32).train()
    models.use_explicit_attention(model, True)
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(2, 3, 32, 32, device="meta")).sum().backward()
    assert 2 * training_step(model, 32, 2).macs == counter.get_total_flops()


@pytest.mark.parametrize("name", ["vit-64x4/4", "resnet20", "swin-32x2.2/2"])
def test_a_training_step_is_nearly_three_forward_passes(name: str) -> None:
    model = on_meta(name, 32)
    assert training_step(model, 32).macs == pytest.approx(3 * account(model, 32).macs(), rel=0.03)


def test_what_is_kept_of_a_small_network() -> None:
    """Images, the map before pooling, indices of pooling at 8 bytes, and the input of the linear layer."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 2))
    images, maps, pooled = 2 * 3 * 64, 2 * 4 * 64, 2 * 4 * 16
    assert training_step(model, 8, 2).saved_bytes == 4 * (images + maps + pooled) + 8 * pooled


def kept_on_the_cpu(model: nn.Module, images: Tensor) -> int:
    """Bytes of all distinct memories that autograd saves in a real step, parameters and buffers left out."""
    seen: dict[int, int] = {}
    alive: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = tree_leaves(model(images))
    own = {item.untyped_storage().data_ptr() for item in (*model.parameters(), *model.buffers())}
    assert all(item.requires_grad for item in outputs if isinstance(item, Tensor))
    return sum(size for key, size in seen.items() if key not in own and size)


@pytest.mark.parametrize(
    "name", ["vit-64x2/4-drop0.1", "bit-r11x0.25/2", "alexnetx0.125", "resnet8", "googlenetx0.125", "swin-32x2.2/2"]
)
def test_kept_bytes_are_those_of_a_real_step(name: str) -> None:
    torch.manual_seed(0)
    model = models.build(name, image_size=32, classes=10).train()
    models.use_explicit_attention(model, True)
    real = kept_on_the_cpu(model, torch.randn(2, 3, 32, 32))
    # Flattening a map that lies channels last copies it, which the meta device does not see.
    tolerance = 4 * 2 * 128 * 2 if name.startswith("googlenet") else 0
    assert abs(training_step(model, 32, 2).saved_bytes - real) <= tolerance


def test_softmax_matrices_are_told_apart() -> None:
    model = on_meta("vit-64x2/4", 32)
    step = training_step(model, 32, 2)
    (heads,) = {layer.heads for layer in account(model, 32).layers if layer.kind == "attention"}
    assert step.softmax_bytes == 2 * (4 * 2 * heads * 65 * 65)
    assert training_step(on_meta("resnet8", 32), 32).softmax_bytes == 0


def test_auxiliary_classifiers_take_part() -> None:
    with_them, without = (
        training_step(on_meta(name, 32), 32).macs for name in ("googlenetx0.125", "googlenetx0.125-noaux")
    )
    assert with_them > without


@pytest.mark.parametrize("make", [lambda: nn.BatchNorm2d(3), lambda: nn.Sequential(nn.AvgPool2d(4), nn.BatchNorm2d(3))])
def test_a_single_image_has_a_step_too(make: Callable[[], nn.Module]) -> None:
    """BatchNorm in training refuses one value a channel."""
    step = training_step(make(), 4)
    assert step.batch == 1
    assert step.saved_bytes > 0
