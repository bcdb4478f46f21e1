"""The experiment on depth: grids, learning rates, parameters by a closed form, claims on planted tables, the figure."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from experiments import depth
from vision_repro import models
from vision_repro.analysis.claims import FAILS, HOLDS, Evidence, judge_all
from vision_repro.analysis.summary import summarise
from vision_repro.analysis.table import Row, Table
from vision_repro.cli import plan
from vision_repro.experiment import grid
from vision_repro.papers.tables import paper_table

JITTER = (0.0, 0.001, -0.001, 0.0005)
PRINTED = {row["model"]: float(row["value"]) / 100 for row in paper_table("resnet_depth") if "error" in row["metric"]}


def test_every_preset_is_a_grid_of_models_that_exist() -> None:
    assert {"smoke", "cpu", "cifar", "gpu", "paper"} == set(depth.PRESETS)
    for name, preset in depth.PRESETS.items():
        runs = grid(depth.EXPERIMENT, name, preset)
        assert len(set(runs)) == len(runs) == preset.seeds * len(depth.NETS[name].all)
        assert all(run.total_steps % run.evaluations == 0 for run in runs)
        assert preset.evidence is (name != "smoke")
        with torch.device("meta"):
            for run in runs[: len(depth.NETS[name].all)]:
                models.build(run.model, image_size=run.image_size, classes=10)


def test_learning_rates_are_those_of_the_family_unless_one_is_given() -> None:
    runs = plan(depth.EXPERIMENT, ["--preset=cpu"]).runs
    assert {run.lr for run in runs if run.model.startswith("vgg")} == {3e-3}
    assert {run.lr for run in runs if not run.model.startswith("vgg")} == {1e-2}
    assert {run.lr for run in plan(depth.EXPERIMENT, ["--lr=0.5"]).runs} == {0.5}


def parameters(layers: int, width: int) -> int:
    """A CIFAR network with shortcuts A, by hand: 3x3 kernels, scale and shift of each norm, the classifier."""
    n = (layers - 2) // 6
    found, inputs = 27 * width + 2 * width, width
    for channels in (width, 2 * width, 4 * width):
        found += 9 * inputs * channels + (2 * n - 1) * 9 * channels**2 + 2 * n * 2 * channels
        inputs = channels
    return found + inputs * 10 + 10


@pytest.mark.parametrize("kind", ["plain", "resnet"])
def test_parameters_have_their_closed_form_and_the_printed_millions(kind: str) -> None:
    table = paper_table("resnet_depth")
    printed = {int(row["layers"]): row["value"] for row in table if row["metric"] == "parameters"}
    assert sorted(printed) == [20, 32, 44, 56, 110]
    for layers, millions in printed.items():
        with torch.device("meta"):
            count = models.parameters(models.build(f"{kind}{layers}", image_size=32, classes=10))
            narrow = models.parameters(models.build(f"{kind}{layers}x0.25", image_size=32, classes=10))
        assert count == parameters(layers, 16)
        assert narrow == parameters(layers, 4)
        digits = len(millions.partition(".")[2])
        assert f"{count / 1e6:.{digits}f}" == millions


@pytest.mark.parametrize("name", ["cpu", "cifar", "gpu"])
def test_bottlenecks_have_about_the_parameters_and_the_blocks_of_basic_nets(name: str) -> None:
    with torch.device("meta"):
        basic, bottleneck = (models.build(item, image_size=32, classes=10) for item in depth.NETS[name].blocks)
    assert models.parameters(bottleneck) == pytest.approx(models.parameters(basic), rel=0.12)
    stages = ("layer1", "layer2", "layer3")
    assert [len(list(basic.get_submodule(stage).children())) for stage in stages] == [3, 3, 3]
    assert [len(list(bottleneck.get_submodule(stage).children())) for stage in stages] == [3, 3, 3]


def test_the_paper_s_table_says_what_the_paper_s_text_says() -> None:
    assert PRINTED["plain-34"] > PRINTED["plain-18"]
    assert PRINTED["ResNet-34"] < PRINTED["ResNet-18"] < PRINTED["plain-18"]
    assert PRINTED["ResNet-34 C"] < PRINTED["ResNet-34 B"] < PRINTED["ResNet-34 A"] == PRINTED["ResNet-34"]
    by_depth = [PRINTED[f"ResNet-{layers}"] for layers in (20, 32, 44, 56, 110)]
    assert by_depth == sorted(by_depth, reverse=True)
    assert PRINTED["VGG D"] < PRINTED["VGG E"] < PRINTED["VGG B"] < PRINTED["VGG A"]


def test_printed_differences_stand_in_the_claims_as_in_the_table() -> None:
    shown = {claim.name: claim.paper.partition(" ")[0] for claim in depth.claims("cpu", depth.PRESETS["cpu"])}
    pairs = {
        "plain-degrades:test": ("plain-34", "plain-18"),
        "residual-gains": ("ResNet-20", "ResNet-56"),
        "equal-when-shallow": ("plain-18", "ResNet-18"),
        "residual-beats-plain:test_accuracy": ("plain-34", "ResNet-34"),
        "vgg-gains": ("VGG A", "VGG D"),
        "vgg-saturates": ("VGG D", "VGG E"),
        "shortcut-B-beats-A": ("ResNet-34 A", "ResNet-34 B"),
        "shortcut-C-beats-B": ("ResNet-34 B", "ResNet-34 C"),
    }
    for name, (first, second) in pairs.items():
        assert float(shown[name]) == pytest.approx(100 * (PRINTED[first] - PRINTED[second]), abs=0.005), name


def table(accuracy: dict[str, float], gradients: float = 1.0, preset: str = "cpu") -> Table:
    """Four seeds of each model: equal training and test accuracy, its loss, and a gradient that falls by layer."""
    rows = []
    for place, (model, value) in enumerate(accuracy.items()):
        for seed, luck in enumerate(JITTER):
            luck *= 1 + place % 5 / 5
            known = {
                "train_accuracy": value + luck,
                "test_accuracy": value + luck,
                "final_train_loss": 2 - value + luck,
            }
            for prefix in depth.STATES:
                known |= {
                    f"{prefix}_{layer:02}": gradients ** ((9 - layer) / 8) * (1 + luck * layer)
                    for layer in range(1, 11)
                }
            rows += [
                Row("depth", preset, "r", {"model": model}, seed, "ok", metric, number, "fraction")
                for metric, number in known.items()
            ]
    return Table(rows)


def verdicts(found: Table, preset: str = "cpu") -> dict[str, str]:
    evidence = Evidence(found, preset, counts=True)
    return {item.claim: item.verdict for item in judge_all(depth.claims(preset, depth.PRESETS[preset]), evidence)}


def world(plain: tuple[float, ...], residual: tuple[float, ...], vgg: tuple[float, ...]) -> dict[str, float]:
    nets = depth.NETS["cpu"]
    known = dict(zip(nets.plain.values(), plain, strict=True)) | dict(
        zip(nets.residual.values(), residual, strict=True)
    )
    known |= dict(zip(nets.vgg.values(), vgg, strict=True))
    base = residual[1]
    return known | {nets.shortcuts["B"]: base + 0.005, nets.shortcuts["C"]: base + 0.008, nets.blocks[1]: base + 0.02}


def test_the_papers_world_makes_all_claims_hold() -> None:
    found = verdicts(table(world((0.7, 0.8, 0.6), (0.7, 0.803, 0.85), (0.7, 0.72, 0.75, 0.747))))
    assert len(found) == 23
    assert set(found.values()) == {HOLDS}


def test_a_world_without_degradation_lets_them_fail() -> None:
    found = verdicts(table(world((0.6, 0.7, 0.9), (0.6, 0.8, 0.7), (0.8, 0.75, 0.7, 0.6)), gradients=1e-6))
    fail = {name for name, verdict in found.items() if verdict == FAILS}
    assert {
        "plain-degrades",
        "plain-degrades:loss",
        "plain-degrades:test",
        "residual-does-not-degrade",
        "residual-gains",
        "equal-when-shallow",
        "residual-beats-plain:train_accuracy",
        "shortcuts-help-more-when-deeper:test_accuracy",
        "vgg-gains",
        "vgg-saturates",
        "gradients-do-not-vanish:plain:gradient_norm",
        "gradients-are-healthy:gradient_norm_start",
    } <= fail


def test_gradients_that_explode_have_not_vanished() -> None:
    found = verdicts(table(world((0.7, 0.8, 0.6), (0.7, 0.803, 0.85), (0.7, 0.72, 0.75, 0.747)), gradients=1e6))
    assert found["gradients-do-not-vanish:plain:gradient_norm_start"] == HOLDS
    assert found["gradients-are-healthy:gradient_norm_start"] == FAILS


def test_claims_are_only_on_models_of_the_command_line() -> None:
    planned = plan(depth.EXPERIMENT, ["--model=plain20x0.25,plain56x0.25"])
    assert depth.claims("cpu", planned.preset) == []
    planned = plan(depth.EXPERIMENT, ["--model=vgg11x0.125-bn-fc0,vgg16x0.125-bn-fc0"])
    assert [claim.name for claim in depth.claims("cpu", planned.preset)] == ["vgg-gains"]


def drawn(found: Table, name: str) -> Any:
    preset = depth.PRESETS[name]
    shown = judge_all(depth.claims(name, preset), Evidence(found, name, counts=preset.evidence))
    return depth.figure(summarise(found, ("model",)), shown, name, preset)


def test_the_figure_draws_errors_and_the_papers_numbers() -> None:
    values = world((0.7, 0.8, 0.6), (0.7, 0.803, 0.85), (0.7, 0.72, 0.75, 0.747))
    axes = drawn(table(values), "cpu").axes
    assert len(axes) == 5
    train, test, gradients = axes[:3]
    curves = sorted(list(line.get_ydata()) for line in train.get_lines() if len(line.get_ydata()) == 3)
    assert curves == [pytest.approx([30, 19.7, 15], abs=0.1), pytest.approx([30, 20, 40], abs=0.1)]
    printed = [list(line.get_ydata()) for line in test.get_lines() if len(line.get_ydata()) == 5]
    assert printed == [pytest.approx([8.75, 7.51, 7.17, 6.97, 6.43])]
    assert gradients.get_yscale() == "log"
    assert len([line for line in gradients.get_lines() if len(line.get_ydata()) == 10]) == 4


def test_an_empty_table_still_has_a_figure() -> None:
    assert len(drawn(Table([]), "cpu").axes) == 5
