"""The masked autoencoder: what the encoder works on, what it costs, and what the loss counts."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vision_repro import models
from vision_repro.augmentation.batch import Batch
from vision_repro.config import UserError
from vision_repro.tasks.masked_autoencoder import Decoder, MaskedAutoencoder, encode_kept, sines
from vision_repro.tasks.masking import TRAIN

SETTINGS: dict[str, Any] = {"lr": 1e-3, "weight_decay": 0.1, "steps": 10}


def task(model: str = "vit-32x2/2", size: int = 8, masked: float = 0.75) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(models.build(model, image_size=size, classes=10), masked=masked, **SETTINGS)


def some_images(count: int, size: int = 8) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def slow_encoding(model: Any, embeddings: Tensor, kept: Tensor) -> Tensor:
    """Each image by itself: the kept patches with the rows of their places, a class token before them, the blocks."""
    found = []
    for own, places in zip(embeddings, kept.tolist(), strict=True):
        rows = model.pos_embed if model.pos_embed is not None else model.positions and model.positions(0)
        tokens = [] if model.cls_token is None else [model.cls_token[0, 0] + (0 if rows is None else rows[0, 0])]
        shift = len(tokens)
        tokens += [own[place] + (0 if rows is None else rows[0, place + shift]) for place in places]
        found.append(model.norm(model.blocks(torch.stack(tokens)[None]))[0])
    return torch.stack(found)


@pytest.mark.parametrize(
    "model", ["vit-32x2/2", "vit-32x2/2-gap", "vit-32x2/2-pos0", "vit-32x2/2-pos2d", "vit-32x2/2-gap-pos2d"]
)
def test_kept_patches_are_encoded_as_by_a_slow_version(model: str) -> None:
    found = task(model).eval()
    if found.model.cls_token is not None:
        torch.nn.init.normal_(found.model.cls_token)
    embeddings = torch.randn(3, 16, 32)
    kept = found.draw(0, TRAIN, torch.arange(3)).kept
    assert torch.allclose(
        encode_kept(found.model, embeddings, kept), slow_encoding(found.model, embeddings, kept), atol=1e-6
    )


def test_all_patches_in_order_are_encoded_as_ever() -> None:
    model = task().model.eval()
    embeddings, order = torch.randn(3, 16, 32), torch.arange(16).expand(3, -1)
    assert torch.allclose(encode_kept(model, embeddings, order), model.encode(embeddings), atol=1e-6)


def test_kept_and_masked_patches_are_a_quarter_and_three() -> None:
    drawn = task().draw(0, TRAIN, torch.arange(100))
    assert (drawn.kept.shape, drawn.masked.shape) == ((100, 4), (100, 12))
    assert torch.equal(torch.cat(drawn, 1).sort(1).values, torch.arange(16).expand(100, -1))


def test_the_cost_of_the_encoder_falls_with_the_share_that_is_masked() -> None:
    """All but the patch embedding; attention falls faster than the rest, the class token is always there."""

    def measured(share: float) -> int:
        found = task("vit-64x3/4-gap", 32, masked=share)
        drawn = found.draw(0, TRAIN, torch.arange(2))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encode_kept(found.model, torch.randn(2, 64, 64), drawn.kept)
        return counter.get_total_flops()

    costs = {share: measured(share) for share in (0.25, 0.5, 0.75)}
    for share, cost in costs.items():
        kept, width = round(64 * (1 - share)), 64
        assert cost == 2 * 2 * 3 * (12 * kept * width**2 + 2 * kept**2 * width)
    assert costs[0.75] < 0.5 * costs[0.5] < 0.5 * costs[0.25]


@torch.no_grad()
def test_the_loss_is_the_squared_error_of_normalised_masked_patches_only() -> None:
    found, images = task().eval(), some_images(3)
    drawn = found.draw(0, TRAIN, torch.arange(3))
    predicted = found.predict(images, drawn)
    losses, _ = found.losses(images, drawn)
    for image in range(3):
        errors = []
        for number, patch in enumerate(drawn.masked[image].tolist()):
            top, left = patch // 4 * 2, patch % 4 * 2
            pixels = images[image, :, top : top + 2, left : left + 2].flatten().double() / 255
            wanted = (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()
            errors.append((predicted[image, number].double() - wanted).square().mean())
        assert float(losses[image]) == pytest.approx(float(torch.stack(errors).mean()), rel=1e-5)


def test_masked_pixels_are_not_seen_and_kept_ones_are() -> None:
    found, images = task().eval(), some_images(8)
    drawn = found.draw(0, TRAIN, torch.arange(8))
    before = found.predict(images, drawn)
    for places, same in ((drawn.masked, True), (drawn.kept, False)):
        chosen = torch.zeros(8, 16, dtype=torch.bool).scatter(1, places, True).view(8, 1, 4, 4)
        other = torch.where(chosen.repeat_interleave(2, 2).repeat_interleave(2, 3), 255 - images, images)
        after = found.predict(other, drawn)
        assert torch.equal(after, before) if same else not torch.isclose(after, before).all((1, 2)).any()


def test_the_decoder_puts_every_patch_at_its_place() -> None:
    """Blocks that mix nothing: what comes out of a masked place is the mask token with the position of that place."""
    decoder = Decoder(32, 3, 4, 1, 12).eval()
    decoder.blocks = torch.nn.Sequential()
    drawn = task().draw(0, TRAIN, torch.arange(2))
    found = decoder(torch.randn(2, 5, 32), drawn)
    rows = decoder.mask_token + decoder.places[0, 1:]
    assert torch.allclose(found, decoder.predictor(decoder.norm(rows))[drawn.masked], atol=1e-6)


def test_decoder_positions_are_those_of_the_release() -> None:
    """`util/pos_embed.py` of facebookresearch/mae: the first half of the width is for the column."""
    found = sines(5, 16, 1)[0]
    assert found.shape == (26, 16)
    assert found[0].abs().max() == 0
    for row, column in ((0, 0), (3, 1), (4, 4)):
        for place, part in ((column, found[1 + row * 5 + column, :8]), (row, found[1 + row * 5 + column, 8:])):
            angles = torch.tensor([place / 10_000 ** (index / 4) for index in range(4)])
            assert torch.allclose(part, torch.cat((angles.sin(), angles.cos())), atol=1e-6)


def test_the_decoder_is_the_published_one_for_published_encoders() -> None:
    with torch.device("meta"):
        for width, depth in ((768, 12), (1024, 24), (1280, 32)):
            decoder = Decoder(width, depth, 14, 1, 768)
            shape = (len(decoder.blocks), decoder.embed.out_features, decoder.blocks[0].attn.num_heads)
            assert shape == (8, 512, 16)
        small = Decoder(64, 6, 8, 1, 48)
    assert (len(small.blocks), small.embed.out_features) == (2, 32)


@pytest.mark.parametrize(
    ("model", "words"),
    [("vit-32x2/2-every", "-every"), ("vit-32x2/2-pos2d-shared", "-shared"), ("vit-32x2/2-posrel", "-posrel")],
)
def test_positions_that_cannot_be_left_out_are_refused(model: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        task(model)
    with pytest.raises(UserError, match="1 must be left"):
        task(masked=0.99)


def test_it_learns() -> None:
    """Of one batch again and again; predicting nothing has a loss of nearly 1, the variance of each patch."""
    found = task()
    batch = Batch(some_images(1).expand(16, -1, -1, -1), torch.zeros(16, dtype=torch.long))
    optimizer = torch.optim.AdamW(found.parameters(), lr=3e-3)
    losses = []
    for step in range(100):
        optimizer.zero_grad()
        loss = found.training_step(batch, step)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.8
    assert sum(losses[-10:]) / 10 < 0.5
