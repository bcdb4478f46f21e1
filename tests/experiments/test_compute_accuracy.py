"""The experiment on compute and accuracy: its grids, what runs before what, its claims, and its command line."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import pytest
import torch

from experiments import compute_accuracy
from vision_repro import models
from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, Evidence, judge_all
from vision_repro.analysis.compute import COMPUTE
from vision_repro.analysis.table import Row, Table
from vision_repro.cli import plan
from vision_repro.config import UserError
from vision_repro.experiment import linked
from vision_repro.models.families import family

EXPERIMENT, PRESETS = compute_accuracy.EXPERIMENT, compute_accuracy.PRESETS
BEATS, LESS = "vit-beats-bit", "vit-needs-less"
SMALL, LARGE, RISING = "hybrids-ahead-at-small-compute", "hybrids-equal-at-large-compute", "no-saturation"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_grid_of_models_that_exist(name: str) -> None:
    preset = PRESETS[name]
    runs, before = linked(EXPERIMENT, name, preset)
    assert len(set(runs)) == len(runs)
    assert {run.weights_run for run in runs} <= {need for run in runs for need in run.needs}
    assert preset.evidence is (name != "smoke")
    for run in (*runs, *before):
        assert run.total_steps % run.evaluations == 0
        assert run.lr is not None or run.budget == "none"
    with torch.device("meta"):
        for model, size in {(run.model, run.image_size) for run in (*runs, *before)}:
            models.build(model, image_size=size, classes=10)
    assert {family(str(model)) for model in preset.axes["model"]} == {"vit", "bit", "hybrid"}


def test_one_pre_training_serves_all_data_sets_downstream() -> None:
    runs, before = linked(EXPERIMENT, "cifar", PRESETS["cifar"])
    assert (len(runs), len(before)) == (8 * 2 * 3 * 3, 8 * 2 * 3)
    for run in before:
        assert (run.dataset, run.budget, run.pretraining, run.probes, run.shots) == ("cifar10", "steps", "", "", "")
        assert (run.train_size, run.global_batch, run.select, run.objective) == (49_000, 64, "best", "supervised")
    assert {run.steps for run in before} == {200, 800}
    assert {(run.dataset, run.train_size) for run in runs} == {("cifar10", 5000), ("pets", 270), ("flowers17", 648)}
    assert {(run.budget, run.probes) for run in runs} == {("none", "linear")}


def test_options_reach_the_pre_training() -> None:
    planned = plan(
        EXPERIMENT, ["--preset=cpu", "--model=vit-32x2/2", "--pretraining=digits@30", "--lr=0.002", "--seeds=2"]
    )
    assert [(run.steps, run.lr, run.model, run.seed) for run in planned.upstream] == [
        (30, 0.002, "vit-32x2/2", seed) for seed in (0, 1)
    ]
    few = plan(EXPERIMENT, ["--preset=cifar", "--train_size=500", "--seeds=1", "--model=vit-64x2/8"])
    assert {(run.dataset, run.train_size) for run in few.runs} == {("cifar10", 500), ("pets", 270), ("flowers17", 500)}
    assert {run.train_size for run in few.upstream} == {49_000}


@pytest.mark.parametrize("start", ["digits", "digits@", "digits@0", "@30", "digits@1.5", "mae"])
def test_a_start_that_is_none_is_refused_in_one_sentence(start: str) -> None:
    with pytest.raises(UserError, match=r"is no pre-training: expected <data set>@<steps>, such as cifar10@300"):
        plan(EXPERIMENT, ["--preset=cpu", f"--pretraining={start}"])


def test_fine_tuning_of_the_paper_has_table_4_s_steps() -> None:
    runs, before = linked(EXPERIMENT, "paper", PRESETS["paper"])
    own = [run for run in runs if run.model != "vit-h/14"]
    found = {run.dataset: (run.steps, run.image_size, run.optimizer, run.global_batch, run.lr) for run in own}
    assert found["imagenet"] == (20_000, 384, "sgd", 512, 0.03)
    assert found["pets"] == found["flowers"] == (500, 384, "sgd", 512, 0.03)
    assert found["hf:cifar10"][0] == 10_000
    assert {run.image_size for run in runs if run.model == "vit-h/14"} == {392}
    assert {(run.image_size, run.optimizer, run.global_batch, run.weight_decay, run.warmup) for run in before} == {
        (224, "adamw", 4096, 0.03, 0.1)
    }


Curve = tuple[float, float]  # accuracy at the least compute, gain for each tenfold


def table(curves: Mapping[str, Curve], noise: float = 0.002, name: str = "cpu") -> Table:
    """Returns a run for each point of a preset's grid, on a line a family over the steps times a made-up width."""
    luck, rows, preset = random.Random(3), [], PRESETS[name]
    for model in map(str, preset.axes["model"]):
        peers = [str(other) for other in preset.axes["model"] if family(str(other)) == family(model)]
        for start in map(str, preset.axes["pretraining"]):
            compute = 1e9 * 4.0 ** peers.index(model) * int(start.split("@")[1])
            height, slope = curves[family(model)]
            for seed in range(5):
                value = height + slope * math.log10(compute / 5e10) + 0.003 * seed + luck.uniform(-noise, noise)
                settings = {"model": model, "pretraining": start, "dataset": "digits"}
                rows += [
                    Row("compute_accuracy", name, "r", settings, seed, "ok", "test_accuracy", value, "fraction"),
                    Row("compute_accuracy", name, "r", settings, seed, "ok", COMPUTE, compute, "FLOPs"),
                ]
    return Table(rows)


@pytest.mark.parametrize(
    ("curves", "expected"),
    [
        (
            {"vit": (0.50, 0.10), "bit": (0.42, 0.10), "hybrid": (0.555, 0.05)},  # as in the paper
            {BEATS: HOLDS, LESS: HOLDS, SMALL: HOLDS, LARGE: HOLDS, RISING: HOLDS},
        ),
        (
            {"vit": (0.50, -0.05), "bit": (0.55, 0.10), "hybrid": (0.40, 0.05)},
            {BEATS: FAILS, SMALL: FAILS, LARGE: FAILS, RISING: FAILS},
        ),
        (
            {"vit": (0.50, 0.10), "bit": (0.60, 0.10), "hybrid": (0.50, 0.10)},
            {BEATS: FAILS, LESS: FAILS, SMALL: UNDECIDED, LARGE: HOLDS, RISING: HOLDS},
        ),
    ],
    ids=["paper", "opposite", "ViT level with hybrids"],
)
def test_every_claim_can_hold_and_fail(curves: Mapping[str, Curve], expected: Mapping[str, str]) -> None:
    evidence = Evidence(table(curves), "cpu", True)
    found = {item.claim: item.verdict for item in judge_all(EXPERIMENT.claims("cpu", PRESETS["cpu"]), evidence)}
    assert {claim: found[claim] for claim in expected} == expected
    assert len(found) == 5


def test_noise_leaves_every_claim_undecided() -> None:
    level = table({"vit": (0.5, 0.0), "bit": (0.5, 0.0), "hybrid": (0.5, 0.0)}, noise=0.2)
    found = judge_all(EXPERIMENT.claims("cpu", PRESETS["cpu"]), Evidence(level, "cpu", True))
    assert {item.claim: item.verdict for item in found} == dict.fromkeys([BEATS, LESS, SMALL, LARGE, RISING], UNDECIDED)


def test_the_paper_s_numbers_stand_beside_the_claims() -> None:
    found = {claim.name: claim.paper for claim in EXPERIMENT.claims("cpu", PRESETS["cpu"])}
    assert found[LESS] == "2 to 4 times; by its Table 6 2.8 (ViT-B/32), 3.0 (ViT-B/16), 6.0 (ViT-L/32)"
    assert found[BEATS].startswith("+")
    assert found[SMALL].startswith("+0.")
    assert abs(float(found[LARGE].split(" ")[0])) < 0.2
