"""Pixels to inputs: constants, statistics against numpy, and the same numbers as before."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from vision_repro.augmentation import normalisation as n
from vision_repro.augmentation.augment import normalise
from vision_repro.config import NORMALISATIONS, UserError
from vision_repro.files.decode import decode


def random_images(count: int = 50, height: int = 6, width: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)
    images[:, 1] //= 3
    return images


def test_the_kinds_are_those_of_the_command_line() -> None:
    assert {"model", *n.KINDS} == set(NORMALISATIONS)


def test_half_is_the_first_normalisation_to_the_last_bit() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    half = n.statistics("half")
    for images in (every, every.contiguous(), random_images(), random_images().float()):
        assert half(images).equal(normalise(images))
    assert half(every).amin() == -1
    assert half(every).amax() == 1


def test_fixed_kinds_equal_torchvisions() -> None:
    from torchvision.transforms.v2 import functional as tv

    images = random_images()
    for kind in ("half", "imagenet", "none"):
        mean, std = n.FIXED[kind]
        expected = tv.normalize(images.float() / 255, list(mean), list(std))
        torch.testing.assert_close(n.statistics(kind)(images), expected, atol=2e-6, rtol=1e-5)


def test_images_and_views_of_either_type_are_left_as_they_are() -> None:
    for images in (random_images(), random_images().float(), random_images(24).view(4, 6, 3, 6, 9)):
        before = images.clone()
        inputs = n.statistics("imagenet")(images)
        assert images.equal(before)
        assert inputs.dtype == torch.float32
        assert inputs.shape == images.shape
    views = random_images(24).view(4, 6, 3, 6, 9)
    assert n.statistics("imagenet")(views).flatten(0, 1).equal(n.statistics("imagenet")(views.flatten(0, 1)))


@pytest.mark.parametrize("sizes", [(50,), (1, 49), (17, 17, 16)])
def test_measured_kinds_equal_numpys(sizes: tuple[int, ...]) -> None:
    images = random_images()
    pixels = images.double().numpy() / 255
    parts = images.split(list(sizes))
    image, channel, both = (n.statistics(kind, parts) for kind in n.MEASURED)
    np.testing.assert_allclose(image.mean.numpy(), pixels.mean(0), rtol=1e-14)
    for made in (channel, both):
        np.testing.assert_allclose(made.mean.numpy(), pixels.mean((0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(both.std.numpy(), pixels.std((0, 2, 3)), rtol=1e-12)
    assert image.mean.shape == images.shape[1:]
    assert channel.mean.shape == both.mean.shape == both.std.shape == (3,)
    assert (image.std == 1).all()
    assert (channel.std == 1).all()


@pytest.mark.parametrize("kind", n.MEASURED)
def test_the_measured_images_end_up_centred(kind: str) -> None:
    images = random_images()
    made = n.statistics(kind, [images])
    inputs = made(images).double()
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-6, rtol=0)
    if kind == "mean-image":
        torch.testing.assert_close(inputs.mean(0), torch.zeros(3, 6, 9).double(), atol=1e-6, rtol=0)
    spread = inputs.std((0, 2, 3), correction=0)
    if kind == "channel-mean-std":
        torch.testing.assert_close(spread, torch.ones(3).double(), atol=1e-5, rtol=0)
    else:
        assert (spread < 0.4).all()


def test_statistics_do_not_depend_on_order_or_batches() -> None:
    images = random_images()
    one = n.statistics("channel-mean-std", [images])
    other = n.statistics("channel-mean-std", images.flip(0).split(7))
    assert one.mean.equal(other.mean)
    assert one.std.equal(other.std)


def test_sums_of_many_bright_images_do_not_overflow() -> None:
    bright = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    bright[0, :, 0, 0] = 0
    many = bright.expand(140_000, 3, 8, 8)  # 2.2e9 a channel
    made = n.statistics("channel-mean-std", [many])
    torch.testing.assert_close(made.mean, torch.full((3,), 63 / 64).double())
    torch.testing.assert_close(made.std, torch.full((3,), (63 / 64 / 64) ** 0.5).double())


def test_cifar_has_its_known_statistics(real_data: Path) -> None:
    table = pq.read_table(next((real_data / "cifar10").glob("*train*.parquet")), columns=["img"])

    def batches() -> Iterator[Tensor]:
        for part in table.to_batches(max_chunksize=5000):
            yield torch.stack([decode(row["bytes"], "cifar10") for row in part["img"].to_pylist()[::10]])

    made = n.statistics("channel-mean-std", batches())
    # what is quoted for CIFAR-10 everywhere; the images here are re-encoded, and every tenth is read
    torch.testing.assert_close(made.mean, torch.tensor([0.4914, 0.4822, 0.4465]).double(), atol=5e-3, rtol=0)
    torch.testing.assert_close(made.std, torch.tensor([0.2470, 0.2435, 0.2616]).double(), atol=5e-3, rtol=0)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("vit-ti/4", "half"),
        ("vit-128x6/4-gap", "half"),
        ("bit-r50x1", "half"),
        ("r8x0.25/2+vit-64x3/4", "half"),
        ("r50+vit-b/16", "half"),
        ("resnet50", "imagenet"),
        ("swin-t", "imagenet"),
        ("vgg16-bn", "imagenet"),
        ("timm:vit_base_patch16_224.augreg_in21k", "half"),
        ("timm:resnetv2_50x1_bit.goog_in21k", "half"),
        ("timm:deit_tiny_patch16_224.fb_in1k", "imagenet"),
        ("timm:swin_tiny_patch4_window7_224.ms_in1k", "imagenet"),
        ("timm:vit_base_patch16_clip_224.openai", "timm:vit_base_patch16_clip_224.openai"),
    ],
)
def test_each_architecture_has_the_pixels_it_was_published_with(model: str, kind: str) -> None:
    assert n.default_for(model) == kind


def test_every_architecture_of_this_suite_keeps_or_finds_its_kind() -> None:
    from vision_repro import models

    for name in models.names():
        assert n.default_for(name) in n.KINDS
        if "vit-" in name or name.startswith("bit-"):
            assert n.default_for(name) == "half"


def test_weights_of_other_pixels_get_theirs() -> None:
    made = n.statistics("timm:vit_base_patch16_clip_224.openai")
    torch.testing.assert_close(made.mean, torch.tensor([0.48145466, 0.4578275, 0.40821073]).double())


@pytest.mark.parametrize("tag", ["timm:vit_base_patch16_22", "timm:vit_base_patch16_224.nobody"])
def test_unknown_weights_are_refused(tag: str) -> None:
    with pytest.raises(UserError, match=r'knows no weights ".*vit_base_patch16_224"\?'):
        n.default_for(tag)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(UserError, match=r'"chanel-mean" is unknown.*Did you mean "channel-mean"'):
        n.statistics("chanel-mean")
    with pytest.raises(UserError, match="there are none"):
        n.statistics("mean-image", [])
    with pytest.raises(UserError, match="images of one size"):
        n.statistics("mean-image", [random_images(), random_images(2, 9, 6)])
    with pytest.raises(UserError, match="divides by 0"):
        n.statistics("channel-mean-std", [torch.zeros(2, 3, 4, 4, dtype=torch.uint8)])
    with pytest.raises(UserError, match=r"has \(6, 9\) pixels, the images have \(9, 6\)"):
        n.statistics("mean-image", [random_images()])(random_images(2, 9, 6))


def test_fixed_kinds_do_not_read_the_images() -> None:
    def explode() -> Iterator[Tensor]:
        raise AssertionError
        yield

    assert n.statistics("imagenet", explode()).mean.tolist() == list(n.IMAGENET[0])
