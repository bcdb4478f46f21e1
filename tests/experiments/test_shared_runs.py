"""Experiments that measure the models of data_scaling name the runs that it trains, so that each is trained once."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest

from vision_repro.config import RunConfig, run_id
from vision_repro.config import weights_config as weights
from vision_repro.experiment import Experiment, linked

# Experiment -> preset -> models whose runs are data_scaling's.
SHARED: dict[str, dict[str, set[str]]] = {
    "attention_distance": {
        "smoke": {"vit-32x4/2"},
        "cpu": {"vit-32x4/2", "vit-64x4/2"},
        "cifar": {"vit-64x4/4", "vit-128x4/4"},
        "gpu": {"vit-64x4/4", "vit-128x4/4"},
    },
    "position_embedding": {
        "smoke": {"vit-32x4/2"},
        "cpu": {"vit-64x4/2"},
        "cifar": {"vit-64x4/4"},
        "gpu": {"vit-128x4/4"},
    },
    "vit_head": {"smoke": {"vit-32x4/2"}, "cpu": {"vit-64x4/2"}, "cifar": {"vit-64x4/4"}, "gpu": {"vit-128x4/4"}},
    "compute_accuracy": {
        "cpu": {"vit-32x4/2", "vit-64x4/2", "bit-r11x0.15", "bit-r11x0.3125", "r8x0.25+vit-64x3/2"},
        "cifar": {"vit-64x4/4", "bit-r11x0.3125/2", "bit-r14x0.3125/2"},
        "gpu": {"vit-64x4/4", "vit-128x4/4", "bit-r11x0.3125/2", "bit-r14x0.3125/2", "r8x0.25/2+vit-64x3/4"},
    },
    "transfer": {
        "cifar": {"vit-64x4/4", "vit-128x4/4", "bit-r14x0.3125/2"},
        "gpu": {"vit-64x4/4", "vit-128x4/4", "bit-r14x0.3125/2"},
    },
}
PLACES = [(name, preset) for name, presets in SHARED.items() for preset in presets]


def trained(name: str, preset: str) -> list[RunConfig]:
    """Returns the runs of a preset that train from scratch, and those they start from."""
    experiment: Experiment = importlib.import_module(f"experiments.{name}").EXPERIMENT
    runs, before = linked(experiment, preset, experiment.presets[preset])
    return [run for run in (*runs, *before) if run.budget != "none" and not run.weights]


def of_data_scaling(preset: str) -> set[RunConfig]:
    return {weights(run) for run in trained("data_scaling", preset)}


@pytest.mark.parametrize(("name", "preset"), PLACES)
def test_the_shared_models_are_trained_once_for_every_seed_that_both_have(name: str, preset: str) -> None:
    there, ours = of_data_scaling(preset), [weights(run) for run in trained(name, preset)]
    shared = {run for run in ours if run in there}
    assert {run.model for run in shared} == SHARED[name][preset]
    seeds = {run.seed for run in ours} & {run.seed for run in there}
    assert len(seeds) == min(len({run.seed for run in ours}), len({run.seed for run in there}))
    for model in SHARED[name][preset]:
        found = [run for run in shared if run.model == model]
        assert {run.seed for run in found} == seeds
        assert len(found) == len(seeds)  # one run a seed: with all training images, at the rate that was searched
        assert {run.train_size for run in found} == {max(run.train_size for run in there)}


def test_attention_at_cifar_trains_nothing_of_its_own() -> None:
    assert {weights(run) for run in trained("attention_distance", "cifar")} <= of_data_scaling("cifar")


def test_transfer_at_cifar_pre_trains_on_imagenette_only() -> None:
    own = {weights(run) for run in trained("transfer", "cifar") if not run.pretraining} - of_data_scaling("cifar")
    assert {run.dataset for run in own} == {"imagenette"}


@pytest.mark.parametrize(
    "change",
    [{"lr": 0.5}, {"steps": 7}, {"global_batch": 8}, {"seed": 99}, {"evaluations": 1}, {"augmentation": "flip"}],
)
def test_a_run_that_differs_in_its_training_is_another(change: dict[str, float]) -> None:
    run = trained("data_scaling", "cpu")[0]
    assert weights(replace(run, **change)) not in of_data_scaling("cpu")  # type: ignore[arg-type]
    assert weights(replace(run, shots="3", probes="cost")) in of_data_scaling("cpu")
    assert run_id(replace(run, shots="3", probes="cost")) == run_id(run)
