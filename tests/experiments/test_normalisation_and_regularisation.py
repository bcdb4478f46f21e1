"""The study of preprocessing, batch norm, regularisers and losses: grid, claims on planted tables, figure."""

from __future__ import annotations

import math
import random
import re
from typing import Any

import pytest
import torch

from experiments import normalisation_and_regularisation as study
from vision_repro import models
from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Evidence, judge_all
from vision_repro.analysis.judges import rates
from vision_repro.analysis.judges.comparisons import generalisation_gap
from vision_repro.analysis.table import Row, Table
from vision_repro.augmentation.policy import parse
from vision_repro.cli import plan
from vision_repro.config import UserError
from vision_repro.experiment import grid

CPU = study.PRESETS["cpu"]
NETS = ("batch-norm", "plain")


def test_every_preset_is_a_grid_of_runs_that_differ() -> None:
    assert {"smoke", "cpu", "cifar", "gpu"} == set(study.PRESETS) == set(study.FEW)
    for name, preset in study.PRESETS.items():
        runs = grid(study.EXPERIMENT, name, preset)
        assert len(set(runs)) == len(runs) == preset.seeds * len(study.VARIANTS)
        assert all(run.total_steps % run.evaluations == 0 and not run.variant for run in runs)
        places = {tuple(getattr(run, key) for key in study.EXPERIMENT.settings) for run in runs}
        assert len(places) == len(study.VARIANTS)  # each is one line of the table
        assert preset.evidence is (name != "smoke")
        with torch.device("meta"):
            for model, size in {(run.model, run.image_size) for run in runs}:
                models.build(model, image_size=size, classes=10)
        for run in runs:
            parse(run.augmentation)


def changed(variant: str, preset: str = "cpu") -> dict[str, Any]:
    """Returns what a variant has other than the baseline of its part."""
    part = "none" if variant in study.REGULARISERS else study.SOFTMAX
    if "-lr" in variant:
        part = f"{variant.partition('-lr')[0]}-lr{study.RATES[0]:g}"
    this, other = (study.setting(preset, study.PRESETS[preset], item) for item in (variant, part))
    return {key: this[key] for key in this if this[key] != other[key]}


def test_a_variant_changes_one_thing() -> None:
    assert changed(study.SOFTMAX) == changed("none") == {}
    assert changed("minus-none") == {"normalisation": "none"}
    assert set(changed("hinge")) == {"loss", "lr"}
    assert set(changed("l1")) == {"l1"}
    assert set(changed("l2")) == {"l2"}
    assert changed("elastic-net") == {**changed("l1"), **changed("l2")}
    assert set(changed("augmentation")) == {"augmentation"}
    assert set(changed("dropout")) == {"model"}
    for net in NETS:
        assert changed(f"{net}-lr1") == {"lr": 1.0}


def test_the_two_nets_differ_by_batch_norm_and_regularised_ones_by_dropout_alone() -> None:
    def layers(variant: str) -> list[str]:
        model = models.build(str(study.setting("cpu", CPU, variant)["model"]), image_size=8, classes=10)
        return [f"{type(item).__name__} {getattr(item, 'p', '')}" for item in model.modules()]

    normed, plain = layers("batch-norm-lr1"), layers("plain-lr1")
    assert [item for item in normed if "BatchNorm2d" not in item] == plain
    assert normed.count("BatchNorm2d ") == plain.count("Conv2d ") == plain.count("ReLU ")  # before each nonlinearity
    none, dropout = layers("none"), layers("dropout")
    assert [item.replace("0.5", "0.0") for item in dropout] == none
    assert dropout.count("Dropout 0.5") == 2


def test_variants_on_the_command_line() -> None:
    planned = plan(study.EXPERIMENT, ["--variant=l2,hinge", "--seeds=2"])
    assert [(run.seed, run.loss, run.l2 > 0) for run in planned.runs] == [
        (0, "softmax", True),
        (0, "hinge", False),
        (1, "softmax", True),
        (1, "hinge", False),
    ]
    with pytest.raises(UserError, match=r'--variant="l3" is unknown: expected one of .* Did you mean "l[12]"\?'):
        plan(study.EXPERIMENT, ["--variant=l3"])
    from experiments import vit_head

    with pytest.raises(UserError, match='--variant="l2" is unknown to vit_head'):
        plan(vit_head.EXPERIMENT, ["--variant=l2"])


# --- curves over learning rates ---


def test_the_highest_rate_and_the_width_by_hand() -> None:
    curve = {0.001: 0.5, 0.01: 0.9, 0.1: 0.7, 1.0: 0.1}
    assert rates.half_way(curve, 0.1) == pytest.approx(0.5)
    assert rates.highest(curve, 0.5) == pytest.approx(-1 + 1 / 3)  # a third of the way from 0.7 to 0.1
    assert rates.highest(curve, 0.05) == 0.0  # still there at the last rate
    assert rates.highest(curve, 0.95) == -math.inf
    assert rates.width(curve, 0.8) == pytest.approx(0.25 + 0.5)
    assert rates.width(curve, 0.05) == pytest.approx(3.0)
    assert rates.width(curve, 0.95) == 0.0
    assert rates.spread({0.1: 0.2, 1.0: 0.4}) == pytest.approx(0.1)


@pytest.mark.parametrize("seed", range(20))
def test_the_curve_s_readings_are_those_of_a_fine_grid(seed: int) -> None:
    luck = random.Random(seed)
    curve = {10.0**k: luck.random() for k in range(-4, 1)}
    floor = luck.uniform(0.1, 0.9)
    points, fine = sorted((math.log10(rate), value) for rate, value in curve.items()), 4000
    heights = []
    for i in range(4 * fine + 1):
        x = -4 + i / fine
        k = min(int(x + 4), 3)
        heights.append((x, points[k][1] + (x + 4 - k) * (points[k + 1][1] - points[k][1])))
    above = [x for x, height in heights if height >= floor]
    assert rates.width(curve, floor) == pytest.approx(len(above) / fine, abs=2e-3)
    assert rates.highest(curve, floor) == (pytest.approx(max(above), abs=1e-3) if above else -math.inf)


# --- planted tables ---

GOOD: dict[str, tuple[float, float]] = {  # test and training accuracy, where everything is as the sources say
    "minus-none": (0.60, 0.9), "minus-mean-image": (0.66, 0.9), "minus-channel-mean": (0.65, 0.9),
    "minus-channel-mean-std": (0.70, 0.9), "hinge": (0.701, 0.9), "none": (0.40, 1.0), "l2": (0.45, 0.9),
    "l1": (0.44, 0.9), "elastic-net": (0.46, 0.9), "dropout": (0.47, 0.8), "augmentation": (0.50, 0.8),
}  # fmt: skip
CURVES = {"plain": (0.60, 0.70, 0.40, None, None), "batch-norm": (0.75, 0.80, 0.82, 0.80, 0.30)}


def planted(values: dict[str, tuple[float, float]], curves: dict[str, Any], seeds: int = 4) -> Table:
    """Returns seeds around the values; None is a run that diverged."""
    luck, rows = random.Random(0), []
    cells: dict[str, Any] = dict(values)
    for net, row in curves.items():
        cells |= {f"{net}-lr{rate:g}": (value, 0.9) for rate, value in zip(study.RATES, row, strict=True)}
    for variant, (test, train) in cells.items():
        for seed in range(seeds):
            noise = 0.01 * seed + luck.uniform(-0.002, 0.002)
            numbers = {"test_accuracy": test, "val_accuracy": test, "train_accuracy": train}
            for metric, value in numbers.items():
                lost = test is None
                entry = math.nan if lost else value + noise + (luck.uniform(0, 0.002) if metric[:2] == "tr" else 0)
                place = study.setting("cpu", CPU, variant)
                rows.append(Row("x", "cpu", "r", place, seed, "diverged" if lost else "ok", metric, entry, "fraction"))
    return Table(rows)


def verdicts(table: Table, counts: bool = True) -> dict[str, str]:
    return {item.claim: item.verdict for item in judge_all(study.claims("cpu", CPU), Evidence(table, "cpu", counts))}


def test_where_all_is_as_the_sources_say_all_claims_hold() -> None:
    found = verdicts(planted(GOOD, CURVES))
    assert len(found) == 4 + 4 + 10 + 1
    assert set(found.values()) == {HOLDS}
    assert set(verdicts(planted(GOOD, CURVES), counts=False).values()) == {UNTESTED}


def test_where_nothing_is_all_claims_fail() -> None:
    bad = {**dict.fromkeys(GOOD, (0.3, 0.95)), "minus-none": (0.8, 0.9), "minus-channel-mean": (0.7, 0.9)}
    bad |= {"none": (0.5, 0.6), "minus-channel-mean-std": (0.6, 0.9)}
    found = verdicts(planted(bad, {"plain": CURVES["batch-norm"], "batch-norm": CURVES["plain"]}))
    assert set(found.values()) == {FAILS}


def test_a_gap_can_narrow_without_better_test_accuracy() -> None:
    found = verdicts(planted({**GOOD, "dropout": (0.30, 0.32)}, CURVES))
    assert (found["gap:dropout"], found["better:dropout"]) == (HOLDS, FAILS)
    assert (found["gap:l2"], found["better:l2"]) == (HOLDS, HOLDS)
    found = verdicts(planted({**GOOD, "l1": (0.4, 0.9)}, CURVES))
    assert found["better:l1"] == UNDECIDED


def test_a_diverged_rate_is_chance_and_no_candidate_for_the_best() -> None:
    table = planted(GOOD, {**CURVES, "plain": (0.6, 0.62, 0.60, 0.60, None)})
    evidence, plain = Evidence(table, "cpu", True), study.over_rates("cpu", CPU, "plain")
    curve = rates.curves_of(evidence, plain, chance=0.1)[0]
    assert list(curve) == list(study.RATES)
    assert curve[1.0] == 0.1
    assert curve[0.3] == pytest.approx(0.6, abs=0.003)
    assert rates.best_rate(evidence, plain) == 0.03
    judged = {item.claim: item for item in judge_all(study.claims("cpu", CPU), evidence)}
    assert "lr 0.1 and 0.03" in judged["batch-norm:better"].note
    assert judged["batch-norm:higher-rates"].unit == "log10 ratio"
    gone = planted(GOOD, {**CURVES, "plain": (None,) * 5})
    assert verdicts(gone)["batch-norm:better"] == UNTESTED


def test_a_seed_without_a_rate_has_no_curve() -> None:
    full = planted(GOOD, CURVES)
    plain = study.over_rates("cpu", CPU, "plain")
    rows = [row for row in full.rows if not (row.seed == 2 and row.settings["lr"] == 0.3)]
    assert list(rates.curves_of(Evidence(Table(rows), "cpu", True), plain, chance=0.1)) == [0, 1, 3]


def test_the_gap_is_training_minus_test() -> None:
    table = planted(GOOD, CURVES)
    found = generalisation_gap(table, study.setting("cpu", CPU, "augmentation"))
    assert list(found) == [0, 1, 2, 3]
    assert list(found.values()) == pytest.approx([0.3] * 4, abs=0.003)


def test_part_of_the_variants_leaves_the_other_claims_untested() -> None:
    part = {key: GOOD[key] for key in ("none", "dropout")}
    found = verdicts(planted(part, {}))
    assert {claim for claim, verdict in found.items() if verdict != UNTESTED} == {"gap:dropout", "better:dropout"}


@pytest.mark.slow
def test_the_figure_shows_every_variant_and_diverged_rates_as_gaps() -> None:
    table = planted(GOOD, CURVES)
    judged = judge_all(study.claims("cpu", CPU), Evidence(table, "cpu", True))
    figure = study.figure(table, judged, "cpu", CPU)
    assert len(figure.axes) == 5
    labels = [[text.get_text() for text in axes.get_yticklabels()] for axes in figure.axes]
    assert labels[0] == list(study.PREPROCESSING)
    assert labels[3] == labels[4] == [label for label, _, _ in study.REGULARISERS.values()]
    lines = {len(line.get_xdata()) for line in figure.axes[1].get_lines()}
    assert lines == {2, 3, 5}  # the net without batch norm diverges at two rates: crosses at the foot
    gap = [line.get_xdata()[0] for line in figure.axes[4].get_lines() if len(line.get_xdata()) == 1]
    assert gap[0] == pytest.approx(60, abs=0.5)


def test_the_docstring_names_every_preset_and_variant_part() -> None:
    assert study.__doc__
    assert set(study.PRESETS) <= set(re.findall(r"\w+", study.__doc__))
