"""The smoke preset of every experiment goes all the way to figure, table, verdicts and summary, and is no evidence.

Each runs in a process of its own: a fork after autograd was used in the test process would fail.
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import experiments
from tests.launch.forked import Forked
from vision_repro.analysis.claims import UNTESTED
from vision_repro.analysis.compute import COMPUTE
from vision_repro.analysis.table import Table

ROOT = Path(__file__).parents[2]
NAMES = [item.name for item in pkgutil.iter_modules(experiments.__path__)]
FILES = {"config.yaml", "figure.pdf", "figure.png", "figure.svg", "provenance.json", "summary.csv", "summary.md"}
# What is asked for beyond the preset: less, where it has more than has to be shown, or more.
OPTIONS: dict[str, tuple[str, ...]] = {
    "cifar100_assignment": ("--model=resnet8,vit-32x2/2",),
    "inductive_bias": ("--train_size=20,40",),
    "masked_patch": ("--pretraining=scratch,supervised,mean-colour,mae,mean-colour@2",),
    "normalisation_and_regularisation": ("--variant=minus-none,batch-norm-lr0.1,none,elastic-net,augmentation,hinge",),
    "test_time_crops": ("--model=resnet8x0.5",),
    "transfer": ("--model=vit-32x1/2,bit-r8x0.15", "--pretraining=scratch,digits-0-4@2"),
}
AGAIN = ("masked_patch", "compute_accuracy")
"""Experiments, with runs before runs, that are asked for twice."""
# Metrics of the table, beside the accuracy on test.
METRICS: dict[str, tuple[str, ...]] = {
    "attention_distance": ("attention_distance_l00_h00",),
    "cifar100_assignment": ("training_seconds", "forward_flops"),
    "compute_accuracy": (COMPUTE,),
    "depth": ("gradient_norm_start_14", "gradient_norm_01", "train_accuracy", "final_train_loss", "parameters"),
    "inception": ("forward_flops", "gradient_norm_start_58", "gradient_norm_01"),
    "inductive_bias": ("shift_consistency_02",),
    "kernel_size": ("parameters", "forward_flops"),
    "masked_patch": ("few_shot_5", "linear_accuracy"),
    "normalisation_and_regularisation": ("train_accuracy",),
    "position_embedding": ("few_shot_5",),
    "swin": ("forward_seconds", "attention_flops", "forward_flops"),
    "transfer": ("lr", "pretraining_flops"),
    "vit_head": ("few_shot_5",),
}


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    started = Forked(ROOT)
    yield started
    started.close()
    assert started.process.stdout is not None
    started.process.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_smoke_goes_all_the_way_and_is_no_evidence(name: str, forked: Forked, tmp_path: Path) -> None:
    tokens = ["--preset=smoke", "--precision=fp32", *OPTIONS.get(name, ())]
    out = tmp_path / "out"
    code, text = forked.run(f"experiments.{name}", tokens, out)
    assert code == 0, text
    folder = next(out.glob(f"{name}/smoke*"))
    assert {"table.csv", "verdicts.json", *FILES} <= {item.name for item in folder.iterdir()}
    verdicts = json.loads((folder / "verdicts.json").read_text())
    assert {item["verdict"] for item in verdicts} <= {UNTESTED}
    assert all(item["claim"] in text or item["statement"] in text for item in verdicts)
    table = Table.read(folder / "table.csv")
    assert {row.status for row in table.rows} == {"ok"}
    assert {"test_accuracy", *METRICS.get(name, ())} <= {row.metric for row in table.rows}
    summary = (folder / "summary.md").read_text()
    assert summary.startswith(f"# {name}, preset smoke")
    assert UNTESTED in summary or not verdicts
    CHECKS.get(name, lambda table, folder: None)(table, folder)
    if name in AGAIN:
        assert "runs to train" in text
        code, twice = forked.run(f"experiments.{name}", tokens, out)
        assert code == 0
        more = twice[len(text) :]  # the log goes on where it ended
        assert "runs to train" not in more or ": 0 of " in more


def _compute(table: Table, folder: Path) -> None:
    """Twice the steps are twice the compute."""
    one, two = (table.values(COMPUTE, model="vit-32x2/2", pretraining=f"digits@{steps}")[0] for steps in (1, 2))
    assert 0 < two == 2 * one
    assert len(table.select(metric="test_accuracy").rows) == 6


def _depth(table: Table, folder: Path) -> None:
    summary = (folder / "summary.md").read_text()
    assert "final train loss [nats]" in summary
    assert "| parameters |" in summary


def _masked(table: Table, folder: Path) -> None:
    """All starts are there, and their features differ."""
    starts = table.levels("pretraining")
    assert starts == ["", "mae", "mean-colour", "mean-colour@2", "supervised"]
    for metric in ("few_shot_5", "linear_accuracy"):
        values = [table.values(metric, pretraining=start, budget="none") for start in starts]
        assert all(len(value) == 1 for value in values), metric
        assert len({value[0] for value in values}) > 1, "all starts have the same features"


def _swin(table: Table, folder: Path) -> None:
    """One size is trained at, and costs are measured at all."""
    sizes = {
        metric: {row.settings["image_size"] for row in table.select(metric=metric).rows}
        for metric in ("test_accuracy", "val_accuracy", "forward_seconds", "attention_flops", "forward_flops")
    }
    assert sizes["test_accuracy"] == sizes["val_accuracy"] == {8}
    assert sizes["forward_seconds"] == sizes["attention_flops"] == sizes["forward_flops"] == {8, 16}
    assert all(row.value > 0 for row in table.select(metric="forward_seconds").rows)


def _crops(table: Table, folder: Path) -> None:
    assert table.levels("views") == ["crop", "fifty", "ten"]  # the training is no row


def _transfer(table: Table, folder: Path) -> None:
    """Position embeddings are resized, from 4 x 4 patches of 8 pixels to 6 x 6 of 12; a BiT has none."""
    assert {row.settings["pretraining"] for row in table.rows} == {"", "digits-0-4@2"}
    assert {row.value for row in table.rows if row.metric == "lr"} <= {0.003, 0.01, 0.03}
    flops = {row.settings["model"] for row in table.rows if row.metric == "pretraining_flops" and row.value > 0}
    assert flops == {"vit-32x1/2", "bit-r8x0.15"}
    resized: dict[str, Any] = {}
    for file in folder.parent.parent.glob("**/runs/*/provenance.json"):
        loaded = json.loads(file.read_text())["weights"]
        if loaded:
            config = (file.parent / "config.yaml").read_text()
            resized[next(str(name) for name in flops if f"model: {name}\n" in config)] = loaded["resized"]
    assert resized == {"vit-32x1/2": True, "bit-r8x0.15": False}


CHECKS: dict[str, Callable[[Table, Path], None]] = {
    "compute_accuracy": _compute,
    "depth": _depth,
    "masked_patch": _masked,
    "swin": _swin,
    "test_time_crops": _crops,
    "transfer": _transfer,
}


def test_the_tables_name_experiments_that_exist() -> None:
    assert {*OPTIONS, *METRICS, *CHECKS} <= set(NAMES)
