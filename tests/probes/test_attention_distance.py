import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.datasets.digits import load
from vision_repro.probes.attention import geometry
from vision_repro.probes.attention_distance import check, mean_distances, measure

_spec = importlib.util.spec_from_file_location("shared_attention", Path(__file__).with_name("test_attention.py"))
assert _spec is not None
assert _spec.loader is not None
shared: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(shared)
KINDS, Stub, peaky, pixels, slow_layers = (
    shared.KINDS,
    shared.Stub,
    shared.peaky,
    shared.pixels,
    shared.slow_layers,
)

# grid, patch [pixels], without and with a class token that takes its uniform share [pixels]; counted independently
UNIFORM = (
    (14, 16, 116.4922, 115.9009), (7, 32, 115.5029, 113.1928), (16, 14, 116.5651, 116.1115),
    (8, 4, 16.5459, 16.2914), (24, 16, 200.0480, 199.7013),
)  # fmt: skip


def given(weights: Tensor, grid: int, patch: int, prefix: int) -> list[float]:
    """The distances of one layer of given attention `[H, T, T]`."""
    side = grid * patch
    model = Stub(weights, grid=grid, patch=patch, prefix=prefix)
    found: list[float] = mean_distances(model, torch.zeros(2, 3, side, side))[0].tolist()
    return found


@pytest.mark.parametrize(("grid", "patch", "alone", "with_class_token"), UNIFORM)
def test_uniform_attention(grid: int, patch: int, alone: float, with_class_token: float) -> None:
    for prefix, expected in ((0, alone), (1, with_class_token)):
        tokens = grid**2 + prefix
        found = given(torch.full((2, tokens, tokens), 1 / tokens), grid, patch, prefix)
        assert found == pytest.approx([expected] * 2, abs=5.1e-5)


def test_attention_to_itself_and_to_one_corner() -> None:
    corner = torch.zeros(196, 196)
    corner[:, 0] = 1
    found = given(torch.stack((torch.eye(196), corner, corner.T / 196)), 14, 16, 0)
    assert found[0] == 0
    assert found[1] == pytest.approx(161.0302, abs=5.1e-5)
    assert found[2] == pytest.approx(found[1] / 196, rel=1e-6)  # rows are not renormalised


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_one_hot_attention_gives_the_exact_distance(prefix: int) -> None:
    grid, patch = 5, 3
    order = torch.randperm(25, generator=torch.Generator().manual_seed(0)).tolist()
    weights = torch.zeros(1, 25 + prefix, 25 + prefix)
    weights[0, :prefix, :] = 0.7  # as a query, no prefix token counts
    total = 0.0
    for query, key in enumerate(order):
        weights[0, query + prefix, key + prefix] = 1
        total += patch * math.hypot(query // grid - key // grid, query % grid - key % grid)
    assert given(weights, grid, patch, prefix) == pytest.approx([total / 25], rel=1e-12)


def test_weight_on_the_class_token_counts_as_no_distance() -> None:
    weights = torch.zeros(1, 5, 5)
    weights[0, 1:, 0] = 0.75
    weights[0, 1:, 1] = 0.25  # of the four patches of 10 pixels, all look at the first one
    assert given(weights, 2, 10, 1) == pytest.approx([0.25 * (0 + 10 + 10 + math.sqrt(200)) / 4], rel=1e-7)


@pytest.mark.parametrize(("name", "size"), KINDS)
def test_a_slow_loop_agrees(name: str, size: int) -> None:
    model, images = peaky(name, size), pixels(size)
    prefix, found = geometry(model, size).prefix, mean_distances(model, images, batch=2)
    for layer, weights in enumerate(slow_layers(model, images)):
        between = weights[:, :, prefix:, prefix:]
        side = math.isqrt(between.shape[-1])
        places = [(token // side * size / side, token % side * size / side) for token in range(side**2)]
        apart = torch.tensor([[math.dist(query, key) for key in places] for query in places], dtype=torch.float64)
        each = [torch.stack([(head * apart).sum(1).mean() for head in image]) for image in between]
        expected = torch.stack(each).mean(0)
        assert expected.std() > 0  # heads differ
        torch.testing.assert_close(found[layer], expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["vit-32x2/2", "swin-32x2.2/1"])
def test_streaming_is_the_whole(name: str) -> None:
    model, images = peaky(name, 8), pixels(8, 7)
    whole = mean_distances(model, images, batch=7)
    for batch in (1, 3, None):
        for streamed, expected in zip(mean_distances(model, images, batch=batch), whole, strict=True):
            torch.testing.assert_close(streamed, expected, rtol=1e-6, atol=0)


def test_low_precision_is_added_up_in_float32() -> None:
    tokens = torch.full((1, 64, 64), 1 / 64, dtype=torch.bfloat16)
    assert given(tokens, 8, 4, 0) == pytest.approx([16.5459], abs=5.1e-5)


def test_measure_names_every_head_and_uses_128_images() -> None:
    model = peaky("vit-32x2/2", 8)
    images = torch.randint(0, 256, (130, 3, 8, 8), dtype=torch.uint8)
    sizes = []

    def normalise(batch: Tensor) -> Tensor:
        assert batch.dtype == torch.uint8
        sizes.append(len(batch))
        return batch / 127.5 - 1

    found = measure(model, images, normalise)
    assert sum(sizes) == 128
    expected = mean_distances(model, images[:128] / 127.5 - 1)
    assert list(found) == [f"attention_distance_l0{layer}_h0{head}" for layer in (0, 1) for head in (0, 1)]
    assert found["attention_distance_l01_h00"] == (pytest.approx(float(expected[1][0]), rel=1e-6), "pixels")


def test_check_refuses_early_and_needs_no_storage() -> None:
    with torch.device("meta"):
        vit, swin = (models.build(name, image_size=8, classes=3) for name in ("vit-32x2/2", "swin-32x2.2/1"))
    for model in (vit, swin):
        check(model, 8)
        with pytest.raises(UserError, match="not 16"):
            check(model, 16)
    with pytest.raises(UserError, match="has no attention"):
        check(nn.Conv2d(3, 1, 1), 8)


def test_what_cannot_be_measured_is_refused() -> None:
    model = peaky("vit-32x2/2", 8)
    with pytest.raises(UserError, match="There are no images"):
        mean_distances(model, torch.zeros(0, 3, 8, 8))
    with pytest.raises(UserError, match=r"built for images of 8 x 8 pixels, not 12"):
        mean_distances(model, torch.zeros(2, 3, 12, 12))
    for shape in ((2, 3, 8, 12), (2, 4, 3, 8, 8)):
        with pytest.raises(UserError, match="one view of each"):
            mean_distances(model, torch.zeros(shape))
    with pytest.raises(UserError, match="has no attention"):
        mean_distances(nn.Conv2d(3, 1, 1), torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="diverged"):
        mean_distances(model, torch.full((2, 3, 8, 8), math.nan))


@pytest.mark.slow
def test_a_fresh_vit_on_digits_looks_everywhere(tmp_path: Path) -> None:
    images = load("digits", None, tmp_path).test.images[:16]
    model = models.build("vit-64x2/2", image_size=8, classes=10)
    uniform = given(torch.full((1, 17, 17), 1 / 17), 4, 2, 1)[0]
    values = [value for value, _ in measure(model, images, lambda batch: batch / 127.5 - 1).values()]
    assert values == pytest.approx([uniform] * len(values), rel=0.2)
