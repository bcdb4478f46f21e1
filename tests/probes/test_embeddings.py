from typing import Any

import numpy as np
import pytest
import torch

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.probes.embeddings import filters, position_similarity


def build(name: str, size: int = 8) -> Any:
    torch.manual_seed(0)
    return models.build(name, image_size=size, classes=3)


def test_components_are_those_of_the_covariance() -> None:
    model = build("vit-64x2/4", 16)
    with torch.no_grad():
        model.patch_embed.proj.weight.mul_(torch.linspace(0.2, 3, 48).view(1, 3, 4, 4)).add_(0.7)
    tiles = filters(model)
    assert tiles.shape == (28, 3, 4, 4)
    rows = model.patch_embed.proj.weight.detach().double().numpy().reshape(64, 48)
    values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
    for tile, column in zip(tiles, np.argsort(-values)[:28], strict=True):
        expected = vectors[:, column]
        expected = expected / expected[np.abs(expected).argmax()]
        np.testing.assert_allclose(2 * tile.flatten().numpy() - 1, expected, atol=1e-4)


def test_a_known_filter_is_found() -> None:
    model = build("vit-32x2/2")
    known = torch.tensor([0.0, 0.5, -1.0, 0.25] * 3)
    with torch.no_grad():
        amounts = torch.linspace(-1, 2, 32)[:, None]
        model.patch_embed.proj.weight.copy_((5 + amounts * known).view(32, 3, 2, 2))
    tile = filters(model, 1)[0]
    torch.testing.assert_close(tile, (0.5 - 0.5 * known).view(3, 2, 2))  # largest weight made positive
    assert filters(model).shape == (12, 3, 2, 2)  # no more components than weights


def test_tiles_are_for_display() -> None:
    tiles = filters(build("swin-32x2.2/2", 32))
    assert tiles.min() >= 0
    assert tiles.amax((1, 2, 3)).tolist() == [1.0] * len(tiles)


def test_what_has_no_rgb_filters_is_refused() -> None:
    for name, size in (("r8x0.25+vit-64x2/2", 8), ("timm:test_resnet", 64)):
        with pytest.raises(UserError, match="does not embed patches of RGB pixels"):
            filters(build(name, size))
    with pytest.raises(UserError, match="0 components"):
        filters(build("vit-32x2/2"), 0)


@pytest.mark.parametrize(("name", "size"), [("vit-32x2/2", 8), ("vit-32x2/2-gap", 8), ("timm:test_vit", 64)])
def test_similarities_of_a_table(name: str, size: int) -> None:
    model = build(name, size)
    with torch.no_grad():
        model.pos_embed.normal_()
        if model.num_prefix_tokens:
            model.pos_embed[:, 0] = 1e6  # the class token's row counts nowhere
    found = position_similarity(model)
    side = model.patch_embed.grid_size[0]
    assert found.shape == (side,) * 4
    table = model.pos_embed[0, model.num_prefix_tokens :].detach().double().numpy()
    for query in range(side**2):
        for key in range(side**2):
            cosine = table[query] @ table[key] / np.linalg.norm(table[query]) / np.linalg.norm(table[key])
            assert found[query // side, query % side, key // side, key % side] == pytest.approx(cosine, abs=1e-6)


def test_two_tables_and_the_order_of_axes() -> None:
    model = build("vit-32x2/2-pos2d")
    (tables,) = model.positions.tables
    with torch.no_grad():
        tables.rows.copy_(torch.eye(4, 16))
        tables.columns.zero_()
    found = position_similarity(model)
    for row in range(4):
        expected = torch.zeros(4, 4)
        expected[row] = 1
        assert torch.equal(found[row, 2], expected)


def test_a_table_for_each_layer() -> None:
    model = build("vit-32x2/2-every")
    assert not torch.allclose(position_similarity(model, 0), position_similarity(model, 1))
    with pytest.raises(UserError, match="Layer 2 has no position embedding: expected 0 to 1"):
        position_similarity(model, 2)
    shared = build("vit-32x2/2-shared")
    assert torch.equal(position_similarity(shared, 0), position_similarity(shared, 1))


def test_swin_with_absolute_positions() -> None:
    found = position_similarity(build("swin-32x2.2/1-nobias-abspos"))
    assert found.shape == (8, 8, 8, 8)
    torch.testing.assert_close(found.flatten(2).flatten(0, 1).diagonal(), torch.ones(64))


def test_what_has_no_positions_is_refused() -> None:
    for name, words in (
        ("vit-32x2/2-pos0", "ViT has no position embedding"),
        ("vit-32x2/2-posrel", "relative positions only"),
        ("swin-32x2.2/1", "relative positions only"),
    ):
        with pytest.raises(UserError, match=words):
            position_similarity(build(name))
    with pytest.raises(UserError, match="has no position embedding"):
        position_similarity(build("timm:test_resnet", 64))
