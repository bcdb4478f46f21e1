"""Learning rates: those of the searches, by model or else by family, and never over what was asked for."""

from __future__ import annotations

import pytest

from vision_repro.config import RunConfig
from vision_repro.models.families import family
from vision_repro.presets.rates import (
    OF_FAMILY,
    SEARCH_GRID,
    SEARCHED,
    UNTUNED,
    fill,
    fill_searched,
    is_searched,
    learning_rate,
)


@pytest.mark.parametrize("dataset", SEARCHED)
def test_a_searched_model_has_its_rate_and_a_family_that_of_its_largest_one(dataset: str) -> None:
    largest = {"digits": {"vit": "vit-64x4/2", "bit": "bit-r11x0.3125", "hybrid": "r8x0.25+vit-64x3/2"}}
    largest["cifar10"] = {"vit": "vit-128x4/4", "bit": "bit-r14x0.3125/2"}
    for model, rate in SEARCHED[dataset].items():
        assert learning_rate(dataset, model) == rate
        assert rate in SEARCH_GRID
        assert is_searched(dataset, model)
    for name, model in largest[dataset].items():
        assert OF_FAMILY[dataset][name] == SEARCHED[dataset][model]
    assert OF_FAMILY[dataset]["hybrid"] == OF_FAMILY["cifar10"]["vit"]  # on CIFAR-10 no hybrid was searched


def test_other_models_have_their_family_s_rate_and_other_data_sets_the_one_that_is_alike() -> None:
    assert learning_rate("cifar10", "r8x0.25/2+vit-64x3/4") == 0.001
    assert learning_rate("digits", "bit-r8x0.15") == 0.003
    assert learning_rate("imagenette", "bit-r26x0.5/2") == learning_rate("cifar100", "bit-r26x0.5/2") == 0.003
    assert learning_rate("digits-0-4", "vit-32x4/2") == 0.003  # by family: the search was on all ten digits
    assert learning_rate("imagenet21k", "vit-b/16") == learning_rate("digits", "resnet20") == UNTUNED
    assert not is_searched("cifar10", "vit-32x4/2")


def test_a_rate_that_is_asked_for_stays_and_what_trains_nothing_has_none() -> None:
    run = RunConfig(model="vit-32x4/2")
    assert fill_searched("cpu", run).lr == 0.01
    assert fill(run, 0.5).lr == 0.5
    assert fill_searched("cpu", RunConfig(model="vit-32x4/2", lr=0.2)).lr == 0.2
    assert fill_searched("cpu", RunConfig(budget="none", weights="timm")).lr is None


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("vit-64x4/2-gap", "vit"),
        ("timm:vit_base_patch16_224.augreg_in21k", "vit"),
        ("r8x0.15/2+vit-32x3/2", "hybrid"),
        ("timm:vit_base_r50_s16_224.orig_in21k", "hybrid"),
        ("bit-r11x0.15", "bit"),
        ("timm:resnetv2_50x1_bit.goog_in21k", "bit"),
        ("resnet20", "resnet"),
        ("plain20x0.25", "plain"),
        ("alexnetx0.125", "alexnet"),
        ("alexnet-64x0.375", "alexnet"),
        ("googlenet-bn-noaux", "googlenet"),
        ("lenet5", "lenet"),
        ("swin-t-w7", "swin"),
        ("vgg11x0.125-bn", "vgg"),
        ("r50", "r"),
        ("vitamin", "vitamin"),
    ],
)
def test_families_are_told_by_the_name(model: str, expected: str) -> None:
    assert family(model) == expected
