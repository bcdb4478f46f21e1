"""Intervals against scipy.stats, closed forms and coverage simulations."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vision_repro.analysis.intervals import (
    Interval,
    bootstrap_interval,
    describe,
    differences,
    mean_by_seed,
    means_over_shared,
    slopes,
    t_interval,
)

NUMBERS = st.lists(st.floats(-10, 10).map(lambda x: round(x, 6)), min_size=2, max_size=12)


@settings(max_examples=50, deadline=None)
@given(NUMBERS, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_t_interval_agrees_with_scipy(values: list[float], level: float) -> None:
    found = t_interval(values, level)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    assert found.mean == pytest.approx(np.mean(values), abs=1e-12)
    if error > 1e-9:
        low, high = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=error)
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9, abs=1e-9)


def test_t_interval_closed_form() -> None:
    # sd of (1, 2, 3) is 1; t(0.975, 2 degrees of freedom) = 4.302653
    found = t_interval([3.0, 1.0, 2.0])
    assert found == Interval(
        2.0, pytest.approx(2 - 4.302653 / math.sqrt(3)), pytest.approx(2 + 4.302653 / math.sqrt(3)), 3
    )


def test_order_of_the_values_changes_no_bit() -> None:
    values = [0.1, 0.7, 0.30000000000000004, 1e-9]
    assert len({t_interval(order) for order in itertools.permutations(values)}) == 1
    assert len({bootstrap_interval(order, draws=50) for order in itertools.permutations(values)}) == 1


def test_one_value_and_none_have_no_bounds() -> None:
    one, none = t_interval([0.5]), t_interval([])
    assert (one.mean, one.low, one.high, one.n, one.bounded) == (0.5, -math.inf, math.inf, 1, False)
    assert math.isnan(none.mean)
    assert (none.n, none.bounded) == (0, False)
    assert bootstrap_interval([0.5]).bounded is False


def test_zero_variance_is_no_spread() -> None:
    assert t_interval([0.9 - 0.8, 0.7 - 0.6, 0.5 - 0.4]).spread is False
    assert t_interval([0.1, 0.1, 0.1 + 1 / 10_000]).spread is True
    assert t_interval([0.1]).spread is True


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="diverged"):
        t_interval([0.1, bad])
    with pytest.raises(ValueError, match="level"):
        t_interval([0.1, 0.2], level=95)


@pytest.mark.parametrize("n", [3, 5])
def test_t_interval_covers_95_percent(n: int) -> None:
    draws, generator = 2000, np.random.default_rng(n)
    found = [t_interval(row) for row in generator.normal(0.7, 0.03, size=(draws, n))]
    covered = np.mean([interval.low <= 0.7 <= interval.high for interval in found])
    assert abs(covered - 0.95) < 3.5 * math.sqrt(0.95 * 0.05 / draws)


def test_bootstrap_covers_as_its_docstring_says() -> None:
    generator = np.random.default_rng(0)
    covered = {}
    for n in (5, 50):
        found = [bootstrap_interval(row, draws=400, seed=i) for i, row in enumerate(generator.normal(size=(500, n)))]
        covered[n] = np.mean([interval.low <= 0 <= interval.high for interval in found])
    assert 0.78 < covered[5] < 0.88
    assert 0.91 < covered[50] < 0.97


def test_bootstrap_of_many_values_agrees_with_t_and_depends_on_its_seed_only() -> None:
    values = np.random.default_rng(1).normal(0.6, 0.1, size=400)
    boot, student = bootstrap_interval(values, draws=4000), t_interval(values)
    assert (boot.mean, boot.low, boot.high) == pytest.approx((student.mean, student.low, student.high), abs=1e-3)
    assert bootstrap_interval(values, draws=3000) == bootstrap_interval(values, draws=3000)
    assert bootstrap_interval(values, draws=3000) != bootstrap_interval(values, draws=3000, seed=1)


def test_pairing_uses_the_seeds_that_both_have() -> None:
    first, second = {0: 0.5, 1: 0.75, 7: 0.9}, {7: 0.5, 0: 0.25, 9: 0.1}
    assert differences(first, second) == {0: 0.25, 7: pytest.approx(0.4)}
    assert differences({0: 0.5}, {1: 0.5}) == {}
    assert mean_by_seed([first, second]) == {0: 0.375, 7: pytest.approx(0.7)}
    assert means_over_shared(first, second) == (pytest.approx(0.7), pytest.approx(0.375))
    assert (mean_by_seed([]), means_over_shared(first, {9: 0.1})) == ({}, ())


def test_pairing_removes_what_the_seeds_share() -> None:
    generator = np.random.default_rng(2)
    luck = generator.normal(0, 0.1, size=5)
    first = {seed: 0.55 + x + generator.normal(0, 0.005) for seed, x in enumerate(luck)}
    second = {seed: 0.5 + x for seed, x in enumerate(luck)}
    paired = t_interval(differences(first, second).values())
    oracle = stats.ttest_rel(list(first.values()), list(second.values())).confidence_interval(0.95)
    assert (paired.low, paired.high) == pytest.approx((oracle.low, oracle.high))
    assert paired.low > 0
    assert t_interval(first.values()).low < t_interval(second.values()).high


def test_slopes_agree_with_scipy_and_need_all_sizes() -> None:
    generator = np.random.default_rng(3)
    series = {size: {seed: float(generator.normal()) for seed in range(4)} for size in (20, 1200, 90)}
    del series[90][2]
    found = slopes(series)
    assert sorted(found) == [0, 1, 3]
    for seed, slope in found.items():
        oracle = stats.linregress([math.log10(size) for size in series], [series[size][seed] for size in series])
        assert slope == pytest.approx(oracle.slope)


def test_slope_of_an_exact_line_is_its_rise_per_tenfold_size() -> None:
    series = {10**k: {seed: 0.2 * k + seed for seed in range(3)} for k in range(4)}
    assert t_interval(slopes(series).values()).mean == pytest.approx(0.2)
    for sizes in ({10: {0: 1.0}}, {0: {0: 1.0}, 10: {0: 1.0}}):
        with pytest.raises(ValueError, match="sizes above 0"):
            slopes(sizes)


def test_description_has_mean_interval_and_count() -> None:
    assert describe(Interval(0.213, 0.15, 0.2764, 5)) == "+0.213 [+0.150, +0.276], 5 seeds"
    assert describe(Interval(0.213, 0.15, 0.2764, 5), scale=100, digits=1) == "+21.3 [+15.0, +27.6], 5 seeds"
    assert str(t_interval([-0.5])) == "-0.500, 1 seed"
    assert str(t_interval([])) == "no value, 0 seeds"
    assert str(t_interval([-0.0, 0.0])) == "+0.000 [+0.000, +0.000], 2 seeds"
