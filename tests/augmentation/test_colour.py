"""Changes of colour against torchvision and PIL, image by image."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from vision_repro.augmentation import colour
from vision_repro.files.decode import decode


def images_of_all_kinds() -> Tensor:
    """Noise, dim images, ones with few values, and images of one value."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (8, 3, 20, 33), generator=generator)
    dim = torch.randint(90, 130, (4, 3, 20, 33), generator=generator)
    few = torch.randint(0, 3, (4, 3, 20, 33), generator=generator) * 100
    flat = torch.tensor([0, 77, 255])[:, None, None, None].expand(3, 3, 20, 33)
    return torch.cat((noise, dim, few, flat)).byte()


@pytest.fixture(params=["made", "photos"])
def images(request: pytest.FixtureRequest) -> Tensor:
    if request.param == "made":
        return images_of_all_kinds()
    table = pq.read_table(next((request.getfixturevalue("real_data") / "cifar10").glob("*test*.parquet")))
    return torch.stack([decode(row["bytes"], "cifar10") for row in table["img"][:30].to_pylist()])


def slowly(images: Tensor, change: Callable[[Tensor, Any], Tensor], values: list[Any]) -> Tensor:
    return torch.stack([change(image, value) for image, value in zip(images, values, strict=True)])


def furthest(one: Tensor, other: Tensor) -> int:
    return int((one.int() - other.int()).abs().max())


FACTORS = [0.0, 0.1, 0.55, 1.0, 1.3, 1.9]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (colour.brightness, tv.adjust_brightness),
        (colour.contrast, tv.adjust_contrast),
        (colour.saturation, tv.adjust_saturation),
        (colour.sharpness, tv.adjust_sharpness),
    ],
)
def test_blends_are_within_one_of_torchvision(images: Tensor, ours: Any, theirs: Any) -> None:
    factors = [FACTORS[number % len(FACTORS)] for number in range(len(images))]
    changed = ours(images, torch.tensor(factors))
    expected = slowly(images, theirs, factors)
    assert furthest(changed, expected) <= 1
    # torchvision cuts off, so that ours is the higher one where they differ
    assert (changed.int() >= expected.int()).all()
    same = [number for number, factor in enumerate(factors) if factor == 1]
    assert changed[same].equal(images[same])


def test_blends_round_what_the_formula_gives() -> None:
    image = torch.tensor([10, 100, 200], dtype=torch.uint8).view(1, 3, 1, 1)
    grey = int(0.2989 * 10 + 0.587 * 100 + 0.114 * 200)
    for factor in (0.3, 1.7):
        expected = [min(255, max(0, round(factor * value + (1 - factor) * grey))) for value in (10, 100, 200)]
        assert colour.saturation(image, torch.tensor([factor])).flatten().tolist() == expected


def test_posterize_equals_torchvisions(images: Tensor) -> None:
    bits = [number % 9 for number in range(len(images))]
    assert colour.posterize(images, torch.tensor(bits)).equal(slowly(images, tv.posterize, bits))
    assert colour.posterize(images, torch.tensor(bits).float()).equal(slowly(images, tv.posterize, bits))


def test_solarize_equals_torchvisions(images: Tensor) -> None:
    thresholds = [(number * 23) % 256 for number in range(len(images))]
    assert colour.solarize(images, torch.tensor(thresholds)).equal(slowly(images, tv.solarize, thresholds))
    assert colour.solarize(images, torch.full((len(images),), 256.0)).equal(images)
    assert colour.solarize(images, torch.zeros(len(images))).equal(255 - images)


def test_autocontrast_is_within_one_of_torchvision(images: Tensor) -> None:
    assert furthest(colour.autocontrast(images), tv.autocontrast(images)) <= 1
    flat = (images.amax((2, 3)) == images.amin((2, 3)))[:, :, None, None]
    assert torch.where(flat, colour.autocontrast(images), images).equal(images)


def test_equalize_equals_torchvisions_and_pils(images: Tensor) -> None:
    changed = colour.equalize(images)
    assert changed.equal(tv.equalize(images))
    for image, one in zip(images, changed, strict=True):
        by_pil = ImageOps.equalize(Image.fromarray(image.permute(1, 2, 0).numpy()))
        assert np.array_equal(np.array(by_pil), one.permute(1, 2, 0).numpy())


def test_a_few_pixels_are_left_as_they_are() -> None:
    tiny = torch.randint(0, 256, (3, 3, 2, 9), dtype=torch.uint8)
    assert colour.sharpness(tiny, torch.full((3,), 1.9)).equal(tiny)
    assert colour.equalize(tiny).equal(tiny)


def test_grey_images_have_no_saturation_to_change() -> None:
    grey = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    factors = torch.full((4,), 1.5)
    assert colour.saturation(grey, factors).equal(grey)
    expected = torch.stack([tv.adjust_contrast(image, 1.5) for image in grey])
    assert furthest(colour.contrast(grey, factors), expected) <= 1


def test_nothing_changes_its_input() -> None:
    images = images_of_all_kinds()
    before = images.clone()
    half = torch.full((len(images),), 0.5)
    for change in (colour.brightness, colour.contrast, colour.saturation, colour.sharpness):
        change(images, half)
    colour.posterize(images, half * 8), colour.solarize(images, half), colour.equalize(images)
    colour.autocontrast(images)
    assert images.equal(before)
