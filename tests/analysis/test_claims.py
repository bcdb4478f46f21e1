"""Judges: each verdict, each reason for `untested`, and how often they are wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest

from vision_repro.analysis.claims import (
    FAILS,
    HOLDS,
    UNDECIDED,
    UNTESTED,
    VERDICTS,
    Claim,
    Evidence,
    Judgement,
    judge_all,
)
from vision_repro.analysis.judges.estimates import above_margin, counted, equivalent, exact, greater, rising
from vision_repro.analysis.table import Table
from vision_repro.analysis.verdicts import verdicts_to_json, verdicts_to_markdown

EVIDENCE = Evidence(Table([]), preset="cpu", counts=True)
SMOKE = Evidence(Table([]), preset="smoke", counts=False)
CLEAR = {0: 0.2, 1: 0.21, 2: 0.22, 3: 0.2, 4: 0.235}


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def negative(difference: dict[int, float]) -> dict[int, float]:
    return {seed: -value for seed, value in difference.items()}


def test_greater_gives_each_verdict() -> None:
    assert greater(EVIDENCE, CLEAR, subject="a minus b").verdict == HOLDS
    assert greater(EVIDENCE, negative(CLEAR), subject="a minus b").verdict == FAILS
    assert greater(EVIDENCE, by_seed(-0.1, 0.1, 0.05), subject="a minus b").verdict == UNDECIDED


def test_the_reason_is_a_sentence_with_numbers() -> None:
    difference = by_seed(0.1, 0.2, 0.3)
    found = greater(EVIDENCE, difference, subject="BiT minus ViT at 20 images", diverged=1)
    assert found.reason == "BiT minus ViT at 20 images: +0.200 [-0.048, +0.448], 3 seeds; 1 diverged run left out"


def test_no_evidence_is_untested_however_clear() -> None:
    found = greater(SMOKE, CLEAR, subject="a minus b")
    assert found.verdict == UNTESTED
    assert found.reason.endswith('; the preset "smoke" is no evidence')
    assert equivalent(SMOKE, CLEAR, margin=1, subject="a minus b").verdict == UNTESTED


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_seeds_are_untested(n: int) -> None:
    found = greater(EVIDENCE, dict(list(CLEAR.items())[:n]), subject="a minus b")
    assert found.verdict == UNTESTED
    assert "needs 3 seeds" in found.reason


def test_one_seed_never_decides_even_if_allowed() -> None:
    lax = Evidence(Table([]), preset="cpu", counts=True, min_seeds=1)
    assert greater(lax, {0: 0.5}, subject="a minus b").verdict == UNTESTED


def test_ceiling_needs_all_means() -> None:
    assert greater(EVIDENCE, CLEAR, subject="a", means=(0.99, 0.995)).verdict == UNTESTED
    assert greater(EVIDENCE, CLEAR, subject="a", means=(0.98, 0.995)).verdict == HOLDS
    assert "ceiling of 0.99" in greater(EVIDENCE, CLEAR, subject="a", means=(1, 1)).reason


def test_zero_variance_is_untested() -> None:
    same = by_seed(0.9 - 0.8, 0.7 - 0.6, 0.5 - 0.4)
    for found in (greater(EVIDENCE, same, subject="a"), equivalent(EVIDENCE, same, margin=0.2, subject="a")):
        assert found.verdict == UNTESTED
        assert "noise is not measured" in found.reason


def test_an_interval_that_touches_zero_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    from vision_repro.analysis.intervals import Interval
    from vision_repro.analysis.judges import estimates

    for bounds, verdict in (((0.0, 0.2), UNDECIDED), ((-0.2, 0.0), UNDECIDED), ((1e-15, 0.2), HOLDS)):
        interval = Interval(sum(bounds) / 2, *bounds, n=5)
        monkeypatch.setattr(estimates, "t_interval", lambda values, level, found=interval: found)
        assert greater(EVIDENCE, CLEAR, subject="a").verdict == verdict


def test_equivalent_gives_each_verdict() -> None:
    close = by_seed(0.001, -0.002, 0.002, 0.0)
    assert equivalent(EVIDENCE, close, margin=0.01, subject="a").verdict == HOLDS
    assert equivalent(EVIDENCE, close, margin=0.002, subject="a").verdict == UNDECIDED
    assert equivalent(EVIDENCE, CLEAR, margin=0.05, subject="a").verdict == FAILS
    assert equivalent(EVIDENCE, negative(CLEAR), margin=0.05, subject="a").verdict == FAILS
    assert "margin 5 points" in equivalent(EVIDENCE, CLEAR, margin=0.05, subject="a").reason
    with pytest.raises(ValueError, match="above 0"):
        equivalent(EVIDENCE, close, margin=0, subject="a")


def test_error_rates_are_those_of_the_level() -> None:
    draws = np.random.default_rng(0).normal(0, 0.02, size=(2000, 5))
    verdicts = [greater(EVIDENCE, by_seed(*row), subject="a").verdict for row in draws]
    for wrong in (HOLDS, FAILS):
        assert 0.013 < verdicts.count(wrong) / len(verdicts) < 0.038  # 0.025 +- 3.5 standard errors
    at_margin = [equivalent(EVIDENCE, by_seed(*(row + 0.05)), margin=0.05, subject="a").verdict for row in draws]
    assert at_margin.count(HOLDS) / len(at_margin) < 0.038


def test_unknown_verdicts_are_refused() -> None:
    assert VERDICTS == ("holds", "fails", "undecided", "untested")
    with pytest.raises(ValueError, match="maybe"):
        Judgement("maybe", "a", None)


CLAIMS = (
    Claim(
        "cnn-small", "CNNs win with | little data", "ViT, section 4.3", lambda e: greater(e, CLEAR, subject="BiT - ViT")
    ),
    Claim("none", "no run", "ViT, Figure 4", lambda e: greater(e, {}, subject="BiT - ViT")),
    Claim("text", "only words", "ViT", lambda e: Judgement(UNTESTED, "no data set", None)),
)


def test_markdown_shows_percent_and_escapes_pipes() -> None:
    text = verdicts_to_markdown(judge_all(CLAIMS, EVIDENCE))
    assert "| claim | source | verdict | estimate [95 % interval] |" in text
    assert "BiT - ViT: +21.3 [+19.5, +23.1] percentage points, 5 seeds" in text
    assert "CNNs win with \\| little data" in text
    assert len(text.splitlines()) == 5
    assert verdicts_to_markdown([]).startswith("| claim | source | verdict | estimate |")


def test_json_keeps_fractions_and_has_no_nan() -> None:
    verdicts = judge_all(CLAIMS, EVIDENCE)
    text = verdicts_to_json(verdicts)
    first, second, third = json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert first["estimate"]["mean"] == pytest.approx(0.213)
    assert first["reason"] == "BiT - ViT: +0.213 [+0.195, +0.231], 5 seeds"
    assert second["estimate"] == {"mean": None, "low": None, "high": None, "level": 0.95, "n": 0}
    assert third["estimate"] is None
    assert text == verdicts_to_json(judge_all(CLAIMS, EVIDENCE))


def test_import_is_light() -> None:
    code = (
        "import sys, vision_repro.analysis.judges.comparisons, vision_repro.analysis.verdicts\n"
        "import vision_repro.analysis.summary\n"
        "heavy = {'torch', 'lightning', 'wandb', 'matplotlib', 'scipy.stats', 'pandas'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_paper_s_number_is_written_only_where_there_is_one() -> None:
    def judge(evidence: Evidence) -> Judgement:
        return greater(evidence, CLEAR, subject="a minus b")

    plain, printed = judge_all([Claim("a", "A", "ViT", judge), Claim("b", "B", "ViT", judge, "+2.8 points")], EVIDENCE)
    assert (plain.paper, printed.paper) == ("", "+2.8 points")
    first, second = json.loads(verdicts_to_json([plain, printed]))
    assert "paper" not in first
    assert second["paper"] == "+2.8 points"
    assert {**second, "claim": "a", "statement": "A"} == {**first, "paper": "+2.8 points"}


@pytest.mark.parametrize(
    ("value", "tolerance", "verdict"),
    [(0.72, 0.0, HOLDS), (18 / 25, 0.0, HOLDS), (0.73, 0.0, FAILS), (0.73, 0.02, HOLDS), (None, 1.0, UNTESTED)],
)
def test_what_is_counted_needs_no_seeds_and_is_what_was_expected_or_not(
    value: float | None, tolerance: float, verdict: str
) -> None:
    found = counted(EVIDENCE, value, expected=18 / 25, tolerance=tolerance, subject="weights", metric="parameters")
    assert found.verdict == verdict
    assert "0.72" in found.note or value is None
    told = counted(SMOKE, value, expected=18 / 25, subject="weights", metric="parameters")
    assert told.verdict == UNTESTED


def test_above_a_margin_is_judged_on_the_shifted_difference_and_shows_the_plain_one() -> None:
    below = by_seed(-0.010, -0.012, -0.008, -0.011)
    found = above_margin(EVIDENCE, below, margin=0.02, subject="a")
    assert found.verdict == HOLDS
    assert found.estimate == greater(EVIDENCE, below, subject="a").estimate
    assert greater(EVIDENCE, below, subject="a").verdict == FAILS
    assert above_margin(EVIDENCE, below, margin=0.002, subject="a").verdict == FAILS
    assert above_margin(EVIDENCE, below, margin=0.01, subject="a").verdict == UNDECIDED
    assert above_margin(EVIDENCE, below, margin=0.02, subject="a", means=(0.995, 0.99)).verdict == UNTESTED
    with pytest.raises(ValueError, match="0 or more"):
        above_margin(EVIDENCE, below, margin=-0.1, subject="a")


def test_rising_is_the_slope_over_the_logarithm_of_the_size() -> None:
    series = {10.0: by_seed(0.1, 0.2, 0.3), 1000.0: by_seed(0.5, 0.64, 0.68)}
    found = rising(EVIDENCE, series, subject="a", needs="needs two sizes")
    assert found.verdict == HOLDS
    assert found.unit == "fraction per tenfold"
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx((0.2 + 0.22 + 0.19) / 3)
    alone = rising(EVIDENCE, {10.0: CLEAR}, subject="a", needs="needs two sizes")
    assert (alone.verdict, alone.reason) == (UNTESTED, "a; needs two sizes")


@pytest.mark.parametrize("true", [True, False])
def test_an_exact_count_is_judged_from_one_seed_on_unless_seeds_differ(true: bool) -> None:
    found = exact(EVIDENCE, {0: 2.0}, true, subject="a", note="counted", metric="flops", unit="FLOPs")
    assert found.verdict == (HOLDS if true else FAILS)
    assert found.estimate is not None
    assert (found.estimate.low, found.estimate.high) == (2.0, 2.0)
    differing = exact(EVIDENCE, by_seed(2.0, 2.1), true, subject="a", note="counted", metric="flops", unit="FLOPs")
    assert (differing.verdict, differing.note) == (UNTESTED, "the seeds differ, so this is no count; counted")
    assert exact(SMOKE, {0: 2.0}, true, subject="a", note="", metric="flops", unit="FLOPs").verdict == UNTESTED
