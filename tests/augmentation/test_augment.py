"""Batched augmentation against one image at a time."""

import hashlib

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from vision_repro.augmentation import augment as a
from vision_repro.augmentation import colour
from vision_repro.augmentation.batch import Batch
from vision_repro.augmentation.chunked import in_parts
from vision_repro.augmentation.policy import PARTS, parse
from vision_repro.config import UserError

IN_MEMORY = [part.example for name, part in PARTS.items() if not parse(part.example).needs_whole_images]
EVERYTHING = "crop-flip+translate0.1+rotate10+shear5+stretch1.2+lens0.1+jitter0.4+randaugment2x9+erase0.5+mixup0.2"


def random_images(count: int = 24, height: int = 16, width: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("policy", ["none", "flip", "crop-flip", "inception"])
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


def test_crops_made_in_parts_are_the_same_crops() -> None:
    images = random_images(7, 224, 224)
    torch.manual_seed(0)
    boxes = a.inception_boxes(7, 224, 224)
    assert in_parts(a.crop_resize, images, boxes).equal(a.crop_resize(images, boxes))


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


@pytest.mark.parametrize(
    ("policy", "digest"),
    [("none", "0b6166a617d4b53c"), ("flip", "2e4f093aadaac35f"), ("crop-flip", "ea29cccbda6e4101")],
)
def test_the_first_policies_give_the_pixels_of_the_first_results(policy: str, digest: str) -> None:
    torch.manual_seed(7)
    images = a.augment(random_images(), policy)
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16] == digest


def test_inception_draws_the_boxes_and_flips_of_the_first_results() -> None:
    torch.manual_seed(7)
    boxes = a.inception_boxes(24, 16, 16)
    assert hashlib.sha256(boxes.numpy().tobytes()).hexdigest()[:16] == "1115f6e2cf23bcf5"
    mirrored = a._coins(boxes)
    assert mirrored.tolist() == [bool(int(bit)) for bit in "000011000100111001000101"]
    torch.manual_seed(7)
    assert a.augment(random_images(), "inception").equal(a.flip(a.crop_resize(random_images(), boxes), mirrored))


def test_flip_and_crop_rates() -> None:
    images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(8000, 3, 8, 8).contiguous()
    torch.manual_seed(0)
    cropped = a.augment(images, "crop")
    assert (cropped[:, 0, 4, 3] - cropped[:, 0, 4, 2] == 1).all()  # no flip
    place = cropped[:, 0, 4, 4].long()  # 36 in the middle, 8 a row, 1 a column, up to a pixel off
    rows, columns = place // 8 - 3, place % 8 - 3
    assert stats.chisquare((rows * 3 + columns).bincount(minlength=9).numpy()).pvalue > 1e-3
    flipped = int((a.augment(images, "flip")[:, 0, 0, 0] == 7).sum())
    assert stats.binomtest(flipped, 8000).pvalue > 1e-3


@pytest.mark.parametrize("policy", [*IN_MEMORY, EVERYTHING])
def test_every_part_is_a_function_of_the_seed(policy: str) -> None:
    batch = Batch(random_images(7, 16, 20), torch.arange(7))
    before = batch.images.clone()
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(a.training_batch(batch, policy))
    assert made[0].images.equal(made[1].images)
    assert not made[0].images.equal(made[2].images)
    assert made[0].images.shape == batch.images.shape
    assert made[0].images.dtype == (torch.float32 if "mixup" in policy else torch.uint8)
    assert 0 <= made[0].images.min() <= made[0].images.max() <= 255
    assert batch.images.equal(before)
    torch.manual_seed(1)
    assert a.training_batch(batch, parse(policy)).images.equal(made[0].images)


@pytest.mark.parametrize("policy", [*(name for name in IN_MEMORY if name != "inception"), EVERYTHING])
def test_images_and_draws_meet_on_the_device_of_the_images(policy: str) -> None:
    batch = Batch(random_images(7).to("meta"), torch.arange(7, device="meta"))
    made = a.training_batch(batch, policy)
    assert {part.device.type for part in made if part is not None} == {"meta"}
    assert made.images.shape == batch.images.shape


def test_later_parts_leave_the_draws_of_the_first_as_they_are() -> None:
    images = random_images()
    for first in ("flip", "crop-flip", "inception"):
        torch.manual_seed(5)
        alone = a.augment(images, first)
        torch.manual_seed(5)
        assert not a.augment(images, f"{first}+erase1").equal(alone)
        torch.manual_seed(5)
        mixed = a.training_batch(Batch(images, torch.arange(24)), f"{first}+cutmix1")
        assert mixed.other is not None
        pasted = torch.where((mixed.images == alone).all(1, keepdim=True), alone, alone[mixed.other])
        assert mixed.images.equal(pasted)


def test_parts_are_done_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def spy(name: str) -> None:
        real = getattr(a, name)
        monkeypatch.setattr(a, name, lambda *values: (order.append(name), real(*values))[1])

    for name in ("crop_flip", "warp", "jitter", "randaugment", "erase", "mix"):
        spy(name)
    backwards = "+".join(reversed(EVERYTHING.split("+")))
    a.training_batch(Batch(random_images(), torch.arange(24)), backwards)
    assert order == ["crop_flip", "warp", "jitter", "randaugment", "erase", "mix"]


def test_jitter_is_the_three_changes_one_after_the_other() -> None:
    images = random_images(6)
    torch.manual_seed(0)
    changed = a.jitter(images, 0.4)
    torch.manual_seed(0)
    factors = 1 + 0.4 * (2 * torch.rand(6, 3) - 1)
    assert 0.6 <= factors.min() <= factors.max() <= 1.4
    for number in range(6):
        image = images[number : number + 1]
        for change, factor in zip(
            (colour.brightness, colour.contrast, colour.saturation), factors[number], strict=True
        ):
            image = change(image, factor[None])
        assert image.equal(changed[number : number + 1])


def test_the_arithmetic_of_training_does_not_reach_the_pixels() -> None:
    images = random_images(8, 32, 32)
    for policy in ("inception", EVERYTHING):
        torch.manual_seed(0)
        plain = a.augment(images, policy)
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16):
            assert a.augment(images, policy).equal(plain)


def test_normalise_leaves_blended_images_as_they_are() -> None:
    blended = torch.full((1, 3, 2, 2), 51.0)
    torch.testing.assert_close(a.normalise(blended), torch.full((1, 3, 2, 2), -0.6))
    assert (blended == 51).all()


def test_normalise() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8)
    torch.testing.assert_close(a.normalise(images), torch.tensor([-1.0, -0.6, 1.0]))
    torch.testing.assert_close(a.normalise(images, 0.2, 0.1), (images.float() / 255 - 0.2) / 0.1)


@pytest.mark.parametrize("policy", ["vgg", "resize-crop+mixup0.1"])
def test_what_only_workers_can_do_is_refused(policy: str) -> None:
    with pytest.raises(UserError, match="crops images of any size"):
        a.augment(random_images(), policy)
    images = random_images()
    assert a.augment(images, parse("vgg").after_cropping()) is images


def test_unknown_policy() -> None:
    with pytest.raises(UserError, match=r'"flop" is unknown.*mean "flip"'):
        a.augment(random_images(), "flop")
