import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vision_repro import models
from vision_repro.accounting.flops import forward_flops, training_flops


def vit_flops(width: int, depth: int, patch: int, image_size: int, classes: int) -> int:
    """Closed form of a ViT: per block 12 D^2 multiply-adds a token in linear layers and 2 N D in attention."""
    patches = (image_size // patch) ** 2
    tokens = patches + 1
    block = tokens * 12 * width**2 + 2 * tokens**2 * width
    return 2 * (patches * 3 * patch**2 * width + depth * block + width * classes)


# GMAC at 224 pixels without head: vit_variants (ViT, Table 1), bit_architectures and hybrid_variants, counted
# independently; test_published_costs.py has them all
GMAC = {
    "vit-b/32": 4.408,
    "vit-s/16": 4.598,
    "bit-r50x1": 4.087,
    "r26+vit-s/32": 3.463,
}


def on_meta(name: str, image_size: int, classes: int) -> nn.Module:
    with torch.device("meta"):
        return models.build(name, image_size=image_size, classes=classes)


def test_vit_b16_with_1000_classes() -> None:
    found = forward_flops(on_meta("vit-b/16", 224, 1000), 224)
    assert found == vit_flops(768, 12, 16, 224, 1000)
    assert found / 1e9 == pytest.approx(35.13, abs=0.005)


@pytest.mark.parametrize("name", GMAC)
def test_published_networks(name: str) -> None:
    model = on_meta(name, 224, 1)
    head = 2 * models.features(model, torch.empty(1, 3, 224, 224, device="meta")).shape[1]
    assert (forward_flops(model, 224) - head) / 2e9 == pytest.approx(GMAC[name], abs=0.0006)


def test_linear_layer() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 7))
    assert forward_flops(model, 4) == 2 * 3 * 4 * 4 * 7


def test_convolution() -> None:
    model = nn.Conv2d(3, 5, 3, stride=2, padding=1)
    assert forward_flops(model, 8) == 2 * (4 * 4) * 5 * 3 * 9
    assert forward_flops(model, 8, taps="inside") == 2 * (11 * 11) * 5 * 3


@pytest.mark.parametrize("explicit", [True, False])
def test_the_model_is_left_as_it_is(explicit: bool) -> None:
    model = models.build("vit-32x2/2", image_size=8, classes=10).train()
    models.use_explicit_attention(model, explicit)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert forward_flops(model, 8) == vit_flops(32, 2, 2, 8, 10)
    assert model.training
    assert model.get_submodule("blocks.0.attn").fused_attn is not explicit
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(value.device.type == "cpu" for value in model.parameters())


def test_training_is_three_times_forward() -> None:
    assert training_flops(1000, 7) == 21_000


@pytest.mark.slow
def test_training_is_nearly_what_a_counter_finds() -> None:
    model = on_meta("vit-b/16", 224, 1000)
    models.use_explicit_attention(model, True)
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta")).sum().backward()
    assert counter.get_total_flops() == pytest.approx(training_flops(forward_flops(model, 224), 1), rel=0.02)


@pytest.mark.parametrize(
    ("name", "epochs", "printed", "tolerance"),
    [
        ("vit-b/16", 7, 224, 0.03),
        ("bit-r50x1", 7, 50, 0.0505),  # the counter includes taps on the padding, the paper does not
    ],
)
def test_table_6_of_the_paper(name: str, epochs: int, printed: float, tolerance: float) -> None:
    """ViT, Table 6: exaFLOPs of pre-training on the 303 million images of JFT, with its 18,291 classes."""
    forward = forward_flops(on_meta(name, 224, 18_291), 224)
    assert training_flops(forward, epochs * 303_000_000) / 1e18 == pytest.approx(printed, rel=tolerance)
