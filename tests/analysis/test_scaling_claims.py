"""Comparisons over the amount of data, on tables made by formula."""

import math
from dataclasses import replace

import pytest

from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Evidence
from vision_repro.analysis.curves import difference_series, series_of, size_reaching
from vision_repro.analysis.judges.comparisons import compare, same, trend
from vision_repro.analysis.table import Row, Table

SIZES = (20, 100, 500, 1200)
SMALL, LARGE, BIT = ({"model": name} for name in ("vit-32x4/2", "vit-64x4/2", "bit-r11x0.25"))
# accuracy = height + slope * log10(size / 20), plus a wobble by seed that differs between models
LINES = {"vit-32x4/2": (0.30, 0.30), "vit-64x4/2": (0.20, 0.36), "bit-r11x0.25": (0.50, 0.20)}


def value(model: str, size: int, seed: int) -> float:
    height, slope = LINES[model]
    wobble = 0.004 * ((seed * (3 + list(LINES).index(model)) + size // 7) % 5 - 2)
    return height + slope * math.log10(size / 20) + 0.01 * seed + wobble


def rows(seeds: int = 5, preset: str = "cpu", sizes: tuple[int, ...] = SIZES) -> list[Row]:
    return [
        Row(
            "x",
            preset,
            "r",
            {"model": model, "train_size": size},
            seed,
            "ok",
            "test_accuracy",
            value(model, size, seed),
            "f",
        )
        for model in LINES
        for size in sizes
        for seed in range(seeds)
    ]


def evidence(found: list[Row], counts: bool = True, preset: str = "cpu") -> Evidence:
    return Evidence(Table(found), preset=preset, counts=counts)


def diverge(found: list[Row], model: str, size: int, seeds: set[int]) -> list[Row]:
    def lost(row: Row) -> bool:
        return row.settings == {"model": model, "train_size": size} and row.seed in seeds

    return [replace(row, status="diverged", value=math.nan) if lost(row) else row for row in found]


def at(setting: dict[str, str], size: int) -> dict[str, str | int]:
    return {**setting, "train_size": size}


def test_compare_is_paired_at_one_size() -> None:
    found = compare(evidence(rows()), at(BIT, 20), at(SMALL, 20), subject="BiT minus ViT at 20 images")
    assert found.verdict == HOLDS
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(0.2, abs=0.01)
    assert found.reason.startswith("BiT minus ViT at 20 images: +0.")
    assert found.reason.endswith("], 5 seeds")
    assert compare(evidence(rows()), at(SMALL, 20), at(BIT, 20), subject="s").verdict == FAILS


def test_other_presets_in_the_table_do_not_count() -> None:
    both = rows() + rows(preset="smoke")
    assert compare(evidence(both), at(BIT, 20), at(SMALL, 20), subject="s") == compare(
        evidence(rows()), at(BIT, 20), at(SMALL, 20), subject="s"
    )
    assert (
        compare(evidence(both, counts=False, preset="smoke"), at(BIT, 20), at(SMALL, 20), subject="s").verdict
        == UNTESTED
    )
    assert compare(evidence(rows(preset="smoke")), at(BIT, 20), at(SMALL, 20), subject="s").verdict == UNTESTED


def test_diverged_runs_leave_the_intersection_and_are_named() -> None:
    lost = diverge(diverge(rows(), "bit-r11x0.25", 20, {0}), "vit-32x4/2", 20, {3})
    found = compare(evidence(lost), at(BIT, 20), at(SMALL, 20), subject="s")
    assert found.estimate is not None
    assert found.estimate.n == 3
    assert found.reason.endswith("3 seeds; 2 diverged runs left out")
    all_lost = diverge(rows(), "bit-r11x0.25", 20, set(range(5)))
    assert compare(evidence(all_lost), at(BIT, 20), at(SMALL, 20), subject="s").verdict == UNTESTED


def test_same_uses_the_margin() -> None:
    crossing = same(evidence(rows()), at(SMALL, 1200), at(BIT, 1200), margin=0.1, subject="s")
    assert crossing.verdict == HOLDS
    assert same(evidence(rows()), at(SMALL, 20), at(BIT, 20), margin=0.1, subject="s").verdict == FAILS


def test_trend_finds_the_difference_of_slopes() -> None:
    found = trend(evidence(rows()), SMALL, BIT, subject="ViT minus BiT")
    assert found.verdict == HOLDS
    assert found.unit == "fraction per tenfold"
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(0.10, abs=0.01)
    assert trend(evidence(rows()), SMALL, LARGE, subject="s").verdict == FAILS
    assert trend(evidence(rows()), SMALL, SMALL, subject="s").verdict == UNTESTED  # no spread
    assert trend(evidence(rows(seeds=2)), SMALL, BIT, subject="s").verdict == UNTESTED


def test_trend_within_noise_is_undecided() -> None:
    tilt = {0: 0.3, 1: -0.3, 2: 0.2, 3: -0.2, 4: 0.0}  # slopes of the seeds disagree far more than the models
    noisy = [replace(row, value=value(SMALL["model"], int(row.settings["train_size"]), row.seed)) for row in rows()]
    noisy = [
        replace(row, value=row.value + tilt[row.seed] * math.log10(float(row.settings["train_size"])))
        if row.settings["model"] == BIT["model"]
        else row
        for row in noisy
    ]
    assert trend(evidence(noisy), SMALL, BIT, subject="s").verdict == UNDECIDED


def test_trend_at_the_ceiling_of_the_largest_size_is_untested() -> None:
    flat = [
        replace(row, value=0.995 + 0.001 * (row.seed % 2)) if row.settings["train_size"] == 1200 else row
        for row in rows()
    ]
    found = trend(evidence(flat), SMALL, BIT, subject="s")
    assert found.verdict == UNTESTED
    assert "ceiling" in found.reason


def test_trend_with_one_size_is_untested() -> None:
    found = trend(evidence(rows(sizes=(20,))), SMALL, BIT, subject="ViT minus BiT")
    assert (found.verdict, found.estimate) == (UNTESTED, None)
    assert "two sizes" in found.reason
    assert trend(evidence([]), SMALL, BIT, subject="s").verdict == UNTESTED


def test_size_reaching_interpolates_in_the_logarithm() -> None:
    line = {10.0: 0.2, 1000.0: 0.6}
    assert size_reaching(line, 0.4) == pytest.approx(100)
    assert size_reaching(line, 0.2) == 10
    assert size_reaching(line, 0.6) == pytest.approx(1000)
    assert size_reaching(line, 0.1) == 0
    assert size_reaching(line, 0.7) == math.inf
    assert size_reaching({}, 0.5) == math.inf
    dip = {10.0: 0.2, 20.0: 0.5, 40.0: 0.3, 80.0: 0.9}
    assert size_reaching(dip, 0.5) == pytest.approx(20)  # the first crossing counts
    with pytest.raises(ValueError, match="above 0"):
        size_reaching({0: 0.1}, 0.5)


def test_series_skip_sizes_without_values() -> None:
    lost = evidence(diverge(rows(), "bit-r11x0.25", 100, set(range(5))))
    assert sorted(series_of(lost, BIT)) == [20, 500, 1200]
    assert sorted(difference_series(lost, BIT, SMALL)) == [20, 500, 1200]
    assert [sorted(values) for values in series_of(lost, BIT).values()] == [[0, 1, 2, 3, 4]] * 3
