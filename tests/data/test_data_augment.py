"""Batched augmentation against one image at a time."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from vision_repro.config import UserError
from vision_repro.data import augment as a


def random_images(count: int = 24, height: int = 16, width: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("policy", a.POLICIES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_shape_type_and_the_global_generator(policy: str, dtype: torch.dtype) -> None:
    images = random_images(height=8, width=12).to(dtype)
    before = images.clone()
    torch.manual_seed(1)
    first = a.augment(images, policy)
    torch.manual_seed(1)
    assert a.augment(images, policy).equal(first)
    assert first.shape == images.shape
    assert first.dtype == dtype
    assert images.equal(before)
    assert first.equal(images) == (policy == "none")


def test_flip_equals_the_slow_way() -> None:
    images, mirrored = random_images(), torch.arange(24) % 3 == 0
    expected = [image.flip(2) if m else image for image, m in zip(images, mirrored, strict=True)]
    assert a.flip(images, mirrored).equal(torch.stack(expected))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 16)])
def test_crop_flip_equals_the_slow_way(height: int, width: int) -> None:
    images = random_images(90, height, width)
    pad_y, pad_x = height // 8, width // 8
    top = torch.arange(90) % (2 * pad_y + 1)
    left = torch.arange(90) // 9 % (2 * pad_x + 1)
    mirrored = torch.arange(90) % 2 == 1
    expected = []
    for image, y, x, m in zip(images, top.tolist(), left.tolist(), mirrored, strict=True):
        crop = tv.crop(tv.pad(image, [pad_x, pad_y]), y, x, height, width)
        expected.append(crop.flip(2) if m else crop)
    assert a.crop_flip(images, top, left, mirrored).equal(torch.stack(expected))


def test_crop_resize_equals_torchvisions() -> None:
    images = random_images(60)
    torch.manual_seed(0)
    boxes = a.inception_boxes(60, 16, 16)
    pairs = zip(images.float(), boxes.tolist(), strict=True)
    expected = torch.stack([tv.resized_crop(image, *box, [16, 16], antialias=False) for image, box in pairs])
    torch.testing.assert_close(a.crop_resize(images.float(), boxes), expected, atol=1e-3, rtol=0)
    assert (a.crop_resize(images, boxes).int() - expected.round().int()).abs().max() <= 1


def test_the_whole_image_as_a_box_changes_nothing() -> None:
    images = random_images()
    assert a.crop_resize(images, torch.tensor([[0, 0, 16, 16]]).expand(24, 4)).equal(images)


def test_inception_boxes_lie_inside_and_in_range() -> None:
    torch.manual_seed(0)
    top, left, height, width = a.inception_boxes(20_000, 224, 224).unbind(1)
    assert min(top.min(), left.min()) == 0
    assert int((top + height).max()) == int((left + width).max()) == 224
    area = height * width / 224**2
    assert 0.049 < area.min() < 0.06
    assert area.max() > 0.95
    assert 0.4 < area.mean() < 0.53  # 0.525 without the boxes that do not fit
    ratio = width / height
    assert 0.72 < ratio.min() < 0.76
    assert 1.3 < ratio.max() < 1.39


def test_policies_do_what_their_chances_say() -> None:
    images = torch.arange(4, dtype=torch.uint8).expand(4000, 3, 4, 4).contiguous()
    torch.manual_seed(0)
    flipped = (a.augment(images, "flip")[:, 0, 0, 0] == 3).float().mean()
    assert 0.46 < flipped < 0.54


def test_normalise() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8)
    torch.testing.assert_close(a.normalise(images), torch.tensor([-1.0, -0.6, 1.0]))
    torch.testing.assert_close(a.normalise(images, 0.2, 0.1), (images.float() / 255 - 0.2) / 0.1)


def test_unknown_policy() -> None:
    with pytest.raises(UserError, match=r'"flop" is unknown.*mean "flip"'):
        a.augment(random_images(), "flop")
