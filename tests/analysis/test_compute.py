"""Accuracy against pre-training compute: the paper's own table, slow versions, and tables with a known truth."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import fmean

import pytest

from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Evidence, Judgement
from vision_repro.analysis.compute import (
    COMPUTE,
    Point,
    clouds,
    compute_at,
    front,
    mean_accuracy,
    of_family,
    paper_points,
    ratios,
    shared_range,
)
from vision_repro.analysis.judges.compute import (
    LARGE,
    SMALL,
    ahead_in,
    equal_in,
    more_accurate,
    needs_less,
    still_rising,
)
from vision_repro.analysis.table import Row, Table

METRIC, DATASETS = "test_accuracy", ("cifar10", "pets")
Judge = Callable[[Evidence], Judgement]


def draw(count: int, seed: int = 0) -> list[Point]:
    luck = random.Random(seed)
    return [
        Point(f"vit-{index}", "x@1", 10 ** luck.uniform(9, 13), luck.choice([luck.random(), 0.5]))
        for index in range(count)
    ]


# --- the paper's own table ---


def test_the_paper_s_table_6_gives_the_ratios_of_figure_5() -> None:
    """2.8 (B/32), 3.0 (B/16) and 6.0 (L/32) times; L/16 and H/14 lie above the best ResNet (ViT, section 4.4)."""
    points = paper_points()
    assert len(points) == 18
    assert [len(of_family(points, name)) for name in ("vit", "bit", "hybrid")] == [6, 7, 5]
    found = {
        (point.model, point.start): value
        for point, value in ratios(of_family(points, "vit"), of_family(points, "bit")).items()
    }
    defined = {model: round(value, 1) for (model, _), value in found.items() if value is not None}
    assert defined == {"ViT-B/32": 2.8, "ViT-B/16": 3.0, "ViT-L/32": 6.0}
    assert {key for key, value in found.items() if value is None} == {
        ("ViT-L/16", "JFT@7"),
        ("ViT-L/16", "JFT@14"),
        ("ViT-H/14", "JFT@14"),
    }


def test_the_paper_s_averages_and_single_columns() -> None:
    both = (paper_points(), paper_points(["imagenet"]))
    average, imagenet = ({(point.model, point.start): point for point in points} for points in both)
    key = ("ViT-B/32", "JFT@7")
    assert average[key].accuracy == pytest.approx(0.925, abs=5e-5)
    assert (average[key].compute, imagenet[key].accuracy) == (55e18, 0.8073)


def test_a_hand_made_ratio() -> None:
    """Halfway in accuracy between 1 and 100 is 10 on a logarithmic axis: five times the 2 of the other family."""
    others = [Point("bit-a", "", 1.0, 0.5), Point("bit-b", "", 100.0, 0.7)]
    points = [Point("vit-a", "", 2.0, 0.6), Point("vit-b", "", 2.0, 0.71), Point("vit-c", "", 2.0, 0.49)]
    assert list(ratios(points, others).values()) == [pytest.approx(5.0), None, None]
    assert compute_at(others, 0.5) == 1.0
    assert compute_at(others, 0.7) == pytest.approx(100.0)
    assert compute_at([], 0.5) is None


# --- fronts against slow, obvious versions ---


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_no_other_point_dominates(seed: int) -> None:
    points = draw(40, seed)

    def dominated(one: Point) -> bool:
        better = (
            (two.accuracy > one.accuracy and two.compute <= one.compute)
            or (two.accuracy == one.accuracy and two.compute < one.compute)
            for two in points
        )
        return any(better)

    slow = sorted((point for point in points if not dominated(point)), key=lambda point: point.compute)
    assert front(points) == slow
    assert front(reversed(points)) == slow


def test_of_points_with_equal_compute_only_the_best_is_on_the_front() -> None:
    points = [Point("a", "", 1.0, 0.5), Point("b", "", 1.0, 0.6), Point("c", "", 2.0, 0.6)]
    assert front(points) == [points[1]]


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_a_front_against_many_small_steps(seed: int) -> None:
    points = draw(12, seed)
    limits = shared_range(points, draw(12, seed + 10))
    assert limits is not None
    best, steps = front(points), 20_000

    def at(compute: float) -> float:
        before = [point for point in best if point.compute <= compute][-1]
        after = next((point for point in best if point.compute > compute), None)
        if after is None:
            return before.accuracy
        share = math.log(compute / before.compute) / math.log(after.compute / before.compute)
        return before.accuracy + share * (after.accuracy - before.accuracy)

    low, high = limits
    slow = fmean(at(low * (high / low) ** ((step + 0.5) / steps)) for step in range(steps))
    assert mean_accuracy(points, low, high) == pytest.approx(slow, abs=1e-6)


def test_a_front_says_nothing_outside_the_compute_that_was_tried() -> None:
    points = [Point("a", "", 10.0, 0.5), Point("b", "", 100.0, 0.6), Point("c", "", 1000.0, 0.4)]
    assert mean_accuracy(points, 100.0, 1000.0) == pytest.approx(0.6)  # flat: more compute was tried, to no avail
    for low, high in ((9.0, 100.0), (10.0, 1001.0), (10.0, 10.0)):
        with pytest.raises(ValueError, match="on both sides"):
            mean_accuracy(points, low, high)
    assert shared_range(points, []) is None
    assert shared_range(points, [Point("d", "", 2000.0, 0.9), Point("e", "", 3000.0, 0.9)]) is None
    assert shared_range(points, [Point("d", "", 50.0, 0.9), Point("e", "", 3000.0, 0.9)]) == (50.0, 1000.0)


# --- tables ---


def rows(points: Iterable[Point], seeds: int = 5, noise: float = 0.001, preset: str = "cpu") -> list[Row]:
    """Returns the rows of runs around `points` on two data sets, 0.1 above and below."""
    luck, found = random.Random(1), []
    for point in points:
        for seed in range(seeds):
            value = point.accuracy + 0.002 * seed + luck.uniform(-noise, noise)
            for dataset, shift in (("cifar10", 0.1), ("pets", -0.1)):
                settings = {"model": point.model, "pretraining": point.start, "dataset": dataset}
                row = Row("x", preset, "r", settings, seed, "ok", METRIC, value + shift, "fraction")
                found += [row, replace(row, metric=COMPUTE, value=point.compute, unit="FLOPs")]
    return found


def judged(judge: Callable[..., Judgement], *words: str, found: list[Row], **options: float) -> Judgement:
    return judge(Evidence(Table(found), "cpu", True), *words, metric=METRIC, datasets=DATASETS, **options)


def line(name: str, height: float, slope: float, computes: Iterable[float] = (1e9, 1e10, 1e11, 1e12)) -> list[Point]:
    """Returns points with accuracy `height` at 1e9 FLOPs and `slope` more for each tenfold compute."""
    return [Point(name, f"d@{c:g}", c, height + slope * math.log10(c / 1e9)) for c in computes]


def test_a_point_is_the_mean_over_its_data_sets() -> None:
    found = clouds(rows(line("vit-a/2", 0.5, 0.1), seeds=2, noise=0), METRIC, DATASETS)
    assert [point.accuracy for point in found[0]] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert [point.accuracy for point in found[1]] == pytest.approx([0.502, 0.602, 0.702, 0.802])
    alone = clouds(rows(line("vit-a/2", 0.5, 0.1), seeds=1, noise=0), METRIC, ["pets"])
    assert [point.accuracy for point in alone[0]] == pytest.approx([0.4, 0.5, 0.6, 0.7])


def test_a_point_without_all_data_sets_or_without_compute_is_left_out() -> None:
    full = rows(line("vit-a/2", 0.5, 0.1), seeds=1, noise=0)
    lost = [
        replace(row, status="diverged", value=math.nan)
        if "e+09" in str(row.settings) and row.settings["dataset"] == "pets"
        else row
        for row in full
    ]
    assert len(clouds(lost, METRIC, DATASETS)[0]) == 3
    assert len(clouds(lost, METRIC, ["cifar10"])[0]) == 4
    assert clouds([row for row in full if row.metric != COMPUTE], METRIC, DATASETS) == {}


@pytest.mark.parametrize(("shift", "verdict"), [(0.05, HOLDS), (0.0, UNDECIDED), (-0.05, FAILS)])
def test_more_accurate_at_equal_compute(shift: float, verdict: str) -> None:
    found = judged(
        more_accurate, "vit", "bit", found=rows(line("vit-a/2", 0.5 + shift, 0.1) + line("bit-r11x1", 0.5, 0.1))
    )
    assert found.verdict == verdict
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(shift, abs=0.001)


@pytest.mark.parametrize(("shift", "verdict"), [(0.05, HOLDS), (-0.05, FAILS), (0.0, UNDECIDED)])
def test_the_ratio_at_equal_accuracy(shift: float, verdict: str) -> None:
    """Where a tenfold compute brings 0.1, 0.05 more accuracy is worth the root of ten."""
    points = line("vit-a/2", 0.5 + shift, 0.1) + line("bit-r11x1", 0.5, 0.1)
    found = judged(needs_less, "vit", "bit", found=rows(points, noise=0.002))
    assert found.verdict == verdict
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(shift / 0.1 * math.log2(10), abs=0.1)
    if shift:
        assert "5 of 20 points out of range" in found.note
        assert found.note.startswith("BiT (ResNet) needs " + ("3." if shift > 0 else "0.3"))


def test_a_family_out_of_reach_gives_no_ratio_and_says_so() -> None:
    found = judged(needs_less, "vit", "bit", found=rows(line("vit-a/2", 0.9, 0.01) + line("bit-r11x1", 0.2, 0.1)))
    assert (found.verdict, found.estimate and found.estimate.n) == (UNTESTED, 0)
    assert "20 of 20 points out of range" in found.note


def test_ahead_at_small_compute_and_equal_at_large() -> None:
    """The hybrid starts 0.06 ahead and ends level: 0.045 ahead in the mean of the smaller half, 0.015 in the larger."""
    found = rows(line("r8x1+vit-a/2", 0.56, 0.08) + line("vit-a/2", 0.5, 0.1))
    small = judged(ahead_in, SMALL, "hybrid", "vit", found=found)
    large = judged(equal_in, LARGE, "hybrid", "vit", found=found, margin=0.02)
    assert (small.verdict, large.verdict) == (HOLDS, HOLDS)
    assert small.estimate is not None
    assert large.estimate is not None
    assert (small.estimate.mean, large.estimate.mean) == pytest.approx((0.045, 0.015), abs=0.001)
    assert judged(equal_in, SMALL, "hybrid", "vit", found=found, margin=0.02).verdict == FAILS
    assert judged(ahead_in, SMALL, "vit", "hybrid", found=found).verdict == FAILS
    noisy = rows(line("r8x1+vit-a/2", 0.5, 0.1) + line("vit-a/2", 0.5, 0.1), noise=0.1)
    assert judged(ahead_in, SMALL, "hybrid", "vit", found=noisy).verdict == UNDECIDED
    assert judged(equal_in, LARGE, "hybrid", "vit", found=noisy, margin=0.01).verdict == UNDECIDED


@pytest.mark.parametrize(("after", "verdict"), [(0.1, HOLDS), (-0.02, FAILS)])
def test_saturation_is_looked_for_at_large_compute(after: float, verdict: str) -> None:
    """A family that rises steeply and then falls is saturated, though its front never falls."""
    points = [Point("vit-a/2", f"d@{c:g}", c, 0.3 + 0.1 * math.log10(c / 1e9)) for c in (1e9, 1e10)]
    points += [Point("vit-a/2", f"d@{c:g}", c, 0.6 + after * math.log10(c / 1e11)) for c in (1e11, 1e12, 1e13)]
    found = judged(still_rising, "vit", found=rows(points))
    assert found.verdict == verdict
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(after, abs=0.002)


def test_a_flat_end_is_undecided_and_the_ceiling_untested() -> None:
    flat = judged(still_rising, "vit", found=rows(line("vit-a/2", 0.6, 0.0), noise=0.01))
    assert flat.verdict == UNDECIDED
    assert judged(still_rising, "vit", found=rows(line("vit-a/2", 0.9, 0.033))).verdict == UNTESTED


JUDGES: list[tuple[Callable[..., Judgement], tuple[str, ...], dict[str, float]]] = [
    (more_accurate, ("vit", "bit"), {}),
    (needs_less, ("vit", "bit"), {}),
    (ahead_in, (SMALL, "hybrid", "vit"), {}),
    (equal_in, (LARGE, "hybrid", "vit"), {"margin": 0.015}),
    (still_rising, ("vit",), {}),
]


@pytest.mark.parametrize(("judge", "words", "options"), JUDGES)
def test_the_paper_s_own_points_make_its_claims_hold(
    judge: Callable[..., Judgement], words: tuple[str, ...], options: dict[str, float]
) -> None:
    found = judged(judge, *words, found=rows(paper_points(), noise=1e-5), **options)
    assert found.verdict == HOLDS, found.reason


@pytest.mark.parametrize(("judge", "words", "options"), JUDGES)
def test_two_seeds_no_points_or_one_family_are_untested(
    judge: Callable[..., Judgement], words: tuple[str, ...], options: dict[str, float]
) -> None:
    everything = [*line("vit-a/2", 0.5, 0.1), *line("bit-r11x1", 0.4, 0.1), *line("r8x1+vit-a/2", 0.5, 0.1)]
    assert judged(judge, *words, found=rows(everything, seeds=2), **options).verdict == UNTESTED
    assert judged(judge, *words, found=[], **options).verdict == UNTESTED
    assert judged(judge, *words, found=rows(line("swin-t", 0.5, 0.1)), **options).verdict == UNTESTED
    smoke = Evidence(Table(rows(everything)), "cpu", False)
    assert judge(smoke, *words, metric=METRIC, datasets=DATASETS, **options).verdict == UNTESTED


def test_other_presets_in_the_table_do_not_count() -> None:
    ours = rows(line("vit-a/2", 0.55, 0.1) + line("bit-r11x1", 0.5, 0.1))
    theirs = rows(line("vit-a/2", 0.2, 0.1) + line("bit-r11x1", 0.5, 0.1), preset="smoke")
    assert judged(more_accurate, "vit", "bit", found=ours + theirs) == judged(more_accurate, "vit", "bit", found=ours)
