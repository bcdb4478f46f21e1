"""The experiment on transfer: its stages, the paper's tables in its presets, its claims, and the way to its figure."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from experiments import transfer
from vision_repro import models
from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Evidence, judge_all
from vision_repro.analysis.judges.transfer import AVERAGED, paper_table_2, paper_table_5
from vision_repro.analysis.table import Row, Table
from vision_repro.cli import plan
from vision_repro.config import RunConfig, UserError, run_id
from vision_repro.experiment import linked
from vision_repro.papers.tables import paper_table
from vision_repro.store import dependencies
from vision_repro.store.runs import RunFolder

EXPERIMENT, PRESETS = transfer.EXPERIMENT, transfer.PRESETS
GOOD, LOSES, WINS, GAINS, PAYS = (
    "vit-at-least-as-good-as-bit",
    "larger-loses-after-small",
    "larger-wins-after-large",
    "larger-gains-more",
    "pre-training-pays",
)


def stages(name: str) -> tuple[list[RunConfig], list[RunConfig], list[RunConfig]]:
    """Returns the pre-trainings, the candidates and the rows of a preset."""
    runs, before = linked(EXPERIMENT, name, PRESETS[name])
    searched = {need for run in runs for need in run.lr_from.split()}
    first = [run for run in before if run_id(run) not in searched]
    return first, [run for run in before if run_id(run) in searched], list(runs)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_pre_trains_smaller_then_chooses_then_fine_tunes(name: str) -> None:
    first, searched, runs = stages(name)
    assert len(set(runs)) == len(runs)
    assert PRESETS[name].evidence is (name != "smoke")
    ids = {run_id(run): run for run in (*first, *searched)}
    for run in (*first, *searched, *runs):
        assert run.total_steps % run.evaluations == 0
        assert run.shots == ""
        assert run.select == ("best" if run in first and name in ("cifar", "gpu") else "last")
    for run in first:
        assert (run.pretraining, run.weights, run.train_on_val, run.optimizer) == ("", "", False, "adamw")
    for run in searched:
        assert (run.seed, run.train_on_val) == (0, False)
        assert run.lr is not None
    for run in runs:
        assert run.lr is None
        assert run.train_on_val is (run.dataset != "flowers")
        rates = [ids[need].lr for need in run.lr_from.split()]
        assert rates == sorted({rate for rate in rates if rate is not None})
        if run.weights_run:
            before = ids[run.weights_run]
            assert before.image_size < run.image_size
            assert (before.model, before.seed) == (run.model, run.seed)
            assert f"{before.dataset}@{before.steps}" == run.pretraining
            assert (run.optimizer, run.weight_decay, run.warmup, run.grad_clip) == ("sgd", 0.0, 0.0, 1.0)
        for need in run.lr_from.split():
            assert (ids[need].model, ids[need].pretraining, ids[need].dataset) == (
                run.model,
                run.pretraining,
                run.dataset,
            )
    with torch.device("meta"):
        for model, size in {(run.model, run.image_size) for run in (*first, *runs)}:
            models.build(model, image_size=size, classes=10)


def test_one_pre_training_serves_all_data_sets_but_its_own() -> None:
    first, searched, runs = stages("cifar")
    assert (len(first), len(searched), len(runs)) == (3 * 2 * 3, 3 * 5 * 3, 3 * 5 * 3)
    assert {(run.dataset, run.pretraining) for run in runs if run.dataset == "cifar10"} == {
        ("cifar10", "imagenette@300")
    }
    assert transfer.judged_on(PRESETS["cifar"]) == ["pets", "flowers17"]
    assert transfer.judged_on(PRESETS["paper"]) == [*map(str, PRESETS["paper"].axes["dataset"])]


def test_the_paper_preset_is_tables_3_and_4() -> None:
    first, searched, runs = stages("paper")
    names = {
        "imagenet": "ImageNet",
        "cifar10": "CIFAR-10",
        "cifar100": "CIFAR-100",
        "pets": "Oxford-IIIT Pets",
        "flowers": "Oxford Flowers-102",
    }
    printed = {row["dataset"]: row for row in paper_table("vit_finetuning")}
    rates = {run_id(run): run.lr for run in searched}
    for run in runs:
        row = printed[names[run.dataset]]
        grid = [float(word) for word in row["lr_grid"].split(";")]
        assert (run.steps, run.global_batch) == (int(row["steps"]), int(row["batch_size"]))
        found = [rates[need] for need in run.lr_from.split()]
        assert found == (grid if run.model.startswith("bit") else [rate for rate in grid if rate != 0.06])
        best = run.dataset == "imagenet" and run.model in ("vit-l/16", "vit-h/14")
        assert run.polyak == (0.9999 if best else 0)
        sides = {"vit-l/16": 512, "vit-h/14": 518} if best else {"vit-h/14": 392}
        assert run.image_size == sides.get(run.model, 384)
    table_3 = {(row["model"].lower(), row["dataset"]): row for row in paper_table("vit_pretraining")}
    for run in first:
        known = table_3.get((run.model, names.get(run.dataset, "ImageNet-21k")))
        if known:
            assert (run.lr, run.weight_decay) == (float(known["base_lr"]), float(known["weight_decay"]))
            assert run.grad_clip == float(known["grad_clip_global_norm"] or 0)
            assert run.steps == int(known["computed_steps"])
            assert round(run.warmup * run.steps) == 10_000


def test_any_model_of_timm_is_a_column() -> None:
    tag = "timm:vit_base_patch32_224.augreg_in21k"
    alone = plan(EXPERIMENT, ["--preset=cifar", f"--model={tag}", "--image_size=224", "--seeds=1"])
    assert {(run.model, run.pretraining, run.weights, run.optimizer) for run in alone.all} == {(tag, "", "timm", "sgd")}
    assert [run.dataset for run in alone.runs] == ["cifar10", "pets", "flowers17"]
    assert {run.lr for run in alone.upstream} == set(transfer.STAGES["cifar"].rates)
    both = plan(EXPERIMENT, ["--preset=cifar", f"--model=vit-64x4/4,{tag}", "--seeds=1"])
    assert [run.pretraining for run in both.runs if run.model == tag] == [""] * 3
    assert len({run_id(run) for run in both.all}) == len(both.all)
    claims = transfer.claims("cifar", both.preset)
    assert all(tag not in str(claim.judge) for claim in claims)


def test_what_is_asked_for_goes_over_what_a_data_set_has_of_its_own() -> None:
    asked = plan(
        EXPERIMENT, ["--preset=cifar", "--dataset=cifar10", "--pretraining=scratch", "--steps=30", "--lr=0.02"]
    )
    assert {(run.steps, run.lr, run.train_size, run.pretraining) for run in asked.runs} == {(30, 0.02, 49_000, "")}
    assert not asked.upstream
    from_scratch = plan(EXPERIMENT, ["--preset=cifar", "--dataset=cifar10", "--pretraining=scratch", "--seeds=1"])
    assert {(run.steps, run.optimizer, run.weight_decay) for run in from_scratch.runs} == {(300, "adamw", 0.1)}
    assert {run.lr for run in from_scratch.upstream} == {0.003, 0.01, 0.03}
    tuned = plan(EXPERIMENT, ["--preset=cifar", "--dataset=pets", "--lr=0.02", "--seeds=1"])
    assert {run.lr for run in tuned.runs} == {0.02}
    assert {run.lr for run in tuned.upstream} == {0.001, 0.003}  # the rates of pre-training stay


@pytest.mark.parametrize("start", ["cifar10", "cifar10@", "cifar10@0", "@30", "cifar10@1.5", "mae"])
def test_a_start_that_is_none_is_refused_in_one_sentence(start: str) -> None:
    with pytest.raises(UserError, match=r"is no pre-training: expected scratch or <data set>@<steps>, such as cifar10"):
        plan(EXPERIMENT, ["--preset=cpu", f"--pretraining={start}"])


@pytest.mark.parametrize(
    ("accuracy", "chosen"),
    [((0.2, 0.5, 0.4), 0.1), ((0.5, 0.5, 0.4), 0.03), ((None, 0.3, 0.3), 0.1), ((None, None, 0.1), 0.3)],
)
def test_every_seed_takes_the_best_rate_of_seed_0_and_of_equals_the_smallest(
    tmp_path: Path, accuracy: tuple[float | None, ...], chosen: float
) -> None:
    planned = plan(EXPERIMENT, ["--model=vit-64x4/2", "--pretraining=digits-0-4@50", "--seeds=2"])
    searched = [run for run in planned.upstream if run.pretraining]
    assert [run.lr for run in searched] == [0.03, 0.1, 0.3]
    for run, value in zip(searched, accuracy, strict=True):
        folder = RunFolder(tmp_path, run)
        folder.open()
        folder.finish("ok" if value else "diverged", {"val_accuracy": (value, "fraction")}, {})
    for run in planned.runs:
        assert dependencies.resolve_learning_rate(run, RunFolder(tmp_path, run)).lr == chosen


# --- claims ---


def table(values: dict[tuple[str, str, str], float], preset: str, seeds: int = 4, noise: float = 0.002) -> Table:
    """Returns rows of several seeds around the value of each (model, start, dataset)."""
    luck, rows = random.Random(0), []
    for key, value in values.items():
        settings = dict(zip(EXPERIMENT.settings, key, strict=True))
        for seed in range(seeds):
            found = value + luck.uniform(-noise, noise)
            rows.append(Row("transfer", preset, "r", settings, seed, "ok", "test_accuracy", found, "fraction"))
    return Table(rows)


def verdicts(found: Table, name: str) -> dict[str, str]:
    judged = judge_all(transfer.claims(name, PRESETS[name]), Evidence(found, name, True))
    return {item.claim: item.verdict for item in judged}


def of_cifar(small: tuple[float, float, float], large: tuple[float, float, float]) -> Table:
    """Returns the accuracies of base ViT, larger ViT and BiT after the two pre-trainings."""
    names, (first, second) = map(str, PRESETS["cifar"].axes["model"]), map(str, PRESETS["cifar"].axes["pretraining"])
    return table(
        {
            (model, start, dataset): value + 0.1 * (dataset == "pets")
            for model, *both in zip(names, small, large, strict=True)
            for start, value in zip((first, second), both, strict=True)
            for dataset in ("pets", "flowers17")
        },
        "cifar",
    )


@pytest.mark.parametrize(
    ("small", "large", "expected"),
    [
        ((0.6, 0.5, 0.7), (0.6, 0.7, 0.65), (HOLDS, HOLDS, HOLDS, HOLDS)),  # as in the paper
        ((0.5, 0.6, 0.7), (0.7, 0.6, 0.65), (FAILS, FAILS, FAILS, FAILS)),
        ((0.6, 0.6, 0.7), (0.5, 0.7, 0.705), (HOLDS, UNDECIDED, HOLDS, HOLDS)),  # within the margin of BiT
    ],
)
def test_claims_on_tables_made_up(
    small: tuple[float, float, float], large: tuple[float, float, float], expected: tuple[str, ...]
) -> None:
    found = verdicts(of_cifar(small, large), "cifar")
    larger = "vit-128x4/4"
    assert (
        tuple(found[name] for name in (GOOD, f"{LOSES}:{larger}", f"{WINS}:{larger}", f"{GAINS}:{larger}")) == expected
    )


@pytest.mark.parametrize(("scratch", "expected"), [(0.5, HOLDS), (0.9, FAILS)])
def test_pre_training_pays_if_it_does_for_every_model(scratch: float, expected: str) -> None:
    names, starts = map(str, PRESETS["cpu"].axes["model"]), transfer.upstream(PRESETS["cpu"])
    values = {
        (model, start, "digits-5-9"): 0.7 if start or model == "bit-r11x0.15" else scratch
        for model in names
        for start in ("", *starts)
    }
    values["bit-r11x0.15", "", "digits-5-9"] = 0.6
    assert verdicts(table(values, "cpu"), "cpu")[PAYS] == expected


@pytest.mark.parametrize("large", ["ImageNet-21k", "JFT-300M"])
def test_the_paper_s_own_table_5_bears_out_its_claims(large: str) -> None:
    """L below B after ImageNet, above after JFT-300M, for both patch sizes; ImageNet-21k is in between."""
    starts = dict(zip(("ImageNet", large), map(str, PRESETS["paper"].axes["pretraining"]), strict=True))
    values = {
        (
            str(row.settings["model"]).lower(),
            starts[str(row.settings["pretraining"])],
            str(row.settings["dataset"]),
        ): row.value
        for row in paper_table_5().rows
        if row.settings["pretraining"] in starts and row.settings["dataset"] in AVERAGED
    }
    found = verdicts(table(values, "paper", noise=1e-4), "paper")
    for model in ("vit-l/16", "vit-l/32"):
        assert [found[f"{name}:{model}"] for name in (LOSES, WINS, GAINS)] == [HOLDS] * 3
    assert found[GOOD] == UNTESTED  # Table 5 has no BiT


def test_the_paper_s_own_table_2_bears_out_its_claim() -> None:
    names = {"ViT-L/16": "vit-l/16", "ViT-H/14": "vit-h/14", "BiT-L ResNet152x4": "bit-r152x4"}
    start = str(PRESETS["paper"].axes["pretraining"][-1])
    values = {
        (names[str(row.settings["model"])], start, str(row.settings["dataset"])): row.value
        for row in paper_table_2().rows
        if row.settings["model"] in names
        and row.settings["pretraining"] == "JFT-300M"
        and row.settings["dataset"] in AVERAGED
    }
    assert verdicts(table(values, "paper", noise=1e-4), "paper")[GOOD] == HOLDS


def test_the_paper_s_numbers_stand_beside_the_claims() -> None:
    papers = {claim.name: claim.paper for claim in transfer.claims("paper", PRESETS["paper"])}
    assert papers[GOOD].startswith("+0.29 points")
    assert papers[f"{LOSES}:vit-l/16"].startswith("+0.49 points")
    assert papers[f"{LOSES}:vit-l/32"].startswith("+0.21 points")
    assert papers[f"{WINS}:vit-l/16"].startswith("+1.37 points")
