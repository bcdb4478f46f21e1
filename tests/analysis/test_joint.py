"""Several comparisons as one claim."""

import itertools

import pytest

from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Evidence, Judgement
from vision_repro.analysis.intervals import t_interval
from vision_repro.analysis.judges.comparisons import jointly
from vision_repro.analysis.table import Table

CENTRES = {HOLDS: 0.001, UNDECIDED: 0.012, FAILS: 0.1, UNTESTED: 0.5}


def together(judgements: list[Judgement], subject: str = "") -> Judgement:
    evidence = Evidence(Table([]), preset="cpu", counts=True)
    return jointly(evidence, [lambda _, found=found: found for found in judgements], subject=subject)


def judgement(verdict: str, centre: float | None = None) -> Judgement:
    centre = CENTRES[verdict] if centre is None else centre
    return Judgement(verdict, f"{verdict} {centre:g}", t_interval([centre - 0.01, centre, centre + 0.01]), "margin")


@pytest.mark.parametrize("words", list(itertools.product(CENTRES, repeat=3)))
def test_one_failure_fails_and_only_all_together_hold(words: tuple[str, ...]) -> None:
    found = together([judgement(word) for word in words], subject="the largest difference")
    worst = next(word for word in (FAILS, UNTESTED, UNDECIDED, HOLDS) if word in words)
    assert found.verdict == worst
    assert found.estimate == judgement(worst).estimate
    assert found.subject == "the largest difference"
    assert f"of 3 comparisons: {worst}" in found.note or f"that decide of 3 comparisons: {worst}" in found.note


def test_the_comparison_farthest_from_zero_is_shown_whatever_its_sign() -> None:
    found = together([judgement(HOLDS, 0.002), judgement(HOLDS, -0.004), judgement(HOLDS, 0.003)])
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(-0.004)
    assert "holds -0.004" in found.note


def test_one_is_itself_and_none_is_untested() -> None:
    only = judgement(UNDECIDED)
    assert together([only]) == only
    assert together([]).verdict == UNTESTED
