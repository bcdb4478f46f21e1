import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.models.pairs import HYBRIDS, PAIRS

SMALL = [(size, name) for size in (8, 32) for name in (*sum(PAIRS[size], ()), HYBRIDS[size])]


def on_meta(name: str, image_size: int) -> nn.Module:
    with torch.device("meta"):
        return models.build(name, image_size=image_size, classes=10)


def final_layer(model: nn.Module) -> nn.Module:
    head: Any = model.get_submodule("head")
    layer: nn.Module = getattr(head, "fc", head)
    return layer


def test_every_example_is_built_and_takes_images() -> None:
    for name in models.names():
        image_size = 32 if name.endswith(("/2", "/4")) else 224
        model = on_meta(name, image_size)
        assert model(torch.empty(2, 3, image_size, image_size, device="meta")).shape == (2, 10)


def test_pairs_match_in_parameters() -> None:
    for image_size, pairs in PAIRS.items():
        for vit, bit in pairs:
            left, right = (models.parameters(on_meta(name, image_size)) for name in (vit, bit))
            assert abs(left - right) <= 0.1 * left, f"{vit} {left}, {bit} {right}"


def test_hybrids_match_a_vit_of_their_image_size() -> None:
    for image_size, index in ((8, 1), (32, 0), (224, 1)):
        vit, hybrid = PAIRS[image_size][index][0], HYBRIDS[image_size]
        left, right = (models.parameters(on_meta(name, image_size)) for name in (vit, hybrid))
        assert abs(left - right) <= 0.15 * left, f"{vit} {left}, {hybrid} {right}"


@pytest.mark.parametrize(("image_size", "name"), SMALL)
def test_logits_are_the_final_layer_of_the_features(image_size: int, name: str) -> None:
    torch.manual_seed(0)
    model = models.build(name, image_size=image_size, classes=10).eval()
    layer = final_layer(model)
    seen: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(1)))
    images = torch.randn(2, 3, image_size, image_size)
    assert model(images).shape == (2, 10)
    found = models.features(model, images)
    assert found.ndim == 2
    assert torch.equal(found, seen[0])


@pytest.mark.parametrize(("image_size", "name"), SMALL)
def test_gradient_reaches_every_parameter(image_size: int, name: str) -> None:
    torch.manual_seed(0)
    model = models.build(name, image_size=image_size, classes=10)
    with torch.no_grad():  # away from the zeros that some layers start at
        for value in model.parameters():
            value.add_(0.02 * torch.randn_like(value))
    loss = nn.functional.cross_entropy(model(torch.randn(8, 3, image_size, image_size)), torch.arange(8))
    loss.backward()
    for key, value in model.named_parameters():
        assert value.grad is not None, key
        assert value.grad.isfinite().all(), key
        assert value.grad.any(), key


@pytest.mark.parametrize("name", ["vit-32x1/2", "bit-r8x0.125", "r8x0.125+vit-32x1/2"])
def test_the_seed_fixes_the_weights(name: str) -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(torch.cat([item.flatten() for item in models.build(name, image_size=8, classes=3).parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_explicit_attention_leaves_a_cnn_alone() -> None:
    model = models.build("bit-r8x0.125", image_size=8, classes=10)
    models.use_explicit_attention(model, True)
    assert not any(hasattr(item, "fused_attn") for item in model.modules())


@pytest.mark.parametrize("name", ["vitt-64x4/2", "vit-64x4", "bit-50", "", "vit-64x4/2 "])
def test_unknown_names(name: str) -> None:
    with pytest.raises(UserError, match=r"is unknown: expected a name such as bit-r"):
        models.build(name, image_size=8, classes=10)


def test_a_misspelt_name_gets_the_nearest_one() -> None:
    with pytest.raises(UserError, match='Did you mean "vit-64x4/2"'):
        models.build("vitt-64x4/2", image_size=8, classes=10)


@pytest.mark.parametrize(("image_size", "classes"), [(0, 10), (8, 0)])
def test_nothing_to_build(image_size: int, classes: int) -> None:
    with pytest.raises(UserError, match="at least 1 class and 1 pixel"):
        models.build("vit-32x1/2", image_size=image_size, classes=classes)


def test_pairs_are_read_without_torch() -> None:
    code = "import sys, vision_repro.models.pairs; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
