"""The experiment on Swin: its grids, what is trained and what only measured, its claims, and the costs behind them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from experiments import swin
from vision_repro import models
from vision_repro.accounting.architectures import counted
from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Evidence, Verdict, judge_all
from vision_repro.analysis.summary import summarise
from vision_repro.analysis.table import Row, Setting, Table
from vision_repro.config import RunConfig, run_id
from vision_repro.experiment import grid
from vision_repro.models.layers.swin_plan import plan
from vision_repro.models.swin import msa_macs, wmsa_macs
from vision_repro.papers.tables import paper_table
from vision_repro.published.windows import attention_macs

EXPERIMENT, PRESETS = swin.EXPERIMENT, swin.PRESETS
PLAIN = "swin-32x2.2/1-w4"
ROLES = swin.variants(PLAIN)
# Swin-T's Table 4; global attention, which it does not have, is as good as shifted windows here
TABLE_4 = {role: swin.printed(role) or 0.813 for role in ROLES}


def trained(run: RunConfig) -> bool:
    return run.budget != "none"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_grid_of_models_that_exist(name: str) -> None:
    preset = PRESETS[name]
    runs = grid(EXPERIMENT, name, preset)
    assert len({run_id(run) for run in runs}) == len(runs)
    assert preset.evidence is (name != "smoke")
    own = preset.base.image_size
    for run in runs:
        assert run.total_steps % run.evaluations == 0
        assert trained(run) is (run.image_size == own)
        assert trained(run) or (run.weights, run.shots, run.total_steps) == ("random", "", 0)
    assert {run.model for run in runs if trained(run)} == set(swin.variants(preset.base.model).values())
    timed = {swin.variants(preset.base.model)[role] for role in (swin.SHIFTED, swin.GLOBAL)}
    assert {run.model for run in runs if "forward_seconds" in run.probe_names} == timed
    assert {run.model for run in runs if not trained(run)} <= timed
    assert all("cost" in run.probe_names for run in runs)
    with torch.device("meta"):
        for model, size in {(run.model, run.image_size) for run in runs}:
            models.build(model, image_size=size, classes=10)


@pytest.mark.parametrize("name", PRESETS)
def test_windows_stay_as_wide_at_every_size_and_the_last_map_is_one_window(name: str) -> None:
    base, sizes = PRESETS[name].base, PRESETS[name].axes["image_size"]
    widths = {plan(base.model, int(str(size))).windows for size in sizes}
    assert len(widths) == 1
    at_base = plan(base.model, base.image_size)
    assert len(set(at_base.windows)) == 1
    assert at_base.sides[-1] == at_base.windows[-1]
    assert at_base.sides[0] > at_base.windows[0]  # else nothing is shifted
    fixed = plan(base.model + "-noshift", base.image_size)
    assert (fixed.windows, fixed.shifted) == (at_base.windows, False)
    assert plan(swin.variants(base.model)[swin.GLOBAL], base.image_size).windows == at_base.sides


def test_the_paper_s_variants_are_named() -> None:
    expected = {
        "shifted windows": PLAIN,
        "windows not shifted": f"{PLAIN}-noshift",
        "global attention": "swin-32x2.2/1-global",
        "no positions": f"{PLAIN}-nobias",
        "absolute embedding": f"{PLAIN}-nobias-abspos",
        "absolute and relative": f"{PLAIN}-abspos",
    }
    assert expected == ROLES
    found = paper_table("swin_table4")
    assert [row["imagenet_top1"] for row in found] == ["80.2", "81.3", "80.1", "80.5", "81.3", "79.3"]
    assert {role: swin.printed(role) for role in ROLES} == {
        "shifted windows": 0.813,
        "windows not shifted": 0.802,
        "global attention": None,
        "no positions": 0.801,
        "absolute embedding": 0.805,
        "absolute and relative": 0.813,
    }
    beside = {claim.name: claim.paper for claim in swin.claims("cpu", PRESETS["cpu"])}
    assert [beside[name] for name, *_ in swin.ACCURACY] == [
        "+1.1 points",
        "",
        "+1.2 points",
        "+0.8 points",
        "+0.0 points",
    ]


# --- verdicts ---


def accuracies(values: dict[str, float], seeds: int = 4) -> list[Row]:
    """Returns seeds around the accuracy of each variant, all with the same luck but for a little."""
    rows, luck = [], random.Random(0)
    for role, value in values.items():
        for seed in range(seeds):
            noise = 0.01 * seed + luck.uniform(-0.001, 0.001)
            setting: Setting = {"model": ROLES[role], "image_size": 8}
            rows.append(Row("swin", "cpu", "r", setting, seed, "ok", "test_accuracy", value + noise, "fraction"))
    return rows


def measured(seconds: Callable[[bool, int], float], sizes: tuple[int, ...] = (8, 16, 32, 48)) -> list[Row]:
    """Returns the accountant's counts of both timed models, and seconds by (whether windows, pixels) with noise."""
    rows, luck = [], random.Random(1)
    for role in (swin.SHIFTED, swin.GLOBAL):
        for size in sizes:
            layers = counted(ROLES[role], size, 10).layers
            found = {
                "forward_flops": (2 * sum(layer.macs for layer in layers), "FLOPs"),
                "attention_flops": (2 * sum(layer.macs for layer in layers if layer.kind == "attention"), "FLOPs"),
            }
            for seed in range(4):
                taken = seconds(role == swin.SHIFTED, size**2) * luck.uniform(0.98, 1.02)
                setting: Setting = {"model": ROLES[role], "image_size": size}
                rows += [
                    Row("swin", "cpu", "r", setting, seed, "ok", metric, value, unit)
                    for metric, (value, unit) in {**found, "forward_seconds": (taken, "s")}.items()
                ]
    return rows


def as_expected(windows: bool, pixels: int) -> float:
    return 1e-4 + 1e-6 * pixels + (0 if windows else 1e-8 * pixels**2)


def judged(rows: list[Row], preset: str = "cpu") -> dict[str, Verdict]:
    found = judge_all(swin.claims(preset, PRESETS[preset]), Evidence(Table(rows), preset, True))
    return {item.claim: item for item in found}


def test_the_paper_s_own_table_4_and_equations_make_all_claims_hold() -> None:
    found = judged([*accuracies(TABLE_4), *measured(as_expected)])
    assert {name: item.verdict for name, item in found.items()} == dict.fromkeys(found, HOLDS)
    assert len(found) == 12
    estimates = {name: item.estimate.mean for name, item in found.items() if item.estimate}
    assert estimates["shifting-helps"] == pytest.approx(0.011, abs=0.001)
    assert estimates["products-linear-in-windows"] == pytest.approx(1, abs=1e-9)
    assert estimates["products-quadratic-globally"] == pytest.approx(2, abs=1e-9)
    assert estimates["network-linear-in-windows"] == pytest.approx(1, abs=0.005)  # but for the classifier


def test_accuracies_that_say_otherwise() -> None:
    values = {**TABLE_4, swin.FIXED: 0.85, swin.BARE: 0.813, swin.GLOBAL: 0.9, swin.BOTH: 0.75}
    found = {name: item.verdict for name, item in judged(accuracies(values)).items()}
    assert found["shifting-helps"] == FAILS
    assert found["relative-bias-helps"] == UNDECIDED
    assert found["relative-beats-absolute"] == HOLDS
    assert found["equal-to-global"] == FAILS
    assert found["equal-with-absolute"] == FAILS
    assert {found[name] for name in found if name not in {row[0] for row in swin.ACCURACY}} == {UNTESTED}


def test_seconds_that_say_otherwise() -> None:
    slow = {name: item.verdict for name, item in judged(measured(lambda windows, pixels: 1e-6 * pixels**1.5)).items()}
    assert slow["seconds-linear-in-windows"] == FAILS
    assert slow["seconds-steeper-globally"] == UNDECIDED
    assert slow["windows-cost-less:forward_seconds"] == UNDECIDED
    assert slow["windows-cost-less:forward_flops"] == slow["products-quadratic-globally"] == HOLDS
    swapped = judged(measured(lambda windows, pixels: as_expected(not windows, pixels)))
    assert swapped["seconds-steeper-globally"].verdict == FAILS
    assert swapped["windows-cost-less:forward_seconds"].verdict == FAILS


def test_without_a_variant_or_other_sizes_there_is_no_claim_on_them() -> None:
    cpu = PRESETS["cpu"]
    two = replace(cpu, axes={"model": (PLAIN, f"{PLAIN}-nobias"), "image_size": (8,)})
    assert [claim.name for claim in swin.claims("cpu", two)] == ["relative-bias-helps"]
    assert swin.claims("cpu", replace(cpu, axes={**cpu.axes, "model": (f"{PLAIN}-noshift",)})) == []
    whole = {claim.name for claim in swin.claims("paper", PRESETS["paper"])}
    assert "shifting-helps" in whole
    assert not any("linear" in name or "quadratic" in name for name in whole)


# --- costs ---


@pytest.mark.parametrize("preset", ["cpu", "cifar", "gpu"])
def test_counted_attention_is_eq_1_and_2_at_every_size_of_the_preset(preset: str) -> None:
    plain = PRESETS[preset].base.model
    for role, size in (
        (role, int(str(size))) for role in (swin.SHIFTED, swin.GLOBAL) for size in PRESETS[preset].axes["image_size"]
    ):
        model = swin.variants(plain)[role]
        found = plan(model, size)
        for stage, (side, window) in enumerate(zip(found.sides, found.windows, strict=True)):
            channels = found.size.width << stage
            whole = msa_macs(side, side, channels)
            expected = whole if role == swin.GLOBAL else wmsa_macs(side, side, channels, window)
            assert attention_macs(model, size, stage) == expected
            assert (window == side) == (expected == whole)


def test_the_stages_of_swin_t_cost_what_the_equations_say() -> None:
    """Million multiply-adds of one attention module at 224 pixels, over the whole map and in windows of 7."""
    expected = [(2003.8, 145.1, 13.8), (351.6, 130.4, 2.70), (145.1, 123.0, 1.18), (119.3, 119.3, 1.0)]
    for stage, (whole, windowed, ratio) in enumerate(expected):
        a, b = (attention_macs(model, 224, stage) for model in ("swin-t-global", "swin-t-w7"))
        assert (round(a / 1e6, 1), round(b / 1e6, 1)) == (whole, windowed)
        assert a / b == pytest.approx(ratio, abs=0.05 if ratio > 10 else 0.005)


# --- the command ---


def test_the_figure_shows_exponents_and_the_paper_s_accuracies() -> None:
    table = Table([*accuracies(TABLE_4), *measured(as_expected)])
    rows = summarise(table, EXPERIMENT.settings)
    drawn = swin.figure(rows, [], "cpu", PRESETS["cpu"])
    labels = {line.get_label() for legend in drawn.legends for line in legend.get_lines()}
    labels |= {text.get_text() for legend in drawn.legends for text in legend.get_texts()}
    assert {"shifted windows, products: p = 1.00", "global attention, products: p = 2.00"} <= labels
    assert len(drawn.axes) == 4
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == list(ROLES)
    paper = [line for line in drawn.axes[0].lines if len(line.get_xdata()) == 5]
    assert [list(line.get_xdata()) for line in paper] == [pytest.approx([81.3, 80.2, 80.1, 80.5, 81.3])]
    pixels = {float(x) for line in drawn.axes[2].lines for x in line.get_xdata()}
    assert min(pixels) == pytest.approx(64, rel=0.1)
    assert max(pixels) == pytest.approx(48**2, rel=0.1)


def test_the_docstring_names_every_preset() -> None:
    assert swin.__doc__
    assert set(PRESETS) <= set(re.findall(r"\w+", swin.__doc__))
