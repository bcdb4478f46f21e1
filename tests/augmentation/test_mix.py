"""Erasing, mixup and cutmix: pixels and labels against the slow way, draws against their distributions."""

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from vision_repro.augmentation import mix as m
from vision_repro.augmentation.policy import Mixing, parse


def numbered(count: int, height: int = 8, width: int = 12) -> tuple[Tensor, Tensor]:
    """Images of which each has one value, its number, and labels that say the number."""
    labels = torch.arange(count)
    return labels.byte()[:, None, None, None].expand(count, 3, height, width).contiguous(), labels


# --- erasing ---


def test_erased_boxes_have_the_papers_areas_and_ratios() -> None:
    torch.manual_seed(0)
    side = 1000  # so that rounding to pixels does not matter
    top, left, height, width = m.erased_boxes(20_000, side, side).unbind(1)
    assert min(top.min(), left.min()) == 0
    assert (top + height).max() <= side
    assert (left + width).max() <= side
    area, ratio = height * width / side**2, height / width
    assert 0.0199 < area.min() < 0.0205
    assert 0.39 < area.max() < 0.4005
    assert ratio.min() > 0.298
    assert ratio.max() < 3.36
    # those that fit at once are uniform: tall and large ones are drawn again
    small = area < 0.3
    assert stats.kstest(area[small].numpy(), stats.uniform(0.02, 0.28).cdf).pvalue > 1e-3
    assert stats.kstest(ratio[area < 0.25].numpy(), stats.uniform(0.3, 1 / 0.3 - 0.3).cdf).pvalue > 1e-3
    free = (top / (side - height + 1))[small]
    assert stats.kstest(free.numpy(), stats.uniform(0, 1).cdf).pvalue > 1e-3


def test_erasing_touches_one_box_of_some_images() -> None:
    images = torch.zeros(4000, 3, 16, 20, dtype=torch.uint8)
    torch.manual_seed(0)
    erased = m.erase(images, 0.25)
    assert int(images.max()) == 0
    touched = (erased > 0).any(1)
    hit = touched.flatten(1).any(1)
    assert stats.binomtest(int(hit.sum()), 4000, 0.25).pvalue > 1e-3
    for one in touched[hit][:50]:
        rows, columns = one.any(1).nonzero()[:, 0], one.any(0).nonzero()[:, 0]
        box = one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.float().mean() > 0.9  # a value of the noise is 0 in all channels once in 2^24 pixels
    values = erased[touched[:, None].expand_as(erased)]
    assert stats.chisquare(values.long().bincount(minlength=256).numpy()).pvalue > 1e-3
    one, other = erased[hit][:2]
    assert not one.equal(other)


def test_erasing_nothing_and_everything() -> None:
    images = torch.zeros(20, 3, 5, 7, dtype=torch.uint8)  # 105 bytes an image: no multiple of 8
    assert m.erase(images, 0.0).equal(images)
    torch.manual_seed(0)
    assert (m.erase(images, 1.0) > 0).flatten(1).any(1).all()


def test_what_cannot_fit_is_not_erased() -> None:
    torch.manual_seed(0)
    boxes = m.erased_boxes(1000, 1, 300)  # a row of pixels is never higher than a box
    assert (boxes[:, 2:] == 0).all()
    images = torch.zeros(3, 3, 1, 300, dtype=torch.uint8)
    assert m.erase(images, 1.0).equal(images)


# --- weights ---


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 5.0])
def test_weights_are_from_the_beta_distribution(alpha: float) -> None:
    torch.manual_seed(0)
    each = m.beta(Mixing(alpha, each=True), 5000)
    whole = torch.stack([m.beta(Mixing(alpha), 3) for _ in range(2000)])
    assert whole.shape == (2000, 3)
    assert (whole == whole[:, :1]).all()
    for draws in (each, whole[:, 0]):
        assert draws.isfinite().all()
        assert stats.kstest(draws.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_the_smallest_alpha_still_gives_numbers() -> None:
    torch.manual_seed(0)
    draws = m.beta(Mixing(0.01, each=True), 20_000)
    assert draws.isfinite().all()
    assert 0.45 < draws.mean() < 0.55


# --- mixing ---


@pytest.mark.parametrize("policy", ["mixup0.5", "mixup-each0.5", "cutmix1", "cutmix-each1"])
@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_pixels_and_labels_tell_the_same_story(policy: str, count: int) -> None:
    images, labels = numbered(count)
    torch.manual_seed(count)
    mixed = m.mix(images, labels, parse(policy))
    assert mixed.other is not None
    assert mixed.weight is not None
    assert mixed.labels is labels
    assert sorted(mixed.other.tolist()) == labels.tolist()  # a permutation: each image is used as often as before
    assert 0 <= mixed.weight.min() <= mixed.weight.max() <= 1
    assert mixed.weight.dtype == torch.float32
    mean = mixed.images.float().mean((1, 2, 3))
    expected = mixed.weight * labels + (1 - mixed.weight) * mixed.other
    torch.testing.assert_close(mean, expected, atol=1e-3, rtol=1e-5)
    one_weight = (mixed.weight == mixed.weight[0]).all()
    assert one_weight == ("each" not in policy or count == 1)
    assert images.equal(numbered(count)[0])


def test_mixup_blends_exactly() -> None:
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    mixed = m.mix(images, torch.arange(5), parse("mixup-each1"))
    assert mixed.other is not None
    assert mixed.weight is not None
    share = mixed.weight.double()[:, None, None, None]
    expected = share * images.double() + (1 - share) * images[mixed.other].double()
    torch.testing.assert_close(mixed.images.double(), expected, atol=1e-4, rtol=0)


def test_cutmix_pastes_one_box_and_counts_its_pixels() -> None:
    images, labels = numbered(30, 10, 14)
    torch.manual_seed(0)
    mixed = m.mix(images, labels, parse("cutmix-each1"))
    assert mixed.images.dtype == torch.uint8
    assert mixed.other is not None
    assert mixed.weight is not None
    for image, own, other, weight in zip(mixed.images, labels, mixed.other, mixed.weight, strict=True):
        pasted = (image != own).any(0)
        if own == other or not pasted.any():
            continue
        assert (image[:, pasted] == other).all()
        rows, columns = pasted.any(1).nonzero()[:, 0], pasted.any(0).nonzero()[:, 0]
        assert pasted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert float(weight) == pytest.approx(1 - pasted.sum().item() / 140, abs=1e-6)


def test_cut_boxes_equal_the_slow_way_and_may_hang_over_the_border() -> None:
    torch.manual_seed(0)
    area = torch.rand(3000, dtype=torch.float64)
    boxes = m.cut_boxes(area, True, 24, 40)
    torch.manual_seed(0)
    torch.rand(3000, dtype=torch.float64)
    places = torch.rand(2, 3000, dtype=torch.float64)
    for number in range(3000):
        slow = []
        for place, length in ((places[0, number], 24), (places[1, number], 40)):
            side, centre = int(area[number].sqrt() * length), int(place * length)
            first, last = max(0, centre - (side + 1) // 2), min(length, centre + side // 2)
            slow.append((first, last - first))
        (top, height), (left, width) = slow
        assert boxes[number].tolist() == [top, left, height, width]
    assert (boxes[:, 2] * boxes[:, 3] / 960 < area * 0.6).any()


def test_with_both_each_batch_takes_one_of_them() -> None:
    images, labels = numbered(4)
    torch.manual_seed(0)
    cut = sum(m.mix(images, labels, parse("mixup0.8+cutmix1")).images.dtype == torch.uint8 for _ in range(1000))
    assert stats.binomtest(cut, 1000).pvalue > 1e-3


def test_no_mixing_is_no_mixing() -> None:
    images, labels = numbered(4)
    mixed = m.mix(images, labels, parse("flip"))
    assert mixed.images is images
    assert mixed.other is None


# --- the loss ---


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_that_of_the_mixed_target(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    labels, other = torch.arange(9) % 5, torch.arange(9) % 4
    weight = torch.rand(9, generator=generator, dtype=torch.float64)
    batch = m.Mixed(torch.zeros(9, 3, 1, 1), labels, other, weight)
    target = weight[:, None] * F.one_hot(labels, 5) + (1 - weight[:, None]) * F.one_hot(other, 5)
    expected = F.cross_entropy(logits, target, label_smoothing=smoothing)
    found = m.cross_entropy(logits, batch, smoothing)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (found, expected)))


def test_without_mixing_the_loss_is_torchs_to_the_last_bit() -> None:
    logits, labels = torch.randn(33, 10), torch.arange(33) % 10
    batch = m.Mixed(torch.zeros(33, 3, 1, 1), labels)
    assert m.cross_entropy(logits, batch).equal(F.cross_entropy(logits, labels))
