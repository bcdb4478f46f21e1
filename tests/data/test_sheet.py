"""Contact sheets: every pixel of an image is found again, and so is its label."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont
from torch import Tensor

from vision_repro.augmentation import crops
from vision_repro.config import UserError
from vision_repro.data import sheet as s
from vision_repro.files.decode import decode


def pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def tile(made: Image.Image, number: int, columns: int, side: int, lines: int = 1) -> Tensor:
    """The square at the place of tile `number` on the sheet."""
    step_x, step_y = side + s.GAP, side + lines * s.LINE_HEIGHT + 2 * s.GAP
    x, y = s.GAP + number % columns * step_x, s.GAP + number // columns * step_y
    return pixels(made)[:, y : y + side, x : x + side]


def random_images(count: int, side: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(("side", "factor"), [(8, 12), (32, 3), (64, 2), (96, 1), (224, 1)])
def test_small_images_are_enlarged_by_whole_factors(side: int, factor: int) -> None:
    images = random_images(3, side)
    made = s.contact_sheet(images, ["a", "b", "c"], 2)
    for number in range(3):
        shown = tile(made, number, 2, side * factor)
        assert shown.equal(images[number].repeat_interleave(factor, 1).repeat_interleave(factor, 2))


def test_labels_stand_dark_on_light_below_their_image() -> None:
    images = torch.full((4, 3, 32, 32), 255, dtype=torch.uint8)
    made = pixels(s.contact_sheet(images, ["cat", "", "dog\nfish", "W" * 200], 4)).float().mean(0)
    width = 96 + s.GAP
    below = made[s.GAP + 96 :, s.GAP :]
    ink = [float((below[:, column * width : column * width + 96] < 128).float().mean()) for column in range(4)]
    assert ink[1] == 0
    assert min(ink[0], ink[2], ink[3]) > 0.005
    assert float(below[:, 3 * width - s.GAP : 3 * width].min()) == 255  # a long label stays below its image
    assert made[: s.GAP + 96].min() == 255


def test_labels_are_shortened_and_kept_on_one_line() -> None:
    font = ImageFont.load_default(s.TEXT_HEIGHT)
    assert s.shortened("cat", font, 96) == "cat"
    short = s.shortened("great white shark, white shark, man-eater", font, 96)
    assert short.startswith("great whi")
    assert short.endswith("...")
    assert font.getlength(short) <= 96
    assert s.shortened("a\tb\n c", font, 96) == "a b c"


def test_images_of_several_sizes_and_of_one_channel() -> None:
    images = [random_images(1, 32)[0], random_images(1, 500)[0, :, :400], random_images(1, 20)[0, :1]]
    made = s.contact_sheet(images, ["a", "b", "c"], 5)
    assert made.size == (s.GAP + 3 * (s.LARGEST + s.GAP), s.GAP + 205 + s.LINE_HEIGHT + 2 * s.GAP)


@pytest.mark.parametrize(("count", "labels", "columns"), [(0, [], 3), (2, ["a"], 3), (1, ["a"], 0)])
def test_no_sheet_of_nothing(count: int, labels: list[str], columns: int) -> None:
    with pytest.raises(ValueError, match="make no sheet"):
        s.contact_sheet(random_images(count), labels, columns)


def test_show_has_the_original_first_and_then_what_the_policy_makes() -> None:
    images = random_images(3)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    made = s.show(images, "crop-flip", ["a", "b", "c"], times=4)
    assert torch.get_rng_state().equal(state)
    for row in range(3):
        shown = [tile(made, row * 5 + column, 5, 96)[:, ::3, ::3] for column in range(5)]
        assert shown[0].equal(images[row])
        assert all(not other.equal(images[row]) for other in shown[1:])
    assert pixels(s.show(images, "crop-flip", ["a", "b", "c"], times=4)).equal(pixels(made))
    assert not pixels(s.show(images, "crop-flip", ["a", "b", "c"], times=4, seed=1)).equal(pixels(made))


def test_show_crops_as_the_workers_do() -> None:
    images = [random_images(1, 60)[0, :, :50], random_images(1, 70)[0]]
    made = s.show(images, "vgg", ["a", "b"], size=48, times=3, seed=5)
    for row, image in enumerate(images):
        shown = [tile(made, row * 4 + column, 4, 96)[:, ::2, ::2] for column in range(4)]
        assert shown[0].equal(crops.central(image, 48))
        for number in range(3):
            assert shown[number + 1].equal(crops.vgg(image, (number, row), size=48, seed=5))
    erased = s.show(images, "resize-crop+erase1", ["a", "b"], size=48, times=1)
    clean = crops.resize_crop(images[0], (0, 0), size=48, seed=0)
    share = (tile(erased, 1, 2, 96)[:, ::2, ::2] == clean).all(0).float().mean()
    assert 0.5 < share < 1
    with pytest.raises(UserError, match="crops images of any size"):
        s.show(random_images(2), "vgg", ["a", "b"])


def test_show_says_what_was_mixed() -> None:
    from vision_repro.augmentation.mix import Mixed

    mixed = Mixed(random_images(2), torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([0.25, 1.0]))
    assert s._mixed_label(mixed, 0, ["cat", "dog"]) == "0.25 cat\n0.75 dog"
    made = s.show(random_images(2), "mixup1", ["cat", "dog"], times=2)
    assert made.height == s.GAP + 2 * (96 + 2 * s.LINE_HEIGHT + 2 * s.GAP)


def test_show_refuses_an_unknown_policy() -> None:
    with pytest.raises(UserError, match='Did you mean "flip"'):
        s.show(random_images(1), "flop", ["a"])


def test_raw_images_become_central_squares_of_the_smallest_size(real_data: Path) -> None:
    paths = sorted((real_data / "pets-3" / "oxford-iiit-pet" / "images").glob("*.jpg"))[:6]
    images = [decode(path.read_bytes(), path) for path in paths]
    assert len({image.shape for image in images}) > 1
    side = min(min(image.shape[1:]) for image in images)
    squares = s.squares(images)
    assert squares.shape == (6, 3, side, side)
    smallest = next(number for number, image in enumerate(images) if min(image.shape[1:]) == side)
    top, left = ((length - side) // 2 for length in images[smallest].shape[1:])
    assert squares[smallest].equal(images[smallest][:, top : top + side, left : left + side])
    made = s.show(images, "rotate15+erase1", [path.stem for path in paths], times=2)
    assert made.width == s.GAP + 3 * (min(side, s.LARGEST) + s.GAP)
