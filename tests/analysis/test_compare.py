"""Comparing two results: known changes are found, noise is not flagged, and what is missing or broken is said."""

import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from vision_repro.analysis.changes import BEYOND, DIVERGED, NOISE, SAME, UNMEASURED, Comparison, compare_tables, fisher
from vision_repro.analysis.compare import main
from vision_repro.analysis.intervals import holm, t_p_value, welch_difference
from vision_repro.analysis.table import Row, Table
from vision_repro.config import UserError

RESULTS = Path(__file__).parents[2] / "results"
MODELS = ("vit-32x4/2", "vit-64x4/2", "bit-r11x0.15")
Values = dict[tuple[str, int], dict[int, float]]


def table(values: Values, *, metric: str = "test_accuracy", unit: str = "fraction", preset: str = "cpu") -> Table:
    """Returns a table of `values[model, size][seed]`; NaN is a diverged run."""
    return Table(
        Row(
            "data_scaling",
            preset,
            f"{model}{size}{seed}",
            {"model": model, "train_size": size},
            seed,
            "diverged" if math.isnan(value) else "ok",
            metric,
            value,
            unit,
        )
        for (model, size), seeds in values.items()
        for seed, value in seeds.items()
    )


def drawn(
    generator: np.random.Generator, luck: np.ndarray, seeds: range, shift: float = 0.0, noise: float = 0.01
) -> Values:
    """Returns accuracies with the luck of each seed, that both sides share, and noise of their own."""
    return {
        (model, size): {seed: 0.6 + shift + luck[seed] + noise * generator.standard_normal() for seed in seeds}
        for model in MODELS
        for size in (20, 1200)
    }


def pair(seed: int, first: range, second: range, shift: float = 0.0) -> Comparison:
    generator = np.random.default_rng(seed)
    luck = 0.05 * generator.standard_normal(100)
    a, b = drawn(generator, luck, first), drawn(generator, luck, second)
    b["vit-64x4/2", 20] = {seed: value + shift for seed, value in b["vit-64x4/2", 20].items()}
    return compare_tables(table(a), table(b))


SEEDS = {
    "paired": (range(5), range(5)),
    "some shared": (range(5), range(2, 8)),
    "none shared": (range(5), range(10, 14)),
    "one shared": (range(5), range(4, 9)),
}


@pytest.mark.parametrize("name", SEEDS)
def test_noise_is_flagged_in_at_most_the_stated_share_of_comparisons(name: str) -> None:
    """Of 400 pairs without a change, at most 5 % may have any flag; 3 standard errors are 3.3 %."""
    flagged = sum(bool(pair(seed, *SEEDS[name]).of(BEYOND)) for seed in range(400)) / 400
    assert 0.005 < flagged < 0.083


def test_pairing_is_what_finds_a_change_below_the_luck_of_seeds() -> None:
    """A change of 7 points: the luck of a seed has 5, and the rest 1 point of standard deviation."""
    paired, apart = (
        sum(
            [item.setting["model"] for item in pair(seed, *SEEDS[name], shift=0.07).of(BEYOND)] == ["vit-64x4/2"]
            for seed in range(60)
        )
        for name in ("paired", "none shared")
    )
    assert paired > 50
    assert apart < 15


def test_a_known_change_is_found_with_its_size() -> None:
    found = pair(3, range(8), range(8), shift=-0.2)
    change = found.of(BEYOND)[0]
    assert dict(change.setting) == {"model": "vit-64x4/2", "train_size": 20}
    assert change.how == "paired"
    assert change.difference.low < -0.2 < change.difference.high < 0
    assert change.difference.mean == pytest.approx(change.after - change.before)
    assert len(found.of(BEYOND)) == 1
    assert found.tests == 6


def test_intervals_and_p_values_are_those_of_scipy() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(0.5, 0.1, 5), generator.normal(0.6, 0.2, 7)
    expected = stats.ttest_ind(a, b, equal_var=False)
    interval, p = welch_difference(dict(enumerate(a)), dict(enumerate(b, start=50)))
    ends = expected.confidence_interval(0.95)
    assert (interval.low, interval.high, p) == pytest.approx((ends.low, ends.high, expected.pvalue))
    assert t_p_value(a - b[:5]) == pytest.approx(stats.ttest_rel(a, b[:5]).pvalue)
    assert (t_p_value([0.3]), t_p_value([0.0, 0.0]), t_p_value([0.1, 0.1])) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("counts", [((5, 5), (0, 5)), ((3, 5), (1, 7)), ((0, 3), (0, 4)), ((2, 4), (2, 4))])
def test_divergence_is_fisher_s_exact_test(counts: tuple[tuple[int, int], tuple[int, int]]) -> None:
    rows = [[lost, runs - lost] for lost, runs in counts]
    assert fisher(*counts) == pytest.approx(stats.fisher_exact(rows).pvalue)


def test_holm_steps_down_and_keeps_the_order() -> None:
    assert holm([0.04, 0.01, 0.03, 0.5]) == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert holm([0.6, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def one(first: dict[int, float], second: dict[int, float]) -> Comparison:
    return compare_tables(table({("vit-32x4/2", 20): first}), table({("vit-32x4/2", 20): second}))


def by_seed(*values: float, start: int = 0) -> dict[int, float]:
    return dict(enumerate(values, start=start))


def test_seeds_that_both_have_are_paired_and_others_left_out() -> None:
    change = one(by_seed(0.1, 0.2, 0.3, 0.4), by_seed(0.25, 0.36, 0.9, start=1)).changes[0]
    assert (change.how, change.difference.n, change.seeds) == ("paired", 3, (4, 3))
    assert change.difference.mean == pytest.approx((0.05 + 0.06 + 0.5) / 3)


def test_one_seed_and_equal_steps_have_unknown_noise() -> None:
    for first, second, how in (
        (by_seed(0.5), by_seed(0.9), "one seed"),
        (by_seed(0.5, 0.6, 0.7), by_seed(0.9), "one seed"),
        (by_seed(0.5, 0.6, 0.7), by_seed(0.75, 0.85, 0.95), "paired"),
    ):
        found = one(first, second)
        assert [(item.status, item.how) for item in found.changes] == [(UNMEASURED, how)]
        assert (found.tests, found.of(BEYOND)) == (0, [])


def test_equal_numbers_are_the_same_even_with_one_seed_or_more_on_one_side() -> None:
    assert one(by_seed(0.5), by_seed(0.5)).changes[0].status == SAME
    assert one(by_seed(0.5, 0.6, 0.7), by_seed(0.5, 0.6)).changes[0].status == SAME
    assert one(by_seed(0.0, 0.0), by_seed(0.0, 0.0, 0.0)).changes[0].status == SAME


def test_diverged_runs_are_left_out_and_compared_as_a_number_of_their_own() -> None:
    lost = float("nan")
    found = one(by_seed(0.5, 0.62, 0.7, 0.71, 0.8), by_seed(0.5, lost, 0.71, 0.7, 0.81))
    numbers, diverged = found.changes
    assert (numbers.seeds, numbers.difference.n, numbers.status) == ((5, 4), 4, NOISE)
    assert (diverged.metric, diverged.before, diverged.after, diverged.status) == (DIVERGED, 0.0, 0.2, NOISE)
    all_lost = one(by_seed(0.5, 0.62, 0.7, 0.71, 0.8), by_seed(*[lost] * 5))
    assert [item.status for item in all_lost.changes] == [UNMEASURED, BEYOND]
    assert all_lost.of(BEYOND)[0].corrected == pytest.approx(2 / 252)
    both = one(by_seed(lost, lost), by_seed(lost, lost))
    assert [item.status for item in both.changes] == [SAME, SAME]


def test_what_is_only_in_one_is_named() -> None:
    values = {("vit-32x4/2", 20): by_seed(0.5, 0.6)}
    first = table(values | {("vit-64x4/2", 20): by_seed(0.5)})
    more = table(values, metric="val_accuracy").rows
    found = compare_tables(first, Table([*table(values | {("a", 20): by_seed(0.5)}).rows, *more]))
    assert found.only_before == ("model=vit-64x4/2, train_size=20",)
    assert found.only_after == ("model=a, train_size=20", "val_accuracy of model=vit-32x4/2, train_size=20")


def test_presets_may_differ_but_experiments_and_settings_may_not() -> None:
    values = {("vit-32x4/2", 20): by_seed(0.5, 0.6)}
    assert len(compare_tables(table(values), table(values, preset="gpu")).of(SAME)) == 1
    other = Table([Row("vit_head", "cpu", "a", {"model": "m", "train_size": 1}, 0, "ok", "m", 0.5, "fraction")])
    with pytest.raises(UserError, match="two results of one experiment"):
        compare_tables(table(values), other)
    narrow = Table([Row("data_scaling", "cpu", "a", {"model": "m"}, 0, "ok", "m", 0.5, "fraction")])
    with pytest.raises(UserError, match="settings of the two tables differ"):
        compare_tables(table(values), narrow)
    mixed = Table([*table(values).rows, *table(values, preset="gpu").rows])
    with pytest.raises(UserError, match=r"The second table holds several presets, or none \(cpu, gpu\)"):
        compare_tables(table(values), mixed)
    with pytest.raises(UserError, match="The first table holds several experiments, or none"):
        compare_tables(Table([]), table(values))


def folder(path: Path, found: Table, *, steps: int = 200, torch: str = "2.15.0") -> Path:
    path.mkdir()
    with (path / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["experiment", "preset", "run", "model", "train_size", "seed", "status", "metric", "value", "unit"]
        )
        for row in found.rows:
            head = [row.experiment, row.preset, row.run, *row.settings.values(), row.seed]
            writer.writerow([*head, row.status, row.metric, repr(float(row.value)), row.unit])
    base = f"  steps: {steps}\n  weights: ''\n" if steps == 200 else f"  steps: {steps}\n"
    (path / "config.yaml").write_text(f"preset: cpu\nseeds: 5\nbase:\n{base}")
    facts = {
        "commit": "abc",
        "versions": {"torch": torch, "numpy": "2"},
        "device": "cpu",
        "subset_sha256": ["a" * 64] * 9,
    }
    (path / "provenance.json").write_text(json.dumps(facts))
    return path


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    generator, luck = np.random.default_rng(5), np.zeros(9)
    a, b = drawn(generator, luck, range(5)), drawn(generator, luck, range(5))
    b["vit-64x4/2", 1200] = {seed: value + 0.2 for seed, value in b["vit-64x4/2", 1200].items()}
    return folder(tmp_path / "a", table(a)), folder(tmp_path / "b", table(b), steps=300, torch="2.16.0")


def test_the_command_says_what_changed(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(two[0]), str(two[1])]) == 1
    shown = capsys.readouterr().out
    line = next(line for line in shown.splitlines() if line.startswith("| vit-64x4/2 | 1200 | test_accuracy"))
    assert "points" in line
    assert "1 of 6 numbers differ by more than their noise (95 % level" in shown
    assert "| base.steps | 200 | 300 |" in shown
    assert "| versions.torch | 2.15.0 | 2.16.0 |" in shown
    assert "weights" not in shown  # an option that older runs did not know is its default
    assert "subset_sha256" not in shown
    assert "numpy" not in shown


def test_identical_folders_differ_in_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    same = str(RESULTS / "data_scaling" / "cpu")
    assert main([same, same]) == 0
    shown = capsys.readouterr().out
    assert "0 of 150 numbers differ by more than their noise" in shown
    assert "150 are equal" in shown
    assert "##" not in shown


def test_the_csv_has_every_number(two: tuple[Path, Path], tmp_path: Path) -> None:
    assert main([str(two[0]), str(two[1]), f"--csv={tmp_path / 'new' / 'all.csv'}"]) == 1
    rows = list(csv.DictReader(io.StringIO((tmp_path / "new" / "all.csv").read_text())))
    assert len(rows) == 6
    assert [row["model"] for row in rows if row["status"] == BEYOND] == ["vit-64x4/2"]
    for row in rows:
        assert float(row["low"]) < float(row["difference"]) < float(row["high"])
        assert float(row["difference"]) == pytest.approx(float(row["after"]) - float(row["before"]), abs=1e-8)
        assert float(row["p"]) <= float(row["p_holm"])


def test_missing_or_cut_files_beside_the_table_are_told(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (two[0] / "config.yaml").unlink()
    (two[1] / "provenance.json").write_text('{"commit": ')
    assert main([str(two[0]), str(two[1])]) == 1
    shown = capsys.readouterr().out
    assert "A has no such file, or one that cannot be read." in shown
    assert "B has no such file, or one that cannot be read." in shown


MISTAKES = {
    "one folder": (["A"], "Two folders are compared, not 1"),
    "misspelt": (["A", "Bx"], "is no result: expected a folder with a table.csv. Did you mean"),
    "option": (["A", "B", "--cvs=x"], "Did you mean"),
    "two files": (["A", "B", "--csv=x,y"], "--csv takes one file"),
    "no name": (["A", "B", "--csv="], "--csv takes one file"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_bad_input_is_one_sentence(name: str, two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    tokens, words = MISTAKES[name]
    places = {"A": str(two[0]), "B": str(two[1]), "Bx": f"{two[1]}x"}
    assert main([places.get(token, token) for token in tokens]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "--csv" in capsys.readouterr().out


def test_no_torch_is_needed() -> None:
    code = "import sys, vision_repro.analysis.compare; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
