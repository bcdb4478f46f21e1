"""One resampling of a batch against torchvision, image by image, and against closed forms."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from vision_repro.augmentation.chunked import PIXELS_AT_ONCE, in_parts
from vision_repro.augmentation.policy import parse
from vision_repro.augmentation.warp import matrix, random_motions, warp


def photos(count: int, height: int, width: int) -> Tensor:
    """Smooth random images: bilinear weights differ by rounding, and noise would turn that into whole steps."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 5, 5, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255).round().byte()


def still(count: int) -> Tensor:
    return torch.eye(2, 3).repeat(count, 1, 1)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (9, 14), (224, 224)])
def test_standing_still_changes_nothing(height: int, width: int) -> None:
    images = torch.randint(0, 256, (5, 3, height, width), dtype=torch.uint8)
    assert warp(images, still(5)).equal(images)
    assert warp(images, still(5), torch.zeros(5)).equal(images)
    assert warp(images, still(5), fill=128.0).equal(images)
    torch.testing.assert_close(warp(images.float(), still(5)), images.float(), atol=0.05, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 31)])
@pytest.mark.parametrize("fill", [0.0, 128.0])
def test_affine_equals_torchvisions(height: int, width: int, fill: float) -> None:
    images = photos(12, height, width)
    generator = torch.Generator().manual_seed(1)
    angle, slant_x, slant_y, ratio = (torch.rand(12, generator=generator) for _ in range(4))
    shift = torch.randint(-6, 7, (2, 12), generator=generator)
    expected, forward = [], []
    for number, image in enumerate(images):
        degrees, shear = float(angle[number] * 40), [float(slant_x[number] * 25), float(slant_y[number] * 25)]
        expected.append(
            tv.affine(
                image.float() - fill,
                angle=degrees,
                translate=shift[:, number].tolist(),
                scale=float(0.7 + ratio[number]),
                shear=shear,
                interpolation=InterpolationMode.BILINEAR,
            )
            + fill
        )
        turn, (sx, sy) = math.radians(degrees), (math.radians(value) for value in shear)
        # torchvision slants along x, then along y, then turns
        rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        slants = torch.tensor([[1.0, -math.tan(sx)], [0, 1]]), torch.tensor([[1, 0], [-math.tan(sy), 1.0]])
        forward.append(rotation @ slants[1] @ slants[0] * (0.7 + ratio[number]))
    inverse = torch.linalg.inv(torch.stack(forward))
    motions = torch.cat((inverse, -inverse @ shift.float().T[:, :, None]), dim=2)
    moved = warp(images.float(), motions, fill=fill)
    torch.testing.assert_close(moved, torch.stack(expected), atol=0.02, rtol=0)
    assert (warp(images, motions, fill=fill).int() - torch.stack(expected).round().int()).abs().max() <= 1


def test_rotation_by_90_degrees_moves_whole_pixels() -> None:
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    zero, one = torch.zeros(2), torch.ones(2)
    quarter = torch.cat((matrix(zero, one, -one, zero), torch.zeros(2, 2, 1)), dim=2)
    assert warp(images, quarter).equal(images.rot90(-1, (2, 3)))  # clockwise as seen, y runs down


def test_a_shift_by_whole_pixels_is_a_slice() -> None:
    images = torch.randint(1, 256, (1, 3, 8, 10), dtype=torch.uint8)
    motions = still(1)
    motions[0, :, 2] = torch.tensor([3.0, -2.0])
    moved = warp(images, motions, fill=7.0)
    assert moved[..., 2:, :7].equal(images[..., :6, 3:])
    assert (moved[..., :2, :] == 7).all()
    assert (moved[..., 7:] == 7).all()


def test_a_lens_shows_each_distance_where_the_formula_says() -> None:
    size, k = 65, 0.12
    ramp = (torch.arange(size) - 32).abs().float().expand(1, 1, size, size)  # value = distance from the middle column
    seen = warp(ramp, still(1), torch.tensor([-k]))
    middle = seen[0, 0, 32]
    radius = (torch.arange(size) - 32).abs() / (size / 2)
    torch.testing.assert_close(middle, radius * (1 - k * radius**2) * (size / 2), atol=1e-3, rtol=0)


def test_no_lens_folds_the_corners_over() -> None:
    radius = torch.linspace(0, math.sqrt(2), 1000)
    strongest = parse("lens0.15").lens
    assert (radius * (1 - strongest * radius**2)).diff().min() > 0


def test_parts_of_a_batch_are_the_batch() -> None:
    images = torch.randint(0, 256, (7, 3, 300, 300), dtype=torch.uint8)
    assert 2 * PIXELS_AT_ONCE < 300 * 300 * 7
    motions, lens = random_motions(parse("rotate30+translate0.1+lens0.1"), 7, 300, 300)
    single = [warp(images[i : i + 1], motions[i : i + 1], lens[i : i + 1]) for i in range(7)]
    assert warp(images, motions, lens).equal(torch.cat(single))
    assert in_parts(lambda some, number: some + number[:, None, None, None], images, torch.arange(7).byte()).equal(
        images + torch.arange(7).byte()[:, None, None, None]
    )


@pytest.mark.parametrize("policy", ["translate0.25", "rotate30", "shear20", "stretch1.5", "lens0.1"])
def test_each_motion_alone_is_uniform_over_its_range(policy: str) -> None:
    torch.manual_seed(0)
    motions, lens = random_motions(parse(policy), 20_000, 40, 80)
    forward = torch.linalg.inv(motions[:, :, :2])
    shift = (forward @ -motions[:, :, 2:])[:, :, 0]
    share = {
        "translate0.25": torch.cat((shift[:, 0] / 80, shift[:, 1] / 40)) / 0.25,
        "rotate30": torch.atan2(forward[:, 1, 0], forward[:, 0, 0]).rad2deg() / 30,
        "shear20": torch.atan(forward[:, 0, 1] + forward[:, 1, 0]).rad2deg() / 20,
        "stretch1.5": (forward[:, 0, 0] / forward[:, 1, 1]).log() / math.log(1.5),
        "lens0.1": lens / 0.1,
    }[policy]
    assert 0.999 < share.abs().max() < 1.0001
    # the quartiles of 20,000 draws have a standard error of 0.006
    quartiles = torch.quantile(share, torch.tensor([0.25, 0.5, 0.75]))
    torch.testing.assert_close(quartiles, torch.tensor([-0.5, 0.0, 0.5]), atol=0.03, rtol=0)
    torch.testing.assert_close(torch.linalg.det(forward), torch.ones(20_000), atol=1e-3, rtol=0)  # areas stay


def test_a_slant_is_along_x_or_along_y() -> None:
    torch.manual_seed(0)
    motions, _ = random_motions(parse("shear20"), 1000, 32, 32)
    along_x, along_y = motions[:, 0, 1] != 0, motions[:, 1, 0] != 0
    assert not (along_x & along_y).any()
    assert 400 < along_x.sum() < 600


def test_no_arithmetic_of_the_training_reaches_the_places() -> None:
    torch.manual_seed(0)
    plain, _ = random_motions(parse("rotate30+shear10+translate0.2"), 50, 224, 224)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = random_motions(parse("rotate30+shear10+translate0.2"), 50, 224, 224)
        images = photos(50, 32, 32)
        warped = warp(images, plain)
    assert mixed.equal(plain)
    assert warped.equal(warp(images, plain))
