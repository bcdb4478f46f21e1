import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.probes.rollout import head_means, joint, joint_row, overlay, rollout

_spec = importlib.util.spec_from_file_location("shared_attention", Path(__file__).with_name("test_attention.py"))
assert _spec is not None
assert _spec.loader is not None
shared: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(shared)
Stub, peaky, pixels, slow_layers = shared.Stub, shared.peaky, shared.pixels, shared.slow_layers


def random_means(layers: int, tokens: int, images: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [(3 * torch.randn(images, tokens, tokens, generator=generator)).softmax(-1) for _ in range(layers)]


def test_identity_attention_rolls_out_to_the_identity() -> None:
    assert torch.equal(joint([torch.eye(5)[None]] * 3)[0], torch.eye(5))
    assert torch.equal(joint_row([torch.eye(5)[None]] * 3, torch.eye(5)[2])[0], torch.eye(5)[2])


@pytest.mark.parametrize("layers", [1, 3, 12])
def test_uniform_attention_rolls_out_to_its_closed_form(layers: int) -> None:
    uniform = torch.full((1, 7, 7), 1 / 7, dtype=torch.float64)
    expected = 2.0**-layers * torch.eye(7, dtype=torch.float64) + (1 - 2.0**-layers) / 7
    torch.testing.assert_close(joint([uniform] * layers)[0], expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(joint_row([uniform] * layers, torch.eye(7)[3])[0], expected[3], rtol=1e-12, atol=0)


def test_layers_are_multiplied_from_the_last_to_the_first() -> None:
    first, last = torch.eye(3)[[1, 1, 2]], torch.eye(3)[[0, 2, 2]]  # token 0 sees 1; token 1 sees 2
    expected = (0.5 * last + 0.5 * torch.eye(3)) @ (0.5 * first + 0.5 * torch.eye(3))
    assert torch.equal(joint([first[None], last[None]])[0], expected)
    assert not torch.equal(joint([last[None], first[None]])[0], expected)
    for row in range(3):
        assert torch.equal(joint_row([first[None], last[None]], torch.eye(3)[row])[0], expected[row])


@pytest.mark.parametrize(("layers", "tokens"), [(1, 5), (6, 17), (24, 50)])
def test_one_row_is_that_of_the_whole_product(layers: int, tokens: int) -> None:
    means = random_means(layers, tokens)
    whole = joint(means)
    torch.testing.assert_close(whole.sum(-1), torch.ones(2, tokens), rtol=1e-5, atol=0)
    for start in (torch.eye(tokens)[0], torch.full((tokens,), 1 / tokens)):
        torch.testing.assert_close(joint_row(means, start), start @ whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["vit-32x4/2", "vit-32x4/2-posrel", "vit-32x4/2-gap", "r8x0.25+vit-64x2/2"])
def test_the_map_is_that_of_a_slow_product(name: str) -> None:
    model, images = peaky(name, 8), pixels(8)
    found = rollout(model, images)
    for image in range(len(images)):
        whole: Tensor | None = None
        for weights in slow_layers(model, images):
            tokens = weights.shape[-1]
            mixed = weights[image].mean(0) + torch.eye(tokens)
            mixed = mixed / mixed.sum(1, keepdim=True)
            whole = mixed if whole is None else mixed @ whole
        assert whole is not None
        read = whole.mean(0) if name.endswith("gap") else whole[0, 1:]
        torch.testing.assert_close(found[image].double().flatten(), read, rtol=1e-4, atol=1e-6)
        assert read.std() > 1e-4  # rows, not columns: columns of such attention differ


def test_what_is_read_depends_on_the_pooling() -> None:
    weights = torch.eye(5)[[0, 2, 2, 3, 4]][None]  # a class token before 2 x 2 patches; patch 0 sees patch 1
    images = torch.zeros(1, 3, 8, 8)
    by_class = rollout(Stub(weights, grid=2, patch=4, prefix=1), images)
    by_mean = rollout(Stub(weights, grid=2, patch=4, prefix=1, pooling="avg"), images)
    assert by_class.tolist() == [[[0, 0], [0, 0]]]
    assert by_mean.tolist() == [[[0.125, 0.375], [0.25, 0.25]]]
    with pytest.raises(UserError, match='Output read by "map"'):
        rollout(Stub(weights, grid=2, patch=4, prefix=1, pooling="map"), images)


def test_batches_and_normalisation_do_not_change_the_maps() -> None:
    model, images = peaky("vit-32x2/2", 8), pixels(8, 40)
    whole = rollout(model, images)
    assert whole.shape == (40, 4, 4)
    torch.testing.assert_close(rollout(model, images[35:]), whole[35:], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(rollout(model, images / 2, normalise=lambda batch: 2 * batch), whole)
    assert [mean.shape for mean in head_means(model, images[:2])] == [(2, 17, 17)] * 2


def test_what_has_no_rollout_is_refused() -> None:
    with pytest.raises(UserError, match="in windows or merged"):
        rollout(models.build("swin-32x2.2/1", image_size=8, classes=3), pixels(8))
    with pytest.raises(UserError, match="has no attention"):
        rollout(torch.nn.Conv2d(3, 1, 1), pixels(8))
    with pytest.raises(UserError, match="not 16"):
        rollout(peaky("vit-32x2/2", 8), pixels(16))
    with pytest.raises(UserError, match="at least one image"):
        rollout(peaky("vit-32x2/2", 8), pixels(8)[:0])
    with pytest.raises(UserError, match="has 9 tokens, not 5"):
        rollout(Stub(torch.ones(1, 9, 9) / 9, grid=2, patch=4, prefix=1), pixels(8))


def test_overlay_shows_what_the_map_picks() -> None:
    image = torch.full((3, 32, 48), 200, dtype=torch.uint8)
    image[1] = 100
    heat = torch.zeros(4, 6)
    heat[0, 5] = 1.0
    shown = overlay(image, heat)
    assert shown.shape == (32, 48, 3)
    assert shown.dtype == np.uint8
    assert shown[0, -1].tolist() == [200, 100, 200]  # the upper right corner, in its own colours
    assert shown[-1, 0].max() <= 2
    assert (np.diff(shown[0, 24:, 0].astype(int)) >= 0).all()
    np.testing.assert_allclose(overlay(image, 7 * heat + 3).astype(int), shown.astype(int), atol=1)


@pytest.mark.parametrize("value", [0.0, 1 / 196, 3.0])
def test_a_constant_map_shows_the_whole_image(value: float) -> None:
    image = torch.randint(0, 256, (3, 28, 28), dtype=torch.uint8)
    np.testing.assert_array_equal(overlay(image, torch.full((14, 14), value)), image.permute(1, 2, 0).numpy())


def test_overlay_refuses_other_shapes() -> None:
    with pytest.raises(UserError, match=r"torch.float32 \[3, 8, 8\]"):
        overlay(torch.zeros(3, 8, 8), torch.zeros(2, 2))
    with pytest.raises(UserError, match=r"\[1, 2, 2\]"):
        overlay(torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(1, 2, 2))
