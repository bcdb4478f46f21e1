"""Means over seeds with confidence intervals; the unit of every result is that of the values that come in.

A seed fixes subset, weights and order, so two settings that share a seed share its luck: differences are taken within a
seed first, and the interval is over the differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean of `n` values with its confidence interval; from fewer than two values the interval is unbounded."""

    mean: float
    low: float
    high: float
    n: int
    level: float = LEVEL

    @property
    def bounded(self) -> bool:
        """True if the values were enough for an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def spread(self) -> bool:
        """True if the values differ by more than rounding, so that the noise between seeds was measured."""
        return self.high - self.low > 1e-12 * max(1.0, abs(self.mean))

    def __str__(self) -> str:
        return describe(self)


def describe(interval: Interval, *, scale: float = 1.0, digits: int = 3, unit: str = "") -> str:
    """Returns `+0.213 [+0.150, +0.276], 5 seeds`, every number times `scale`, and `unit` behind them."""
    count = f"{interval.n} seed{'' if interval.n == 1 else 's'}"
    if interval.n == 0:
        return f"no value, {count}"
    numbers = (interval.mean, interval.low, interval.high)
    mean, low, high = (f"{scale * number + 0.0:+.{digits}f}" for number in numbers)  # + 0.0: no "-0.000" for zero
    shown = f"{mean} [{low}, {high}]" if interval.bounded else mean
    return f"{shown} {unit}".rstrip() + f", {count}"


def t_interval(values: Iterable[float], level: float = LEVEL) -> Interval:
    """Returns the mean and Student's t interval of independent values.

    Raises:
        ValueError: if a value is not finite, or the level is not in (0, 1).
    """
    finite = _finite(values, level)
    n = len(finite)
    if n < 2:
        return _unbounded(finite, level)
    mean = math.fsum(finite) / n
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in finite) / (n - 1) / n)
    half = _t_quantile(n - 1, 0.5 + level / 2) * error
    return Interval(mean, mean - half, mean + half, n, level)


def bootstrap_interval(values: Iterable[float], draws: int = 10_000, seed: int = 0, level: float = LEVEL) -> Interval:
    """Returns the mean and the percentile bootstrap interval, the same for the same seed.

    Too narrow for few values (of 5 normal values it covers the mean in about 83 %, not 95 %): verdicts over seeds use
    `t_interval`; this is for many values of unknown shape, such as per-image results.
    """
    finite = sorted(_finite(values, level))
    n = len(finite)
    if n < 2:
        return _unbounded(finite, level)
    import numpy as np  # here, so that tables and verdicts start without it

    generator, array = np.random.default_rng(seed), np.array(finite)
    block = max(1, 1_000_000 // n)  # at most a million drawn indices in memory
    counts = [min(block, draws - start) for start in range(0, draws, block)]
    means = np.concatenate([array[generator.integers(n, size=(count, n))].mean(axis=1) for count in counts])
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(math.fsum(finite) / n, float(low), float(high), n, level)


def differences(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    """Returns first minus second by seed, over the seeds that both have."""
    return {seed: first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())}


def mean_by_seed(groups: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Returns by seed the mean over the groups, each with the same weight, for the seeds that all have."""
    return {seed: fmean(group[seed] for group in groups) for seed in _shared_seeds(groups)}


def means_over_shared(*groups: Mapping[int, float]) -> tuple[float, ...]:
    """Returns the mean of each group over the seeds that all have; nothing if there is no such seed."""
    seeds = _shared_seeds(groups)
    return tuple(fmean(group[seed] for seed in seeds) for group in groups) if seeds else ()


def _shared_seeds(groups: Sequence[Mapping[int, float]]) -> list[int]:
    return sorted(set.intersection(*(set(group) for group in groups))) if groups else []


def welch_difference(
    first: Mapping[int, float], second: Mapping[int, float], level: float = LEVEL
) -> tuple[Interval, float]:
    """Returns Welch's interval of first minus second for independent seeds, and the two-sided p of no difference.

    `n` is the smaller number of seeds; from fewer than two on a side the interval is unbounded, and p is 1.
    """
    sides = [_finite(values.values(), level) for values in (first, second)]
    n = min(map(len, sides))
    if n < 2:
        difference = [math.fsum(sides[0]) / len(sides[0]) - math.fsum(sides[1]) / len(sides[1])] if n else []
        return _unbounded(difference, level), 1.0
    means = [math.fsum(side) / len(side) for side in sides]
    squares = [
        math.fsum((value - mean) ** 2 for value in side) / (len(side) - 1) / len(side)
        for side, mean in zip(sides, means, strict=True)
    ]
    error, mean = math.sqrt(sum(squares)), means[0] - means[1]
    if not error:
        return Interval(mean, mean, mean, n, level), 0.0 if mean else 1.0
    freedom = sum(squares) ** 2 / sum(square**2 / (len(side) - 1) for side, square in zip(sides, squares, strict=True))
    half = _t_quantile(freedom, 0.5 + level / 2) * error
    return Interval(mean, mean - half, mean + half, n, level), _two_sided(mean / error, freedom)


def t_p_value(values: Iterable[float]) -> float:
    """Returns the two-sided p of Student's t test that independent values have the mean 0; 1 for fewer than two."""
    finite = _finite(values, LEVEL)
    n = len(finite)
    if n < 2:
        return 1.0
    mean = math.fsum(finite) / n
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in finite) / (n - 1) / n)
    if not error:
        return 0.0 if mean else 1.0
    return _two_sided(mean / error, n - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p values corrected for their number by Holm's step-down procedure, in the order given."""
    found, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        found[index] = largest
    return found


def slopes(series: Mapping[float, Mapping[int, float]]) -> dict[int, float]:
    """Returns by seed the least-squares slope of the values over log10(size), from `series[size][seed]`.

    Only seeds that have all sizes count: slopes over different sizes do not compare. A unit of x is a tenfold size.

    Raises:
        ValueError: if there are fewer than two sizes, or a size is not above 0.
    """
    sizes = sorted(series)
    if len(sizes) < 2 or sizes[0] <= 0:
        raise ValueError(f"a slope over log10(size) needs two or more sizes above 0, not {sizes}")
    logs = [math.log10(size) for size in sizes]
    shared = _shared_seeds([series[size] for size in sizes])
    return {seed: slope(logs, [series[size][seed] for size in sizes]) for seed in shared}


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Returns the least-squares slope of y over x, which needs two different places."""
    centre = math.fsum(x) / len(x)
    steps = [place - centre for place in x]
    return math.fsum(step * value for step, value in zip(steps, y, strict=True)) / math.fsum(s * s for s in steps)


@cache
def _t_quantile(freedom: float, probability: float) -> float:
    from scipy.special import stdtrit  # here, because it takes longer to import than all verdicts to compute

    return float(stdtrit(freedom, probability))


def _two_sided(t: float, freedom: float) -> float:
    # Imported here for start-up time: scipy takes long to import.
    from scipy.special import stdtr

    return 2 * float(stdtr(freedom, -abs(t)))


def _finite(values: Iterable[float], level: float) -> list[float]:
    finite = [float(value) for value in values]
    if not all(map(math.isfinite, finite)):
        raise ValueError("values must be finite: leave out diverged runs first")
    if not 0 < level < 1:
        raise ValueError(f"the level must be between 0 and 1, not {level}")
    return finite


def _unbounded(values: list[float], level: float) -> Interval:
    return Interval(values[0] if values else math.nan, -math.inf, math.inf, len(values), level)
