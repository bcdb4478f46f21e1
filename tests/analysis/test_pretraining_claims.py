"""Whether gains flatten: on curves whose gains are known."""

import math
import random

import pytest

from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Evidence, Judgement
from vision_repro.analysis.judges.pretraining import flattens, gain_per_doubling
from vision_repro.analysis.table import Row, Table

LENGTHS = {25: {"pretraining": "x@25"}, 100: {"pretraining": "x@100"}, 1600: {"pretraining": "x"}}


def judged(curve: dict[int, float], seeds: int = 4, noise: float = 0.002, lost: str = "") -> Judgement:
    luck = random.Random(1)
    rows = [
        Row(
            "e",
            "cpu",
            "r",
            LENGTHS[steps],
            seed,
            "diverged" if (steps, seed) == (1600, 0) and lost else "ok",
            "test_accuracy",
            value + luck.gauss(0, noise),
            "fraction",
        )
        for seed in range(seeds)
        for steps, value in curve.items()
    ]
    lengths = {steps: LENGTHS[steps] for steps in (1600, 25, 100)}  # in any order
    return flattens(Evidence(Table(rows), "cpu", True), lengths, subject="s")


def test_a_gain_is_counted_for_a_doubling() -> None:
    assert gain_per_doubling({0: 0.5, 1: 0.6, 2: 0.1}, {0: 0.7, 1: 0.7}, 4) == pytest.approx({0: 0.1, 1: 0.05})
    with pytest.raises(ValueError, match="above 1"):
        gain_per_doubling({}, {}, 1)


@pytest.mark.parametrize(
    ("curve", "verdict"),
    [
        ({25: 0.5, 100: 0.6, 1600: 0.62}, HOLDS),  # 5 points a doubling, then half a point
        ({25: 0.5, 100: 0.54, 1600: 0.7}, FAILS),  # 2, then 4: the last step is longer, and counted so
        ({25: 0.5, 100: 0.54, 1600: 0.58}, HOLDS),  # the same gain over twice the doublings
        ({25: 0.5, 100: 0.54, 1600: 0.62}, UNDECIDED),  # 2, then 2
        ({25: 0.6, 100: 0.59, 1600: 0.5}, UNDECIDED),  # it falls, and ever faster: no gain that could flatten
        ({25: 0.995, 100: 0.996, 1600: 0.996}, UNTESTED),  # no room for a last gain
    ],
)
def test_gains_that_flatten_and_that_do_not(curve: dict[int, float], verdict: str) -> None:
    assert judged(curve).verdict == verdict


def test_the_estimate_is_the_first_gain_minus_the_last() -> None:
    found = judged({25: 0.5, 100: 0.6, 1600: 0.64}, noise=1e-9)
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(0.05 - 0.01, abs=1e-6)
    assert "between 25 and 100 steps against one between 100 and 1,600" in found.note


def test_a_fall_is_told() -> None:
    assert "the first gain is not above 0: -0.5" in judged({25: 0.6, 100: 0.59, 1600: 0.5}).note


def test_two_lengths_are_not_enough() -> None:
    found = judged({25: 0.5, 100: 0.6})
    assert found.verdict == UNTESTED
    assert "three lengths" in found.note


def test_diverged_runs_are_counted() -> None:
    found = judged({25: 0.5, 100: 0.6, 1600: 0.62}, lost="seed 0 at 1600")
    assert "1 diverged run left out" in found.note
    assert found.estimate is not None
    assert found.estimate.n == 3
    assert math.isfinite(found.estimate.mean)
