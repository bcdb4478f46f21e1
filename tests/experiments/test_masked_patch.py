"""The experiment masked_patch: its words, the runs before its runs, what is left out, and its claims."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
import torch

from experiments import masked_patch
from experiments.masked_patch import EXPERIMENT, PRESETS, STAGES
from vision_repro import models
from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Evidence, judge_all
from vision_repro.analysis.summary import summarise
from vision_repro.analysis.table import Row, Table
from vision_repro.cli import main, plan
from vision_repro.config import RunConfig, run_id
from vision_repro.experiment import grid, linked
from vision_repro.tasks import patch_targets


def test_a_word_that_is_no_start_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(EXPERIMENT, ["--pretraining=colour"]) == 2
    assert '--pretraining="colour" is no pre-training' in capsys.readouterr().err


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_grid_of_runs_that_can_be(name: str) -> None:
    runs, before = linked(EXPERIMENT, name, PRESETS[name])
    assert len(set(runs)) == len(runs)
    assert all(run.total_steps % run.evaluations == 0 for run in (*runs, *before))
    assert all(run.lr is not None for run in (*runs, *before) if run.budget == "steps")
    assert PRESETS[name].evidence is (name != "smoke")
    with torch.device("meta"):
        for model, size in {(run.model, run.image_size) for run in (*runs, *before)}:
            found: Any = models.build(model, image_size=size, classes=10)
            patch_targets.target("downsized", found.patch_embed.patch_size[0])


@pytest.mark.parametrize("name", PRESETS)
def test_each_start_is_pre_trained_once_a_seed_and_comes_first(name: str) -> None:
    preset = PRESETS[name]
    runs, before = linked(EXPERIMENT, name, preset)
    ids = {run_id(run) for run in before}
    starts = [str(word) for word in preset.axes["pretraining"] if word != "scratch"]
    assert len(ids) == len(before) == preset.seeds * len(starts)
    of_start: dict[tuple[str, int], set[str | None]] = {}
    for run in runs:
        of_start.setdefault((run.pretraining, run.seed), set()).add(run.weights_run)
    assert {key for key in of_start if key[0]} == {(word, seed) for word in starts for seed in range(preset.seeds)}
    for (word, _), found in of_start.items():
        assert found == {None} if not word else len(found) == 1 and found <= ids


def test_pre_training_sees_all_images_and_keeps_its_last_weights() -> None:
    found = {(run.objective, run.corrupted, run.steps) for run in linked(EXPERIMENT, "cifar", PRESETS["cifar"])[1]}
    whole = STAGES["cifar"].pretraining["steps"]
    targets = {(target, 0.5, whole) for target in ("supervised", "mean-colour", "downsized", "pixels")}
    assert found == targets | {
        ("mae", 0.75, whole),
        ("mean-colour", 0.15, whole),
        ("mean-colour", 0.5, 75),
        ("mean-colour", 0.5, 300),
    }
    for run in linked(EXPERIMENT, "cifar", PRESETS["cifar"])[1]:
        assert (run.train_size, run.select, run.shots, run.probes, run.weights, run.pretraining) == (
            49000,
            "last",
            "",
            "",
            "",
            "",
        )


def test_a_length_that_does_not_divide_is_validated_less_often() -> None:
    found = masked_patch.pretraining("cpu", RunConfig(pretraining="pixels@7"))
    assert found is not None
    assert (found.steps, found.evaluations) == (7, 1)


def test_what_is_changed_on_the_command_line_reaches_pre_training_too() -> None:
    planned = plan(EXPERIMENT, ["--preset=gpu", "--dataset=cifar100", "--pretraining=mae", "--seeds=1", "--lr=0.5"])
    (first,) = planned.upstream
    assert (first.dataset, first.objective, first.lr) == ("cifar100", "mae", STAGES["gpu"].lr)
    assert {run.lr for run in planned.runs if run.budget == "steps"} == {0.5}
    paper = plan(EXPERIMENT, ["--preset=paper", "--pretraining=mean-colour"])
    assert [(run.dataset, run.image_size, run.steps) for run in paper.upstream] == [("imagenet21k", 224, 1_000_000)]
    assert {(run.dataset, run.image_size) for run in paper.runs} == {("imagenet", 384)}


def test_from_scratch_takes_as_many_steps_as_both_stages() -> None:
    runs = grid(EXPERIMENT, "cpu", PRESETS["cpu"])
    base, more = PRESETS["cpu"].base.steps, STAGES["cpu"].pretraining["steps"]
    assert {(run.steps, run.weights) for run in runs if not run.pretraining and run.budget == "steps"} == {
        (base + more, "")
    }
    assert {run.steps for run in runs if run.pretraining and run.budget == "steps"} == {base}


def test_frozen_features_are_measured_once_and_short_pre_training_with_few_labels() -> None:
    runs = [run for run in grid(EXPERIMENT, "cpu", PRESETS["cpu"]) if run.seed == 0]
    frozen = [run for run in runs if run.budget == "none"]
    assert {(run.train_size, run.shots, run.probes, run.lr) for run in frozen} == {(1200, "5", "linear", None)}
    assert len(frozen) == len(PRESETS["cpu"].axes["pretraining"])
    assert [run.weights for run in frozen if not run.pretraining] == ["random"]
    short = [run for run in runs if "@" in run.pretraining and run.budget == "steps"]
    assert [(run.pretraining, run.train_size) for run in short] == [("mean-colour@75", 100), ("mean-colour@300", 100)]
    assert len(runs) == 2 * 7 + len(short) + len(frozen)


PAPER = {  # fine-tuned with few and with many labels, and frozen: as the paper has it
    "": (0.40, 0.779, 0.20), "supervised": (0.70, 0.839, 0.60), "mean-colour": (0.60, 0.799, 0.50),
    "mean-colour-15": (0.58, 0.79, 0.47), "downsized": (0.60, 0.80, 0.48), "pixels": (0.58, 0.795, 0.44),
    "mae": (0.99, 0.99, 0.99), "mean-colour@75": (0.45, None, 0.30), "mean-colour@300": (0.58, None, 0.45),
}  # fmt: skip


def table(changed: dict[str, tuple[float, float | None, float]], seeds: int = 4) -> Table:
    """Returns seeds around PAPER's values, all starts with the same luck but for a little."""
    rows, luck = [], random.Random(0)
    for start, values in {**PAPER, **changed}.items():
        wheres = (("steps", 100, "test_accuracy"), ("steps", 1200, "test_accuracy"), ("none", 1200, "few_shot_5"))
        for (budget, size, metric), value in zip(wheres, values, strict=True):
            where = {"pretraining": start, "budget": budget, "train_size": size}
            for seed in range(seeds if value is not None else 0):
                noise = 0.005 * seed + luck.uniform(-0.001, 0.001)
                rows.append(
                    Row("masked_patch", "cpu", "r", where, seed, "ok", metric, float(value or 0) + noise, "fraction")
                )
    return Table(rows)


def verdicts(found: Table) -> dict[str, str]:
    judged = judge_all(masked_patch.claims("cpu", PRESETS["cpu"]), Evidence(found, "cpu", True))
    return {item.claim: item.verdict for item in judged}


def test_the_paper_s_numbers_make_all_claims_hold() -> None:
    found = verdicts(table({}))
    assert len(found) == 8
    assert set(found.values()) == {HOLDS}


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({"": (0.65, 0.779, 0.2)}, {"beats-scratch:100"}),
        ({"": (0.40, 0.82, 0.2)}, {"beats-scratch:1200"}),
        ({"supervised": (0.50, 0.78, 0.6)}, {"behind-supervised:100", "behind-supervised:1200"}),
        ({"pixels": (0.58, 0.795, 0.55)}, {"mean-colour-is-best:few_shot_5"}),
        ({"downsized": (0.60, 0.80, 0.55)}, {"mean-colour-is-best:few_shot_5"}),
        ({"mean-colour-15": (0.58, 0.79, 0.53)}, {"half-beats-15:few_shot_5"}),
        ({"mean-colour@300": (0.48, None, 0.45)}, {"gains-flatten:test_accuracy"}),
        ({"mean-colour@300": (0.58, None, 0.33)}, {"gains-flatten:few_shot_5"}),
        ({"mae": (0.1, 0.1, 0.1)}, set()),
    ],
)
def test_each_claim_can_fail_alone(changed: dict[str, tuple[float, float | None, float]], failing: set[str]) -> None:
    found = verdicts(table(changed))
    assert {name for name, verdict in found.items() if verdict == FAILS} == failing
    assert {verdict for name, verdict in found.items() if name not in failing} == {HOLDS}


def test_targets_that_are_alike_leave_it_undecided_and_two_seeds_untested() -> None:
    assert verdicts(table({"pixels": (0.58, 0.795, 0.5)}))["mean-colour-is-best:few_shot_5"] == UNDECIDED
    assert set(verdicts(table({}, seeds=2)).values()) == {UNTESTED}


def test_the_paper_s_numbers_stand_where_it_prints_them() -> None:
    """ViT, section 4.6: 79.9 %, 2 % above training from scratch and 4 % behind supervised pre-training."""
    printed = {claim.name: claim.paper for claim in masked_patch.claims("cpu", PRESETS["cpu"]) if claim.paper}
    assert printed == {"beats-scratch:1200": "+2 points", "behind-supervised:1200": "+4 points"}


@pytest.mark.parametrize(
    ("tokens", "left"),
    [
        (["--pretraining=scratch,mean-colour"], set()),
        (["--pretraining=mean-colour,pixels"], {"mean-colour-is-best"}),
        (["--budget=none"], {"mean-colour-is-best", "half-beats-15", "gains-flatten"}),
        (["--budget=steps"], {"beats-scratch", "behind-supervised", "gains-flatten"}),
    ],
)
def test_only_what_is_run_is_claimed(tokens: list[str], left: set[str]) -> None:
    preset = plan(EXPERIMENT, tokens).preset
    assert {claim.name.partition(":")[0] for claim in masked_patch.claims("cpu", preset)} == left


def test_the_figure_has_a_line_for_each_start_and_a_curve_over_steps() -> None:
    rows = summarise(table({}), EXPERIMENT.settings)
    found = masked_patch.figure(rows, [], "cpu", PRESETS["cpu"])
    first, *_, curves, paper = found.axes
    assert len(first.get_yticks()) == 7
    lines = [list(line.get_ydata()) for line in curves.lines if len(line.get_xdata()) == 3]
    assert [value for line in lines for value in line if line == lines[1]] == pytest.approx(
        [30.75, 45.75, 50.75], abs=0.2
    )
    assert curves.get_xticks().tolist() == [75, 300, 1200]
    assert len(paper.get_yticks()) == 3


def test_the_docstring_names_every_preset() -> None:
    assert masked_patch.__doc__
    assert set(PRESETS) <= set(re.findall(r"\w+", masked_patch.__doc__))
