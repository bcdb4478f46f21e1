"""Exponents of costs over the image size: on planted powers, on sums of powers, and the verdicts on them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Evidence, Judgement
from vision_repro.analysis.judges.exponents import (
    costs,
    counted_exponent,
    counted_less,
    exponents,
    grows_faster,
    grows_slower_than,
    local_exponents,
    measured_less,
)
from vision_repro.analysis.table import Row, Setting, Table

SIZES = (8, 16, 32, 48)
A: Setting = {"model": "a"}
B: Setting = {"model": "b"}


def planted(noise: float = 0.0, seeds: int = 4, counts: bool = True, **laws: Callable[[int], float]) -> Evidence:
    """Returns a table of costs by the laws of the models, each times a random factor around 1."""
    luck, rows = random.Random(0), []
    for model, law in laws.items():
        for size in SIZES:
            for seed in range(seeds):
                cost = law(size) * math.exp(luck.gauss(0, noise))
                setting: Setting = {"model": model, "image_size": size}
                rows.append(Row("x", "cpu", "r", setting, seed, "ok", "cost", cost, "s"))
    return Evidence(Table(rows), "cpu", counts)


def linear(size: int) -> float:
    return 3e-6 * size**2


def square(size: int) -> float:
    return 5e-9 * size**4


def both(size: int) -> float:
    """A network with linear layers and global attention; the two terms are equal at 16 pixels."""
    return (size / 16) ** 2 + (size / 16) ** 4


@pytest.mark.parametrize("power", [0.5, 1.0, 1.37, 2.0])
def test_a_power_of_the_pixels_is_found(power: float) -> None:
    evidence = planted(a=lambda size: 7.0 * (size * size) ** power)
    series = costs(evidence, A, "cost")
    assert list(series) == [float(size**2) for size in SIZES]
    for found in (exponents(series), local_exponents(series)):
        assert found == {seed: pytest.approx(power) for seed in range(4)}


def test_the_slope_is_that_of_least_squares() -> None:
    series = costs(planted(noise=0.3, a=both), A, "cost")
    sizes = sorted(series)
    x = [math.log(size) for size in sizes]
    for seed, exponent in exponents(series).items():
        y = [math.log(series[size][seed]) for size in sizes]
        # the obvious way: normal equations of a line
        n, sx, sy = len(x), sum(x), sum(y)
        sxx, sxy = sum(a * a for a in x), sum(a * b for a, b in zip(x, y, strict=True))
        assert exponent == pytest.approx((n * sxy - sx * sy) / (n * sxx - sx * sx))


def test_a_sum_of_terms_lies_between_them_and_rises_with_the_size() -> None:
    series = costs(planted(a=both), A, "cost")
    whole, last = exponents(series)[0], local_exponents(series)[0]
    assert 1 < whole < last < 2
    assert last == pytest.approx(math.log(both(48) / both(32)) / math.log((48 / 32) ** 2))


def test_seeds_without_all_sizes_and_single_sizes_have_no_exponent() -> None:
    assert exponents({64.0: {0: 1.0, 1: 1.0}, 256.0: {0: 4.0}}) == {0: pytest.approx(1.0)}
    assert exponents({64.0: {0: 1.0}}) == exponents({}) == {}
    with pytest.raises(ValueError, match="above 0"):
        exponents({64.0: {0: 0.0}, 256.0: {0: 1.0}})


def counted(evidence: Evidence, expected: float) -> Judgement:
    return counted_exponent(evidence, A, metric="cost", expected=expected, margin=0.05, subject="exponent")


def test_counts_are_judged_without_noise() -> None:
    assert counted(planted(a=square), 2.0).verdict == HOLDS
    assert counted(planted(a=square, seeds=1), 2.0).verdict == HOLDS  # a count needs no second seed
    assert counted(planted(a=square), 1.0).verdict == FAILS
    assert counted(planted(a=both), 2.0).verdict == FAILS
    found = counted(planted(a=both), 2.0)
    assert found.estimate is not None
    assert found.estimate.low == found.estimate.mean == found.estimate.high
    assert "between the two largest sizes 1.8" in found.note


def test_counts_that_cannot_decide_are_untested() -> None:
    assert counted(planted(a=square, counts=False), 2.0).verdict == UNTESTED
    assert "the seeds differ" in counted(planted(a=square, noise=0.01), 2.0).note
    assert counted(planted(b=square), 2.0).note == "needs two image sizes"


def slower(evidence: Evidence) -> Judgement:
    return grows_slower_than(evidence, A, metric="cost", bound=1.15, subject="exponent")


def test_seconds_are_judged_over_seeds() -> None:
    found = slower(planted(noise=0.02, a=linear))
    assert found.verdict == HOLDS
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(0.15, abs=0.02)
    assert "over all sizes +1.0" in found.note
    assert "between the two largest" in found.note
    assert slower(planted(noise=0.02, a=square)).verdict == FAILS
    assert slower(planted(noise=0.02, a=lambda size: float(size) ** 2.3)).verdict == UNDECIDED
    assert slower(planted(noise=0.02, a=linear, seeds=2)).verdict == UNTESTED
    assert slower(planted(noise=0.02, a=linear, counts=False)).verdict == UNTESTED
    assert "needs two image sizes" in slower(planted(b=linear)).note


def test_two_measured_exponents_are_compared_by_seed() -> None:
    evidence = planted(noise=0.02, a=linear, b=both)
    steeper = grows_faster(evidence, B, A, metric="cost", subject="b minus a")
    assert (steeper.verdict, steeper.unit) == (HOLDS, "exponent")
    assert grows_faster(evidence, A, B, metric="cost", subject="a minus b").verdict == FAILS
    same = grows_faster(planted(noise=0.02, a=linear, b=linear), B, A, metric="cost", subject="b minus a")
    assert same.verdict == UNDECIDED


def test_exponents_are_compared_over_the_sizes_of_both() -> None:
    """A size that only one has would change its exponent, as that of a sum rises with the size."""
    evidence = planted(noise=0.001, a=both, b=both)
    kept = [row for row in evidence.table.rows if row.get("model") == "a" or row.get("image_size") in (8, 16)]
    partly = Evidence(Table(kept), "cpu", True)
    found = grows_faster(partly, A, B, metric="cost", subject="a minus b").estimate
    assert found is not None
    assert found.mean == pytest.approx(0, abs=0.01)


def test_ratios_of_costs() -> None:
    a: Setting = {**A, "image_size": 48}
    b: Setting = {**B, "image_size": 48}
    exact = counted_less(planted(a=square, b=linear), a, b, metric="cost", subject="a over b")
    assert exact.verdict == HOLDS
    assert exact.estimate is not None
    assert exact.estimate.mean == pytest.approx(math.log2(square(48) / linear(48)))
    assert counted_less(planted(a=linear, b=square), a, b, metric="cost", subject="a over b").verdict == FAILS
    noisy = planted(noise=0.02, a=square, b=linear)
    measured = measured_less(noisy, a, b, metric="cost", subject="a over b")
    assert measured.verdict == HOLDS
    assert "3.8" in measured.note  # 0.0265 over 0.0069
    assert measured_less(noisy, b, a, metric="cost", subject="b over a").verdict == FAILS
    assert counted_less(planted(a=linear), a, b, metric="cost", subject="a over b").verdict == UNTESTED
