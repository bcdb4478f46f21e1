"""Stages: what a start names, the run that is trained first, and what reaches it from the command line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vision_repro.config import RunConfig, UserError
from vision_repro.experiment import Preset
from vision_repro.presets import bases, captions, scales, stages
from vision_repro.presets.pairs import HYBRIDS, PAIRS

ROOT = Path(__file__).parents[2]
MEASURED = RunConfig(
    dataset="pets", budget="none", pretraining="cifar10@200", model="vit-64x4/4", seed=3, lr=None, probes="",
    train_on_val=True, select="last", polyak=0.99, views="square", precision="fp32", image_size=48, weight_decay=0.0,
)  # fmt: skip


def test_a_start_is_read_and_written() -> None:
    assert stages.parse("cifar10@300") == ("cifar10", 300)
    assert stages.starts("digits", 50, 200) == ("digits@50", "digits@200")
    assert [str(stages.parse(start)) for start in stages.starts("hf:a/b:img", 7)] == ["hf:a/b:img@7"]
    with pytest.raises(
        UserError, match='"mae" is no pre-training: expected scratch or <data set>@<steps>, such as a@1'
    ):
        stages.parse("mae", example="a@1", also="scratch")


@pytest.mark.parametrize(("steps", "most", "expected"), [(200, 8, 8), (300, 8, 6), (7, 5, 1), (50, 5, 5), (1, 20, 1)])
def test_val_is_measured_in_equal_parts(steps: int, most: int, expected: int) -> None:
    assert stages.evaluations(steps, most) == expected
    assert steps % expected == 0


def test_pre_training_is_the_base_s_run_of_the_model_and_seed() -> None:
    found = stages.pre_train(MEASURED, stages.Start("cifar10", 800), bases.CIFAR)
    expected = replace(bases.CIFAR, model="vit-64x4/4", seed=3, lr=0.001, shots="", precision="fp32")
    assert found == expected  # whatever the run that asks has of its own, but for how numbers are computed
    assert stages.pre_train(MEASURED, stages.Start("cifar10", 300), bases.CIFAR, lr=0.5).lr == 0.5


def test_what_is_only_measured_is_trained_without_probes_and_views() -> None:
    found = stages.trained(replace(MEASURED, steps=50))
    assert (found.budget, found.pretraining, found.probes, found.views) == ("steps", "", "", "crop")
    assert (found.steps, found.polyak, found.seed) == (50, 0.99, 3)


def test_rates_are_tried_with_seed_0_and_without_val() -> None:
    found = stages.with_rates(MEASURED, (0.1, 0.3))
    assert [(run.lr, run.seed, run.train_on_val) for run in found] == [(0.1, 0, False), (0.3, 0, False)]


def test_what_the_command_line_changed_is_not_filled_in() -> None:
    base = RunConfig(steps=100)
    assert stages.fill(base, {"steps": 5, "global_batch": 8}, base).steps == 5
    assert stages.fill(replace(base, steps=30), {"steps": 5, "global_batch": 8}, base) == replace(
        base, steps=30, global_batch=8
    )


def test_a_scale_says_what_it_costs_and_whether_it_is_evidence() -> None:
    axes = {"model": ("vit-32x4/2", "bit-r11x0.15")}
    smoke, cpu = scales.smoke(bases.DIGITS, axes), scales.cpu(bases.DIGITS, axes, "about 5 minutes")
    assert (smoke.evidence, smoke.base.steps, smoke.base.train_size, smoke.seeds) == (False, 2, 40, 1)
    assert (cpu.evidence, cpu.seeds) == (True, 5)
    assert cpu.cost == "about 5 minutes on two cores; scikit-learn's digits, offline"
    assert scales.gpu(bases.CIFAR_GPU, axes).cost.startswith("about an hour on one GPU; CIFAR-10")
    assert scales.paper(bases.IMAGENET21K, axes, "about 3", "X").cost == "about 3 GPU-hours; X (see --dry-run)"
    assert cpu.base.model == "vit-32x4/2"  # the base is the config of a run


def test_captions_tell_budget_and_rates() -> None:
    assert captions.training(bases.DIGITS) == "1200 training images, 200 steps of 32 images"
    assert captions.budget(bases.IMAGENET21K) == "7 epochs"
    told = captions.rates("digits", ["vit-32x4/2", "vit-32x2/2"])
    assert told.startswith("peak lr vit-32x4/2 0.01, vit-32x2/2 0.003 (searched on val")
    assert told.endswith("untuned for vit-32x2/2)")
    assert captions.models(Preset(bases.CIFAR, {}, 1, "")) == ["vit-64x4/4"]


def test_the_recipe_s_models_are_the_pairs() -> None:
    for base, size in ((bases.DIGITS, 8), (bases.CIFAR, 32), (bases.CIFAR_GPU, 32)):
        assert base.image_size == size
        assert base.model in [vit for vit, _ in PAIRS[size]]
        assert base.steps % base.evaluations == 0
        assert HYBRIDS[size].endswith(f"/{base.model.rpartition('/')[2]}")


def test_presets_and_experiments_are_read_without_torch() -> None:
    code = (
        "import importlib, pkgutil, sys, vision_repro.presets as room, experiments\n"
        "for package in (room, experiments):\n"
        "    for item in pkgutil.iter_modules(package.__path__):\n"
        "        importlib.import_module(f'{package.__name__}.{item.name}')\n"
        "assert not {'torch', 'timm', 'lightning', 'wandb', 'matplotlib'} & set(sys.modules), sorted(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-300:]
