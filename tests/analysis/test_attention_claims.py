"""Attention distance by layer and head: closed forms, and verdicts on tables whose answer is known."""

import itertools
import math
from collections.abc import Callable

import pytest

from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Evidence
from vision_repro.analysis.judges.attention import (
    deeper,
    depth_slopes,
    heads_by_seed,
    less_local,
    lowest,
    reaches,
    stays,
    uniform_distance,
)
from vision_repro.analysis.table import Row, Table


def evidence(values: Callable[[str, int, int, int], float], counts: bool = True, seeds: int = 4) -> Evidence:
    """Returns a table of two models of 3 layers of 2 heads, with `values(model, seed, layer, head)`."""
    rows = [
        Row(
            "x",
            "cpu",
            "r",
            {"model": model},
            seed,
            "ok",
            f"attention_distance_l{layer:02}_h{head:02}",
            values(model, seed, layer, head),
            "pixels",
        )
        for model, seed, layer, head in itertools.product(("vit", "hybrid"), range(seeds), range(3), range(2))
    ]
    rows.append(Row("x", "cpu", "r", {"model": "vit"}, 0, "ok", "test_accuracy", 0.5, "fraction"))
    return Evidence(Table(rows), "cpu", counts)


def far(model: str, seed: int, layer: int, head: int) -> float:
    """Head 0 local in even seeds, head 1 in odd ones; further up everything looks further; hybrids look further."""
    local = (head + seed) % 2 == 0
    return (2.0 if local else 9.0) + 0.01 * seed + layer + (1.0 + 0.02 * seed if model == "hybrid" else 0.0)


@pytest.mark.parametrize(
    ("grid", "patch", "pixels"),
    [(14, 16, 116.4922), (7, 32, 115.5029), (16, 14, 116.5651), (8, 4, 16.5459), (24, 16, 200.0480), (1, 8, 0.0)],
)
def test_uniform_attention_has_its_published_distance(grid: int, patch: float, pixels: float) -> None:
    assert uniform_distance(grid, patch) == pytest.approx(pixels, abs=5e-5)


def test_uniform_attention_is_the_mean_over_all_pairs() -> None:
    places = list(itertools.product(range(5), repeat=2))
    slow = sum(3 * math.dist(a, b) for a in places for b in places) / len(places) ** 2
    assert uniform_distance(5, 3) == pytest.approx(slow)


def test_heads_are_read_by_seed_and_ranked_within_it() -> None:
    heads = heads_by_seed(evidence(far), {"model": "vit"})
    assert sorted(heads) == [0, 1, 2, 3]
    assert heads[1][2] == {0: 11.01, 1: 4.01}
    assert lowest(heads)[1] == [2.01, 9.01]  # although another head is the local one than in seed 0
    assert depth_slopes(heads) == pytest.approx(dict.fromkeys(range(4), 1.0))


@pytest.mark.parametrize(("uniform", "verdict"), [(10.0, HOLDS), (12.0, FAILS), (9.015 / 0.8, UNDECIDED)])
def test_a_head_looks_at_most_of_the_image(uniform: float, verdict: str) -> None:
    found = reaches(evidence(far), {"model": "vit"}, uniform=uniform, least=0.8, subject="s")
    assert found.verdict == verdict
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(9.015 / uniform - 0.8)


@pytest.mark.parametrize(("uniform", "verdict"), [(10.0, HOLDS), (3.0, FAILS), (2.015 / 0.5, UNDECIDED)])
def test_another_head_stays_local(uniform: float, verdict: str) -> None:
    assert stays(evidence(far), {"model": "vit"}, uniform=uniform, most=0.5, subject="s").verdict == verdict


def test_the_distance_grows_with_depth() -> None:
    def noisy(sign: float) -> Callable[[str, int, int, int], float]:
        return lambda model, seed, layer, head: 20 + sign * layer * (1 + 0.1 * seed)

    verdicts = [deeper(evidence(noisy(sign)), {"model": "vit"}, subject="s").verdict for sign in (1.0, -1.0)]
    assert verdicts == [HOLDS, FAILS]
    crossing = evidence(lambda model, seed, layer, head: 20 + layer * (-1) ** seed)
    assert deeper(crossing, {"model": "vit"}, subject="s").verdict == UNDECIDED


def test_hybrids_are_compared_as_fractions_of_uniform_within_a_seed() -> None:
    found = less_local(evidence(far), {"model": "hybrid"}, {"model": "vit"}, uniform=(10.0, 10.0), subject="s")
    assert found.verdict == HOLDS
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(0.103)
    # a grid twice as wide: the same pixels are half as far
    wider = less_local(evidence(far), {"model": "hybrid"}, {"model": "vit"}, uniform=(20.0, 10.0), subject="s")
    assert wider.verdict == FAILS


def test_what_is_not_measured_or_no_evidence_is_untested() -> None:
    assert deeper(evidence(far, counts=False), {"model": "vit"}, subject="s").verdict == UNTESTED
    assert deeper(evidence(far, seeds=2), {"model": "vit"}, subject="s").verdict == UNTESTED
    none = evidence(far)
    assert reaches(none, {"model": "bit"}, uniform=1.0, least=0.8, subject="s").estimate is None
    missing = less_local(none, {"model": "bit"}, {"model": "vit"}, uniform=(1.0, 1.0), subject="s")
    assert (missing.verdict, missing.estimate) == (UNTESTED, None)
