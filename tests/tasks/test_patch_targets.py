"""Targets of patches against slow versions, at the borders of bins, and on real images."""

import itertools
import math
from fractions import Fraction

import pytest
import torch

from vision_repro.config import UserError
from vision_repro.tasks import patch_targets as targets
from vision_repro.tasks.patch_targets import Colours, Pixels, colour_classes, colour_of, entropy, to_images, to_patches


def slow_classes(images: torch.Tensor, side: int, cells: int) -> list[list[list[int]]]:
    """The class of every cell of every patch in exact arithmetic, pixel by pixel."""
    part, found = side // cells, []
    for image in images.tolist():
        patches = []
        for top, left in itertools.product(range(0, len(image[0]), side), repeat=2):
            colours = []
            for down, right in itertools.product(range(0, side, part), repeat=2):
                bins = []
                for channel in image:
                    rows = channel[top + down : top + down + part]
                    pixels = [value for row in rows for value in row[left + right : left + right + part]]
                    bins.append(min(7, math.floor(8 * Fraction(sum(pixels), 255 * len(pixels)))))
                colours.append(64 * bins[0] + 8 * bins[1] + bins[2])
            patches.append(colours)
        found.append(patches)
    return found


@pytest.mark.parametrize(("side", "cells"), [(4, 1), (4, 4), (8, 1), (8, 4), (2, 2), (16, 4)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_classes_are_those_of_exact_arithmetic(side: int, cells: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    images[0] = images[0] // 64 * 85  # 0, 85, 170, 255: means on or near the borders
    assert colour_classes(images.to(dtype), side, cells).tolist() == slow_classes(images, side, cells)


@pytest.mark.parametrize("channel", range(3))
@pytest.mark.parametrize("border", range(9))
def test_a_border_belongs_to_the_bin_above_and_one_to_the_last(channel: int, border: int) -> None:
    """Of 4 x 4 pixels a mean of exactly j / 8 is a sum of 510 j."""
    for off in (-1, 0, 1):
        total = 510 * border + off
        if not 0 <= total <= 16 * 255:
            continue
        image = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
        share, rest = divmod(total, 16)
        image[0, channel] = share
        image[0, channel].view(-1)[:rest] += 1
        bin_ = min(7, border - (off < 0))
        assert colour_classes(image, 4).item() == bin_ * 8 ** (2 - channel)


def test_black_and_white_are_the_first_and_the_last_class() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 8, 8)
    assert colour_classes(images, 4).unique(dim=1).flatten().tolist() == [0, 511]
    assert colour_classes(images.float(), 8, 4).flatten(1).unique(dim=1).flatten().tolist() == [0, 511]


def test_the_colour_of_a_class_is_in_its_own_bin() -> None:
    colours = (colour_of(torch.arange(512)) * 255)[..., None, None].expand(512, 3, 2, 2)
    assert colour_classes(colours, 2).flatten().tolist() == list(range(512))


def test_patches_are_in_raster_order_and_put_together_again() -> None:
    images = torch.randint(0, 256, (2, 3, 12, 12), dtype=torch.uint8)
    patches = to_patches(images, 4)
    assert torch.equal(patches[1, 5].view(3, 4, 4), images[1, :, 4:8, 8:12])
    assert torch.equal(to_images(patches, 4), images)


def test_predictions_look_like_their_targets() -> None:
    """Certain predictions of the right answer give the pictures that the targets stand for."""
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    for item in (Colours(4, 1), Colours(4, 4), Colours(8, 4), Colours(2, 2)):
        labels = item.of(images)
        outputs = torch.nn.functional.one_hot(labels, 512).float().flatten(2) * 50
        again = to_images(item.pixels(outputs), item.side)
        assert torch.equal(item.of(again * 255), labels)
        assert float(item.losses(outputs, labels).max()) < 1e-6
        assert float(item.correct(outputs, labels).min()) == 1
        assert item.correct(outputs.roll(1, -1), labels).sum() < 0.1 * labels.shape[1]
    pixels = Pixels(4)
    assert torch.equal(to_images(pixels.pixels(pixels.of(images)), 4), images / 255)


def test_losses_are_those_of_a_slow_version() -> None:
    torch.manual_seed(0)
    item, images = Colours(4, 4), torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    labels, outputs = item.of(images), torch.randn(2, 4, 16 * 512)
    found = item.losses(outputs, labels)
    logits = outputs.view(2, 4, 16, 512).double().log_softmax(-1)
    slow = [[-sum(logits[b, n, c, labels[b, n, c]] for c in range(16)) / 16 for n in range(4)] for b in range(2)]
    assert torch.allclose(found.double(), torch.tensor(slow, dtype=torch.float64), rtol=1e-6)
    squares = Pixels(4).losses(torch.zeros(2, 4, 48), Pixels(4).of(images))
    assert float(squares[0, 0]) == pytest.approx(float((images[0, :, :4, :4] / 255).square().mean()), rel=1e-5)


def test_entropy_of_known_distributions() -> None:
    assert entropy(torch.ones(512)) == pytest.approx(math.log(512))
    assert entropy(torch.tensor([0.0, 7.0, 0.0])) == 0
    assert entropy(torch.tensor([1, 1, 2])) == pytest.approx(1.5 * math.log(2))


def test_normalised_patches_have_mean_0_and_variance_1_and_come_back() -> None:
    patches = torch.rand(2, 5, 48)
    found = targets.normalised(patches)
    assert float(found.mean(-1).abs().max()) < 1e-5
    assert torch.allclose(found.var(-1), torch.ones(2, 5), atol=1e-3)
    assert torch.allclose(targets.restored(found, patches), patches, atol=1e-5)
    assert float(targets.normalised(torch.full((1, 1, 48), 0.3)).abs().max()) < 1e-3  # a flat patch divides by nothing


def test_targets_that_a_patch_cannot_have_are_refused() -> None:
    with pytest.raises(UserError, match="14 pixels do not divide by 4"):
        targets.target("downsized", 14)
    with pytest.raises(UserError, match='Did you mean "mean-colour"'):
        targets.target("mean-color", 4)
    assert targets.target("downsized", 2) == Colours(2, 2)
    assert targets.target("downsized", 16).outputs == 16 * 512
    assert targets.target("pixels", 16).outputs == 768
