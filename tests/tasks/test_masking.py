"""Masks: in the paper's proportions, and a function of the seed and an image's position alone."""

import pytest
import torch
from scipy import stats

from vision_repro.config import UserError
from vision_repro.tasks.masking import TRAIN, VAL, corruption, count, noise, pick, shuffled

PATCHES, CORRUPTED = 64, 32
GOLDEN = [[2, 1, 0, 4, 5, 3], [1, 2, 0, 4, 5, 3]]


def chi_square(found: torch.Tensor, expected: list[float]) -> float:
    """The p-value of counts under these shares."""
    total = float(found.sum())
    return float(stats.chisquare(found.double().numpy(), [total * share for share in expected]).pvalue)


def kinds(seed: int, images: int = 512) -> torch.Tensor:
    """How many corrupted patches become the mask embedding, another patch's, or stay."""
    drawn = corruption(seed, TRAIN, torch.arange(images), PATCHES, CORRUPTED)
    masked = drawn.masked.gather(1, drawn.where)
    moved = drawn.source.gather(1, drawn.where) != drawn.where
    assert not (masked & moved).any()
    return torch.stack((masked.sum(), moved.sum(), (~masked & ~moved).sum()))


def test_corrupted_patches_are_masked_swapped_or_kept_80_to_10_to_10() -> None:
    p_values = [chi_square(kinds(seed), [0.8, 0.1, 0.1]) for seed in range(100)]
    # over 1.6 million draws, and neither too far off nor too close: p-values of true draws are uniform
    assert chi_square(sum((kinds(seed) for seed in range(100)), torch.zeros(3)), [0.8, 0.1, 0.1]) > 1e-3
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_exactly_the_chosen_number_of_every_image_is_corrupted_and_the_others_are_untouched() -> None:
    drawn = corruption(3, VAL, torch.arange(200), PATCHES, CORRUPTED)
    chosen = torch.zeros(200, PATCHES, dtype=torch.bool).scatter(1, drawn.where, True)
    assert set(chosen.sum(1).tolist()) == {CORRUPTED}
    assert not drawn.masked[~chosen].any()
    assert torch.equal(drawn.source[~chosen], torch.arange(PATCHES).expand(200, -1)[~chosen])


def test_every_place_and_every_other_patch_is_equally_likely() -> None:
    drawn = corruption(0, TRAIN, torch.arange(20_000), PATCHES, CORRUPTED)
    assert chi_square(drawn.where.flatten().bincount(minlength=PATCHES), [1 / PATCHES] * PATCHES) > 1e-3
    step = (drawn.source - torch.arange(PATCHES)) % PATCHES
    steps = step[step > 0].bincount(minlength=PATCHES)[1:]
    assert chi_square(steps, [1 / (PATCHES - 1)] * (PATCHES - 1)) > 1e-3


def test_of_two_patches_the_other_is_the_other() -> None:
    drawn = corruption(0, TRAIN, torch.arange(1000), 2, 1)
    swapped = drawn.source != torch.arange(2)
    assert 60 < int(swapped.sum()) < 140
    assert torch.equal(drawn.source[swapped], 1 - torch.arange(2).expand(1000, 2)[swapped])


def test_numbers_are_uniform_and_not_alike_in_neighbours() -> None:
    found = noise(0, TRAIN, torch.arange(3000), 2, 50).double()
    assert stats.kstest(found.flatten().numpy()[::7], "uniform").pvalue > 1e-3
    assert float(found.min()) >= 0
    assert float(found.max()) < 1
    wholes = found - 0.5
    elsewhere = [
        noise(1, TRAIN, torch.arange(3000), 2, 50),
        noise(0, VAL, torch.arange(3000), 2, 50),
        noise(0, TRAIN, torch.arange(1, 3001), 2, 50),
        found.roll(1, 0),
        found.roll(1, 2),
        found.roll(1, 1),
    ]
    for other in elsewhere:
        correlation = 12 * float((wholes * (other - 0.5)).mean())
        assert abs(correlation) < 5 / found.numel() ** 0.5


def test_masks_do_not_depend_on_the_batch() -> None:
    whole = corruption(7, VAL, torch.arange(10), PATCHES, CORRUPTED)
    part = corruption(7, VAL, torch.arange(1, 10, 4), PATCHES, CORRUPTED)
    assert all(torch.equal(mine[1::4], other) for mine, other in zip(whole, part, strict=True))
    assert not torch.equal(whole.where, corruption(8, VAL, torch.arange(10), PATCHES, CORRUPTED).where)
    assert not torch.equal(whole.where, corruption(7, TRAIN, torch.arange(10), PATCHES, CORRUPTED).where)


def test_masks_are_what_they_always_were() -> None:
    """A run id says nothing of the generator: another one would change finished runs without a word."""
    assert shuffled(noise(0, VAL, torch.tensor([0, 1]), 1, 6)[0]).tolist() == GOLDEN


@pytest.mark.parametrize(
    ("patches", "share", "expected"), [(64, 0.5, 32), (16, 0.15, 2), (16, 0.01, 1), (196, 0.75, 147), (9, 0.5, 4)]
)
def test_a_share_of_the_patches_is_a_whole_number(patches: int, share: float, expected: int) -> None:
    assert count(patches, share) == expected


def test_too_few_patches_are_refused() -> None:
    with pytest.raises(UserError, match="takes 1 of the 1 patches"):
        count(1, 0.5)
    refused = r"--corrupted=0\.99 takes 16 of the 16 patches of an image, but 1 must be left"
    with pytest.raises(UserError, match=refused):
        count(16, 0.99, least=1)


def test_picking_is_gathering() -> None:
    rows, places = torch.randn(5, 7, 3), torch.randint(0, 7, (5, 4))
    expected = torch.stack(
        [torch.stack([image[place] for place in own]) for image, own in zip(rows, places, strict=True)]
    )
    assert torch.equal(pick(rows, places), expected)
