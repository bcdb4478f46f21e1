"""Judgements over depth on planted tables: closed forms of ratios and slopes, and each verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Evidence
from vision_repro.analysis.judges.comparisons import compare, not_worse, of_models
from vision_repro.analysis.judges.depth import gap_grows, gradient_ratios, healthy, not_vanishing
from vision_repro.analysis.table import Row, Table

JITTER = (0.0, 0.001, -0.001, 0.0005)


def evidence(values: Mapping[tuple[str, str], float | Sequence[float]]) -> Evidence:
    """Four seeds of each (model, metric): the numbers given, or one number with a little luck."""
    rows = []
    for (model, metric), given in values.items():
        numbers = [given * (1 + luck) for luck in JITTER] if isinstance(given, float) else given
        rows += [
            Row("x", "cpu", "r", {"model": model}, seed, "ok", metric, number, "fraction")
            for seed, number in enumerate(numbers)
        ]
    return Evidence(Table(rows), "cpu", counts=True)


def norms(model: str, values: Sequence[float], prefix: str = "gradient_norm") -> dict[tuple[str, str], float]:
    return {(model, f"{prefix}_{layer:02}"): value for layer, value in enumerate(values, start=1)}


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [
        ((0.03, 0.02, 0.03, 0.02), HOLDS),  # better is not worse
        ((-0.004, -0.006, -0.005, -0.004), HOLDS),  # worse, but by less than the margin
        ((-0.02, 0.0, -0.01, -0.03), UNDECIDED),
        ((-0.04, -0.05, -0.04, -0.05), FAILS),
    ],
)
def test_not_worse_is_one_sided(gap: tuple[float, ...], verdict: str) -> None:
    table = evidence({("a", "test_accuracy"): [0.5 + item for item in gap], ("b", "test_accuracy"): [0.5] * 4})
    found = not_worse(table, {"model": "a"}, {"model": "b"}, margin=0.015, subject="a minus b")
    assert found.verdict == verdict
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(sum(gap) / 4)


def test_at_the_ceiling_nothing_is_judged() -> None:
    numbers = [0.995, 0.996, 0.995, 0.997]
    table = evidence({("a", "test_accuracy"): numbers, ("b", "test_accuracy"): [0.996, 0.995, 0.996, 0.996]})
    assert not_worse(table, {"model": "a"}, {"model": "b"}, margin=0.015, subject="a minus b").verdict == UNTESTED
    assert of_models(compare, "a", "b")(table).verdict == UNTESTED


def test_losses_have_no_ceiling_and_their_own_unit() -> None:
    table = evidence({("a", "loss"): 2.3, ("b", "loss"): 1.1})
    found = of_models(compare, "a", "b", metric="loss", unit="nats")(table)
    assert (found.verdict, found.unit) == (HOLDS, "nats")
    assert of_models(compare, "b", "a", metric="loss", unit="nats")(table).verdict == FAILS


def test_missing_models_leave_a_claim_untested() -> None:
    table = evidence({("a", "test_accuracy"): 0.5})
    assert of_models(compare, "a", "b")(table).verdict == UNTESTED
    assert not_worse(table, {"model": "a"}, {"model": "b"}, margin=0.015, subject="a minus b").verdict == UNTESTED
    assert healthy(table, "a", "gradient_norm").verdict == UNTESTED
    assert not_vanishing(table, "a", "gradient_norm").verdict == UNTESTED
    assert gap_grows(table, {8: "a"}, {8: "b"}, subject="gap").verdict == UNTESTED


@pytest.mark.parametrize(("slope", "verdict"), [(0.2, HOLDS), (-0.2, FAILS)])
def test_the_gap_s_slope_is_per_tenfold_depth(slope: float, verdict: str) -> None:
    first, second = ({depth: f"{kind}{depth}" for depth in (5, 50, 500)} for kind in ("r", "p"))
    values: dict[tuple[str, str], float | Sequence[float]] = {}
    for depth in first:
        gap = 0.1 + slope * math.log10(depth / 50)
        values[first[depth], "test_accuracy"] = [0.5 + gap + luck * (depth == 5) for luck in JITTER]
        values[second[depth], "test_accuracy"] = [0.5] * 4
    found = gap_grows(evidence(values), first, {**second, 1000: "p1000"}, subject="gap")
    assert found.verdict == verdict
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(slope, abs=0.001)
    assert "5, 50, 500 layers" in found.note


def test_ratios_are_of_thirds_without_the_classifier() -> None:
    """Seven convolutions and a classifier: the first two against the last two, as geometric means."""
    table = evidence(norms("p", (1.0, 100.0, 7.0, 7.0, 7.0, 10.0, 1000.0, 1e9)))
    assert gradient_ratios(table, "p", "gradient_norm") == pytest.approx(dict.fromkeys(range(4), 1.0 - 2.0))
    assert gradient_ratios(table, "p", "gradient_norm_start") == {}


def test_a_seed_without_any_gradient_in_a_layer_is_left_out() -> None:
    values: dict[tuple[str, str], float | Sequence[float]] = {**norms("p", (1.0, 1.0, 1.0, 1.0))}
    values["p", "gradient_norm_02"] = [1.0, 0.0, 1.0, 1.0]
    assert sorted(gradient_ratios(evidence(values), "p", "gradient_norm")) == [0, 2, 3]


@pytest.mark.parametrize(
    ("first", "vanish", "health"),
    [(0.001, FAILS, FAILS), (0.3, HOLDS, HOLDS), (1.0, HOLDS, HOLDS), (3.0, HOLDS, HOLDS), (500.0, HOLDS, FAILS)],
)
def test_exploding_gradients_do_not_vanish_and_are_not_healthy(first: float, vanish: str, health: str) -> None:
    values: dict[tuple[str, str], float | Sequence[float]] = {**norms("p", (1.0, 1.0, 1.0, 1.0))}
    values["p", "gradient_norm_01"] = [first * (1 + 10 * luck) for luck in JITTER]
    table = evidence(values)
    found = not_vanishing(table, "p", "gradient_norm")
    assert (found.verdict, healthy(table, "p", "gradient_norm").verdict) == (vanish, health)
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(math.log10(first), abs=0.01)
    assert found.unit == "log10 ratio"
