"""The experiments on position embeddings, heads and attention distance: grids, claims, figures, command lines."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import attention_distance, position_embedding, vit_head
from vision_repro import models
from vision_repro.analysis.claims import FAILS, HOLDS, UNTESTED, Evidence, judge_all
from vision_repro.analysis.table import Row, Table
from vision_repro.cli import plan
from vision_repro.config import UserError
from vision_repro.experiment import grid
from vision_repro.models.timm_model import check_tag
from vision_repro.papers.tables import paper_table

EXPERIMENTS = (position_embedding, vit_head, attention_distance)


@pytest.mark.parametrize("module", EXPERIMENTS, ids=lambda module: module.EXPERIMENT.name)
def test_every_preset_is_a_grid_of_models_that_exist(module: Any) -> None:
    assert {"smoke", "cpu", "cifar", "gpu", "paper"} <= set(module.PRESETS)
    for name, preset in module.PRESETS.items():
        runs = grid(module.EXPERIMENT, name, preset)
        assert len(set(runs)) == len(runs)
        assert all(run.total_steps % run.evaluations == 0 for run in runs)
        assert preset.evidence is (name != "smoke")
        with torch.device("meta"):
            for model, size in {(run.model, run.image_size) for run in runs}:
                check_tag(model[5:]) if model.startswith("timm:") else models.build(model, image_size=size, classes=10)


def table(values: dict[tuple[str, ...], float], settings: tuple[str, ...], metrics: tuple[str, ...]) -> Table:
    """Returns four seeds around the values of each setting, all settings with the same luck but for a little."""
    rows, luck = [], random.Random(0)
    for setting, value in values.items():
        for seed in range(4):
            noise = 0.01 * seed + luck.uniform(-0.001, 0.001)
            named = dict(zip(settings, setting, strict=True))
            rows += [Row("x", "cpu", "r", named, seed, "ok", metric, value + noise, "fraction") for metric in metrics]
    return Table(rows)


def verdicts(module: Any, found: Table, preset: str = "cpu") -> dict[str, str]:
    judged = judge_all(module.claims(preset, module.PRESETS[preset]), Evidence(found, preset, True))
    return {item.claim: item.verdict for item in judged}


METRICS = ("few_shot_5", "test_accuracy", "val_accuracy")


def test_the_paper_s_own_table_8_makes_its_claims_hold() -> None:
    printed = {(row["position_embedding"], row["placement"]): row for row in paper_table("vit_table8")}
    assert set(printed) == set(position_embedding.VARIANTS.values())
    values = {
        (f"vit-64x4/2{option}",): float(printed[key]["imagenet_5shot_linear"])
        for option, key in position_embedding.VARIANTS.items()
    }
    found = verdicts(position_embedding, table(values, ("model",), METRICS))
    assert len(found) == 6
    assert set(found.values()) == {HOLDS}


def test_one_variant_apart_makes_equality_fail_where_it_is_compared() -> None:
    values = {(f"vit-64x4/2{option}",): 0.6 for option in position_embedding.VARIANTS}
    values["vit-64x4/2-pos2d-every",] = 0.5
    values["vit-64x4/2-pos0",] = 0.7
    found = verdicts(position_embedding, table(values, ("model",), METRICS))
    assert found["places-are-equal:test_accuracy"] == FAILS
    assert found["kinds-are-equal:test_accuracy"] == HOLDS
    assert found["position-matters:few_shot_5"] == FAILS


def head_values(pooled: tuple[float, float, float, float]) -> dict[tuple[Any, ...], float]:
    token = (0.6, 0.7, 0.9, 0.5)
    return {
        (model, rate): value
        for model, row in (("vit-64x4/2", token), ("vit-64x4/2-gap", pooled))
        for rate, value in zip(vit_head.RATES, row, strict=True)
    }


@pytest.mark.parametrize(
    ("pooled", "worse", "equal"),
    [
        ((0.7, 0.9, 0.6, 0.3), HOLDS, HOLDS),  # the paper
        ((0.9, 0.7, 0.95, 0.3), FAILS, HOLDS),  # the larger rate is pooling's best, but only smaller ones are looked at
        ((0.7, 0.7, 0.6, 0.3), HOLDS, FAILS),
    ],
)
def test_the_head_s_rates_are_chosen_on_val(pooled: tuple[float, float, float, float], worse: str, equal: str) -> None:
    found = verdicts(vit_head, table(head_values(pooled), ("model", "lr"), METRICS))
    assert found["pooling-worse-at-the-token's-rate:test_accuracy"] == worse
    assert found["pooling-equal-at-a-smaller-rate:few_shot_5"] == equal


def test_without_a_smaller_rate_the_second_claim_is_untested() -> None:
    values = {key: value for key, value in head_values((0.7, 0.9, 0.6, 0.3)).items() if key[1] == 3e-3}
    found = verdicts(vit_head, table(values, ("model", "lr"), METRICS))
    assert found["pooling-worse-at-the-token's-rate:test_accuracy"] == HOLDS
    assert found["pooling-equal-at-a-smaller-rate:test_accuracy"] == UNTESTED


@pytest.mark.parametrize(
    ("model", "size", "pixels"),
    [
        ("vit-b/16", 224, 116.4922),
        ("vit-64x6/4-gap", 32, 16.5459),
        ("r8x0.25/2+vit-64x6/4", 32, 16.5459),
        ("timm:vit_large_patch16_224.augreg_in21k", 224, 116.4922),
        ("timm:vit_base_patch32_224.augreg_in21k", 224, 115.5029),
        ("timm:vit_base_r50_s16_224.orig_in21k", 224, 116.4922),
        ("timm:deit_small_patch16_224.fb_in1k", 224, 116.4922),
    ],
)
def test_uniform_attention_by_the_name_of_the_model(model: str, size: int, pixels: float) -> None:
    assert attention_distance.uniform(model, size) == pytest.approx(pixels, abs=5e-5)


@pytest.mark.parametrize("model", ["timm:swin_tiny_patch4_window7_224", "swin-ti", "vit-b/0", "bit-r50x1"])
def test_models_without_a_grid_of_global_attention_have_no_uniform_distance(model: str) -> None:
    assert attention_distance.uniform(model, 224) is None


def test_hybrids_are_compared_with_their_own_vit() -> None:
    for name, preset in attention_distance.PRESETS.items():
        found = [claim.name for claim in attention_distance.claims(name, preset) if "hybrids" in claim.name]
        hybrids = [str(model) for model in preset.axes["model"] if attention_distance.is_hybrid(str(model))]
        assert found == [f"less-local-in-hybrids:{model}" for model in hybrids]
        assert len(hybrids) == (name not in ("given", "cifar"))  # data_scaling, whose runs cifar names, has none


def test_given_weights_choose_the_preset_that_trains_nothing() -> None:
    given = attention_distance.given_weights
    assert given(["--seeds=2"]) == ["--seeds=2"]
    assert given(["--preset=cpu", "--weights=x.ckpt"]) == ["--preset=cpu", "--weights=x.ckpt"]
    tokens = given(["--model=timm:vit_base_patch32_224.augreg_in21k"])
    planned = plan(attention_distance.EXPERIMENT, tokens)
    assert [(run.model, run.budget, run.weights, run.total_steps) for run in planned.runs] == [
        ("timm:vit_base_patch32_224.augreg_in21k", "none", "timm", 0)
    ]
    with pytest.raises(UserError, match="needs --model"):
        given(["--weights=x.ckpt"])


def test_a_run_folder_brings_its_model_and_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder of a run"):
        attention_distance.given_weights([f"--weights={tmp_path}"])
    (tmp_path / "config.yaml").write_text(
        "model: vit-32x2/2\ndataset: digits\nimage_size: 8\ntrain_size: 40\nnormalisation: model\nseed: 7\n"
    )
    tokens = attention_distance.given_weights([f"--weights={tmp_path}", "--train_size=60"])
    run = plan(attention_distance.EXPERIMENT, tokens).runs[0]
    assert (run.model, run.dataset, run.image_size, run.train_size) == ("vit-32x2/2", "digits", 8, 60)
    assert run.weights == str(tmp_path / "weights.ckpt")
    preset = plan(attention_distance.EXPERIMENT, tokens).preset
    assert (preset.shared.image_size, preset.shared.dataset, preset.base.image_size) == (8, "digits", 224)
    metric = "attention_distance_l00_h00"
    measured = Table([Row("x", "given", "r", {"model": "vit-32x2/2"}, 7, "ok", metric, 4.016029938760175, "pixels")])
    widest = attention_distance.claims("given", preset)[0].verdict(Evidence(measured, "given", True)).estimate
    assert widest is not None
    assert widest.mean == pytest.approx(1 - attention_distance.GLOBAL)  # uniform for 8 pixels, not for 224


def test_the_docstrings_name_every_preset() -> None:
    for module in EXPERIMENTS:
        assert module.__doc__
        words = set(re.findall(r"\w+", module.__doc__))
        assert set(module.PRESETS) - {"given"} <= words


def test_the_paper_s_numbers_of_table_8_stand_beside_ours() -> None:
    """Figures of the paper's Table 8: 64.206 (1-D), 61.382 (none), 64.001 (2-D), 63.964 (1-D, every layer)."""
    experiment = position_embedding.EXPERIMENT
    claims = {claim.name: claim.paper for claim in experiment.claims("cpu", experiment.presets["cpu"])}
    assert claims["position-matters:few_shot_5"] == "+2.8 points"
    assert claims["kinds-are-equal:few_shot_5"] == "-0.205 points (any two with positions: at most 0.328)"
    assert claims["places-are-equal:few_shot_5"].startswith("-0.242 points")
    assert {paper for name, paper in claims.items() if name.endswith(":test_accuracy")} == {""}
