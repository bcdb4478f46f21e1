"""RandAugment: each operation at each level against torchvision's, and how often each comes."""

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from vision_repro.augmentation import randaugment as r

BILINEAR = {"interpolation": InterpolationMode.BILINEAR}


def one_slowly(image: Tensor, name: str, level: float) -> Tensor:
    """The operation of torchvision that RandAugment's paper means; `level` is signed, 10 is the largest."""
    height, width = image.shape[1:]
    share = level / 10
    if name in ("color", "contrast", "brightness", "sharpness"):
        adjust: Any = getattr(tv, f"adjust_{'saturation' if name == 'color' else name}")
        return adjust(image, 1 + 0.9 * share)  # type: ignore[no-any-return]
    if name == "posterize":
        return tv.posterize(image, 8 - round(4 * abs(share)))  # type: ignore[no-any-return]
    if name == "solarize":
        return 255 - image if abs(level) == 10 else tv.solarize(image, 256 - round(256 * abs(share)))
    if name in ("autocontrast", "equalize"):
        change: Any = getattr(tv, name)
        return change(image)  # type: ignore[no-any-return]
    if name == "identity":
        return image
    still: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]} | BILINEAR
    slant = math.degrees(math.atan(0.3 * share))
    settings: dict[str, dict[str, Any]] = {
        "rotate": {"angle": 30 * share},
        "shear_x": {"shear": [slant, 0.0], "center": [0, 0]},
        "shear_y": {"shear": [0.0, slant], "center": [0, 0]},
        "translate_x": {"translate": [round(150 / 331 * width * share), 0]},
        "translate_y": {"translate": [0, round(150 / 331 * height * share)]},
    }
    return tv.affine(image.float() - 128, **still | settings[name]).add(128).round().byte()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", r.OPERATIONS)
@pytest.mark.parametrize("level", [10.0, -10.0, 5.0, -2.5])
def test_each_operation_equals_torchvisions(name: str, level: float) -> None:
    # sides at which all shifts are whole pixels, which is what torchvision's translate takes
    images = torch.nn.functional.interpolate(
        torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 255, 331, mode="bilinear"
    ).byte()[:, :, :, : 331 if name.startswith("translate") else 300]
    level = level if level != -2.5 or not name.startswith("translate") else -2.0
    chosen = torch.full((4,), r.OPERATIONS.index(name))
    changed = r.apply(images, chosen, torch.full((4,), level))
    expected = torch.stack([one_slowly(image, name, level) for image in images])
    assert (changed.int() - expected.int()).abs().max() <= 1
    assert (changed != expected).float().mean() < (0.75 if name in r.COLOURS else 0.02)
    assert changed.equal(images) == (name == "identity")


@pytest.mark.parametrize("name", [name for name in r.OPERATIONS if name not in ("autocontrast", "equalize")])
def test_level_0_changes_nothing(name: str) -> None:
    images = torch.randint(0, 256, (3, 3, 24, 17), dtype=torch.uint8)
    chosen = torch.full((3,), r.OPERATIONS.index(name))
    assert r.apply(images, chosen, torch.zeros(3)).equal(images)


GROWING = ("posterize", "solarize", "color", "brightness", "contrast", "rotate", "shear_y", "translate_x")


@pytest.mark.parametrize("name", GROWING)
def test_a_higher_level_changes_more(name: str) -> None:
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    images = torch.stack((8 * x, 8 * y, 4 * (x + y)))[None].byte()
    chosen = torch.tensor([r.OPERATIONS.index(name)])
    changes = [
        (r.apply(images, chosen, torch.tensor([-level])).float() - images).abs().mean().item()
        for level in (0.0, 2.5, 5.0, 7.5, 10.0)
    ]
    assert changes[0] == 0
    assert changes == sorted(changes)
    assert changes[-1] > 4


def test_a_batch_of_all_operations_is_each_by_itself() -> None:
    images = torch.randint(0, 256, (28, 3, 32, 24), dtype=torch.uint8)
    chosen = torch.randperm(28) % 14
    level = torch.linspace(-10, 10, 28)
    before = images.clone()
    together = r.apply(images, chosen, level)
    single = [r.apply(images[i : i + 1], chosen[i : i + 1], level[i : i + 1]) for i in range(28)]
    assert together.equal(torch.cat(single))
    assert images.equal(before)


def test_operations_come_equally_often_and_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def record(images: Tensor, chosen: Tensor, level: Tensor) -> Tensor:
        seen.append((chosen, level))
        return images

    monkeypatch.setattr(r, "apply", record)
    torch.manual_seed(0)
    r.randaugment(torch.zeros(7000, 3, 1, 1, dtype=torch.uint8), 2, 9.0)
    chosen, level = torch.cat([item[0] for item in seen]), torch.cat([item[1] for item in seen])
    assert len(seen) == 2
    assert stats.chisquare(chosen.bincount(minlength=14).numpy()).pvalue > 1e-3
    pairs = (seen[0][0] * 14 + seen[1][0]).bincount(minlength=196)  # the second does not depend on the first
    assert stats.chisquare(pairs.numpy()).pvalue > 1e-3
    assert set(level.tolist()) == {-9.0, 9.0}
    assert stats.binomtest(int((level > 0).sum()), 14_000).pvalue > 1e-3
    seen.clear()
    r.randaugment(torch.zeros(4000, 3, 1, 1, dtype=torch.uint8), 1, 5.0, 0.5)
    assert stats.kstest(seen[0][1].abs().numpy(), stats.norm(5, 0.5).cdf).pvalue > 1e-3
    r.randaugment(torch.zeros(4000, 3, 1, 1, dtype=torch.uint8), 1, 10.0, 3.0)
    assert seen[1][1].abs().max() == 10


def test_motions_go_where_their_names_say() -> None:
    height, width = 31, 41
    motions = r.inverse_motions(torch.arange(5), torch.full((5,), 10.0), height, width)
    # where in the input (x, y from the centre) the pixels at the centre and in the bottom right corner come from
    centre, corner = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([width / 2, height / 2, 1.0])
    found = {name: (motion @ centre, motion @ corner) for name, motion in zip(r.MOTIONS, motions, strict=True)}
    turned = torch.tensor([[math.cos(math.pi / 6), 0.5], [-0.5, math.cos(math.pi / 6)]])
    expected = {
        "rotate": (torch.zeros(2), turned @ corner[:2]),
        "shear_x": (torch.tensor([0.3 * height / 2, 0]), corner[:2] + torch.tensor([0.3 * height, 0])),
        "shear_y": (torch.tensor([0, 0.3 * width / 2]), corner[:2] + torch.tensor([0, 0.3 * width])),
        "translate_x": (torch.tensor([-width * 150 / 331, 0]), corner[:2] - torch.tensor([width * 150 / 331, 0])),
        "translate_y": (torch.tensor([0, -height * 150 / 331]), corner[:2] - torch.tensor([0, height * 150 / 331])),
    }
    for name, points in expected.items():
        torch.testing.assert_close(found[name], points)
