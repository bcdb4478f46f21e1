"""Training crops and test views: against torchvision's transforms, slow versions and statistics."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as v2

from vision_repro.augmentation import augment, crops

SHAPES = [(224, 224), (120, 200), (200, 120), (37, 50), (1, 1), (90, 12)]


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    """An image as `decode` gives it: `[3, H, W]` whose memory is `[H, W, 3]`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator).permute(2, 0, 1)


# --- test views ---


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [16, 64, 224])
def test_crop_and_square_are_torchvisions(shape: tuple[int, int], size: int) -> None:
    image = noise(*shape)
    resized = v2.resize(image, [round(size * 256 / 224)], antialias=True)
    assert crops.views(image, "crop", size).equal(v2.center_crop(resized, [size, size]))
    assert crops.views(image, "square", size).equal(v2.resize(image, [size, size], antialias=True))


def slow_ten(image: Tensor, short: int, size: int) -> set[bytes]:
    """The pixels of torchvision's five crops and of their mirror images."""
    found = v2.five_crop(v2.resize(image, [short], antialias=True), [size, size])
    return as_set(torch.stack([view for crop in found for view in (crop, v2.hflip(crop))]))


def as_set(views: Tensor) -> set[bytes]:
    return {view.contiguous().numpy().tobytes() for view in views}


@pytest.mark.parametrize("shape", SHAPES)
def test_ten_are_five_and_their_mirror_images(shape: tuple[int, int]) -> None:
    views = crops.views(noise(*shape), "ten", 56)
    assert views.shape == (10, 3, 56, 56)
    assert as_set(views) == slow_ten(noise(*shape), 64, 56)


def test_fifty_are_ten_at_each_of_five_scales() -> None:
    image = noise(60, 80)
    views = crops.views(image, "fifty", 56)
    assert views.shape == (50, 3, 56, 56)
    for number, short in enumerate((56, 64, 96, 120, 160)):
        assert as_set(views[10 * number : 10 * number + 10]) == slow_ten(image, short, 56)


def test_a_square_image_has_two_different_views_at_the_smallest_scale() -> None:
    views = crops.views(noise(70, 70), "fifty", 56)
    assert len(as_set(views[:10])) == 2
    assert len(as_set(views)) == 42


@pytest.mark.parametrize("kind", crops.VIEWS)
def test_batches_in_memory_have_the_same_views(kind: str) -> None:
    images = torch.stack([noise(40, 32, seed) for seed in range(3)])
    views = crops.views(images.contiguous(), kind, 32)
    count = crops.VIEWS[kind]
    assert views.shape == (3, *((count,) if count > 1 else ()), 3, 32, 32)
    for image, found in zip(images, views, strict=True):
        assert found.equal(crops.views(image, kind, 32))


def test_other_devices_round_as_the_cpu_does() -> None:
    """The way through float32 that devices without uint8 kernels take, run on the CPU."""
    image = noise(100, 75)
    exact = torch.nn.functional.interpolate(image[None].float(), (48, 48), mode="bilinear", antialias=True)
    found = crops.resize(image, 48, 48).int()
    assert (found - exact[0].round().clamp(0, 255).int()).abs().max() <= 1


@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1), (3, 30_000)])
@pytest.mark.parametrize("kind", ["crop", "ten"])
def test_slim_images_are_not_blown_up(shape: tuple[int, int], kind: str) -> None:
    image = noise(*shape)
    assert crops._resize_short(image, 64).numel() <= 3 * 64 * 64 * 8
    assert crops.views(image, kind, 56).shape[-3:] == (3, 56, 56)


# --- training crops ---


def drawn(policy: str, image: Tensor, keys: list[tuple[int, int]], seed: int = 0, size: int = 16) -> Tensor:
    return torch.stack([crops.POLICIES[policy](image, key, size=size, seed=seed) for key in keys])


@pytest.mark.parametrize("policy", crops.POLICIES)
def test_crops_are_a_function_of_seed_epoch_and_image(policy: str) -> None:
    image = noise(60, 90)
    keys = [(epoch, number) for epoch in range(3) for number in range(4)]
    found = torch.cat([drawn(policy, image, keys, seed, 128) for seed in (0, 1)])
    assert found.shape == (24, 3, 128, 128)
    assert found.dtype == torch.uint8
    assert len(as_set(found)) == 24
    assert drawn(policy, image, keys[::-1], size=128).flip(0).equal(found[:12])


@pytest.mark.parametrize("policy", crops.POLICIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_crops_of_images_of_any_shape(policy: str, shape: tuple[int, int]) -> None:
    assert drawn(policy, noise(*shape), [(0, 0), (1, 0)], size=24).shape == (2, 3, 24, 24)


@pytest.mark.parametrize("shape", [(224, 224), (150, 100)])
def test_inception_is_torchvisions_resized_crop(shape: tuple[int, int]) -> None:
    image = noise(*shape)
    for number in range(20):
        draws = crops._draws(2 * augment.TRIES + 3, 3, (1, number))
        box = crops.box(*shape, draws)
        expected = v2.resized_crop(image, *box, [48, 48], antialias=True)
        expected = expected.flip(2) if draws[-1] < 0.5 else expected
        assert crops.inception(image, (1, number), size=48, seed=3).equal(expected)


def sample(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (top, left, height, width) [count, 4] of an image of 120 x 200, ours and torchvision's."""
    torch.manual_seed(0)
    mine = np.array([crops.box(120, 200, crops._draws(23, 0, (0, number))) for number in range(count)])
    image, scale, ratio = torch.zeros(3, 120, 200), list(augment.AREA), list(augment.RATIO)
    return mine, np.array([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(count)])


def test_boxes_follow_torchvisions_distribution() -> None:
    mine, theirs = sample(3000)
    error = np.sqrt(mine.var(0) / 3000 + theirs.var(0) / 3000)
    assert (np.abs(mine.mean(0) - theirs.mean(0)) < 4 * error).all()
    for what in (lambda box: box[:, 2] * box[:, 3], lambda box: box[:, 3] / box[:, 2], lambda box: box[:, 0]):
        assert ks_2samp(what(mine), what(theirs)).pvalue > 1e-3
    assert (mine[:, 0] + mine[:, 2]).max() <= 120
    assert (mine[:, 1] + mine[:, 3]).max() <= 200


@pytest.mark.parametrize(("height", "width"), [(10, 400), (400, 10), (1, 1)])
def test_where_no_box_fits_the_central_one_is_taken(height: int, width: int) -> None:
    top, left, h, w = crops.box(height, width, [1 - 1e-9] * 20 + [0.0] * 3)
    whole = RandomResizedCrop.get_params(torch.zeros(3, height, width), [0.999999999, 1.0], list(augment.RATIO))
    if math.isclose(height, width):
        assert (top, left, h, w) == (0, 0, height, width)
    else:
        assert (top, left, h, w) == tuple(whole)


def ramp(height: int, width: int) -> Tensor:
    """Red rises to the right, green downwards: a crop tells where it is from and how wide it is."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x * 255 / width, y * 255 / height, torch.zeros(height, width))).round().to(torch.uint8)


def spans(policy: str, size: int, count: int) -> Tensor:
    """The part of the width that each crop shows [count], and of which crops are mirrored [count]."""
    red = drawn(policy, ramp(240, 240), [(0, number) for number in range(count)], size=size)[:, 0, 0].float() / 255
    return torch.stack(((red[:, -1] - red[:, 0]).abs(), (red[:, -1] < red[:, 0]).float()))


def test_vgg_draws_the_short_side_uniformly_between_256_and_480() -> None:
    """At S = 56 the side is 64 to 120; a crop of side S shows S / side of the width."""
    shown, mirrored = spans("vgg", 56, 800)
    sides = 55 / shown
    assert 63 < sides.min() < 66
    assert 117 < sides.max() < 123
    assert abs(sides.mean() - 92) < 3
    assert abs(mirrored.mean() - 0.5) < 0.07


@pytest.mark.parametrize(("size", "side"), [(128, 160), (384, 448), (32, 40), (224, 261)])
def test_resize_crop_has_bits_pairs_of_sizes(size: int, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(crops, "resize", lambda image, h, w: seen.append((h, w)) or image.new_zeros(3, h, w))
    crops.resize_crop(noise(10, 20), (0, 0), size=size, seed=0)
    assert seen == [(side, side)]


def test_resize_crop_reaches_every_place_and_mirrors_half() -> None:
    found = drawn("resize-crop", noise(20, 20), [(0, number) for number in range(1500)])
    image = crops.resize(noise(20, 20), 20, 20)
    cuts = [image[:, top : top + 16, left : left + 16] for top in range(5) for left in range(5)]
    assert as_set(found) == as_set(torch.stack([*cuts, *(cut.flip(2) for cut in cuts)]))
    assert len(as_set(found)) == 50
