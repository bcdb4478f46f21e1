"""The experiment on test-time crops: presets, one training for all views, exact cost, claims, figure, command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments import test_time_crops as crops_experiment
from experiments.test_time_crops import COUNTS, EXPERIMENT, PRESETS, claims, flops_by_views, printed
from vision_repro import data, datasets, models
from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Evidence, judge_all
from vision_repro.analysis.summary import summarise
from vision_repro.analysis.table import Row, Table
from vision_repro.augmentation import crops, policy
from vision_repro.cli import plan
from vision_repro.config import Launch, RunConfig, UserError
from vision_repro.data.config import DataConfig
from vision_repro.experiment import linked
from vision_repro.tasks.classifier import Classifier

MODELS = tuple(map(str, PRESETS["cpu"].axes["model"]))
LUCK = (-0.004, -0.001, 0.001, 0.004)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_models_that_exist_on_data_that_can_be_cropped(name: str) -> None:
    preset = PRESETS[name]
    runs, before = linked(EXPERIMENT, name, preset)
    assert len(runs) == 3 * len(preset.axes["model"]) * preset.seeds == 3 * len(before)
    assert preset.evidence is (name != "smoke")
    assert all(run.steps % run.evaluations == 0 for run in before)
    base = preset.base
    assert policy.parse(base.augmentation).needs_whole_images is datasets.is_streamed(base.dataset)
    data.check(DataConfig.of(base, Launch(), Path()))
    with torch.device("meta"):
        for model in preset.axes["model"]:
            models.build(str(model), image_size=base.image_size, classes=10)


def test_a_model_and_seed_is_trained_once_for_all_views() -> None:
    planned = plan(EXPERIMENT, ["--preset=cpu", "--seeds=2", "--lr=0.01"])
    assert {(run.budget, run.views, run.lr, run.pretraining) for run in planned.upstream} == {
        ("steps", "crop", 0.01, "")
    }
    starts: dict[tuple[str, int], set[str]] = {}
    for run in planned.runs:
        assert run.budget == "none"
        starts.setdefault((run.model, run.seed), set()).add(run.weights)
    assert len(planned.upstream) == len(starts) == 4
    assert [len(found) for found in starts.values()] == [1] * 4
    assert len(set.union(*starts.values())) == 4


def test_an_unknown_start_is_refused() -> None:
    with pytest.raises(UserError, match='--pretraining="pretrained" is unknown to test_time_crops'):
        plan(EXPERIMENT, ["--preset=cpu", "--pretraining=pretrained"])


def test_the_counts_are_those_of_the_views() -> None:
    assert {kind: crops.VIEWS[kind] for kind in COUNTS} == COUNTS


def test_crops_at_alexnet_s_scale_are_cut_from_the_pixels_of_cifar_without_resizing() -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    found = crops.views(images, "ten", PRESETS["cifar"].base.image_size)
    assert found[:, 0].equal(images[..., :28, :28])
    assert found[:, 3].equal(images[..., 4:, 4:])
    assert found[:, 4].equal(images[..., 2:30, 2:30])
    assert found[:, 9].equal(images[..., 2:30, 2:30].flip(-1))


@pytest.mark.parametrize("model", ["resnet8x0.5", "vit-32x2/2"])
def test_a_prediction_costs_its_views_times_a_forward_pass_by_another_counter(model: str) -> None:
    config = RunConfig(model=model, image_size=8)
    net = models.build(model, image_size=8, classes=10)
    models.use_explicit_attention(net, True)
    task = Classifier(net, lr=0.0, weight_decay=0.0, steps=1).eval()
    for kind, flops in flops_by_views(config, 10).items():
        count = crops.VIEWS[kind]
        images = torch.zeros(1, *((count,) if count > 1 else ()), 3, 8, 8, dtype=torch.uint8)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            task.predict(images)
        assert counter.get_total_flops() == flops == count * flops_by_views(config, 10)["crop"]


def table(values: dict[str, float], lift: float = 0.0) -> Table:
    """Returns four seeds of both models around the accuracies by views; `lift` makes gains differ between seeds."""
    rows = []
    for model in MODELS:
        for views, value in values.items():
            for seed, luck in enumerate(LUCK):
                noisy = value + luck + lift * luck * list(COUNTS).index(views)
                settings = {"model": model, "views": views}
                rows.append(Row("x", "cpu", "r", settings, seed, "ok", "test_accuracy", noisy, "fraction"))
    return Table(rows)


def verdicts(found: Table) -> dict[str, str]:
    judged = judge_all(claims("cpu", PRESETS["cpu"]), Evidence(found, "cpu", True))
    return {item.claim.rpartition(":")[0]: item.verdict for item in judged if item.claim.endswith(MODELS[0])}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.61, 0.625, 0.630), (HOLDS, HOLDS, HOLDS)),  # AlexNet's top-1, and less from then on
        ((0.70, 0.69, 0.68), (FAILS, FAILS, FAILS)),
        ((0.70, 0.69, 0.74), (FAILS, HOLDS, FAILS)),
        ((0.70, 0.72, 0.70), (HOLDS, FAILS, HOLDS)),
        ((0.70, 0.70, 0.70), (UNDECIDED, UNDECIDED, UNDECIDED)),
    ],
)
def test_planted_tables_get_their_verdicts(values: tuple[float, ...], expected: tuple[str, ...]) -> None:
    found = verdicts(table(dict(zip(COUNTS, values, strict=True)), lift=0.1))
    assert tuple(found.values()) == expected
    assert list(found) == ["ten-better-than-one", "fifty-better-than-ten", "later-views-gain-less"]


def test_later_views_are_compared_with_as_many_of_the_first() -> None:
    """9 views gain 0.9 points, the 40 after them 4.0 or 4.2, which is 0.9 or 0.945 for nine."""
    for fifty, expected in ((0.749, UNTESTED), (0.751, FAILS)):  # exactly equal gains have no spread
        values = {"crop": 0.7, "ten": 0.709, "fifty": fifty}
        judged = judge_all(claims("cpu", PRESETS["cpu"]), Evidence(table(values, lift=0.01), "cpu", True))
        item = next(item for item in judged if item.claim.startswith("later"))
        assert item.estimate is not None
        assert item.estimate.mean == pytest.approx(0.009 - 9 / 40 * (fifty - 0.709), abs=1e-4)
        assert item.verdict == expected or expected == UNTESTED


def test_claims_are_about_the_views_that_were_asked_for() -> None:
    preset = replace(PRESETS["cpu"], axes={**PRESETS["cpu"].axes, "views": ("crop", "ten")})
    assert [item.name for item in claims("cpu", preset)] == [f"ten-better-than-one:{model}" for model in MODELS]


def test_the_papers_own_numbers() -> None:
    found = printed()
    assert found["AlexNet, top-1"][10] - found["AlexNet, top-1"][1] == pytest.approx(0.015)
    assert found["AlexNet, top-5"][10] - found["AlexNet, top-5"][1] == pytest.approx(0.013)
    google = found["GoogLeNet, top-5"]
    assert (google[10] - google[1], google[144] - google[1]) == pytest.approx((0.0092, 0.0218))  # printed in Table 3
    assert (google[10] - google[1]) - 9 / 134 * (google[144] - google[10]) == pytest.approx(0.0084, abs=5e-5)
    gains = [curve[max(curve)] - curve[1] for curve in found.values()]
    assert min(gains) > 0.009


def test_the_figure_shows_our_views_their_cost_and_the_papers() -> None:
    rows = summarise(table({"crop": 0.6, "ten": 0.62, "fifty": 0.63}, lift=0.1), EXPERIMENT.settings)
    drawn = crops_experiment.figure(rows, [], "cpu", PRESETS["cpu"])
    counted, priced, theirs = drawn.axes[:3]
    for model, line in enumerate(counted.lines[:2]):
        assert [point[1] for point in line.get_xydata()] == pytest.approx([60, 62, 63]), model
    ratios = {
        round(max(line.get_xdata()) / min(line.get_xdata())) for line in priced.lines if len(line.get_xdata()) == 3
    }
    assert ratios == {50}
    assert len(theirs.lines) >= 4
