"""The probe of cost: a run's parameters and FLOPs are those of closed forms."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from vision_repro import models
from vision_repro.config import FRESH, Launch, RunConfig
from vision_repro.probes import cost
from vision_repro.store.runs import RunFolder
from vision_repro.training import run
from vision_repro.training.context import RunContext

# LeNet-5 on 32 pixels (LeCun et al. 1998, II.B, with plain pooling and all 16 x 6 kernels): weights, biases, taps.
WEIGHTS = 25 * 6 + 25 * 6 * 16 + 25 * 16 * 120 + 120 * 84 + 84 * 10
BIASES = 6 + 16 + 120 + 84 + 10
MACS = 28 * 28 * 25 * 6 + 10 * 10 * 25 * 6 * 16 + 25 * 16 * 120 + 120 * 84 + 84 * 10


@pytest.mark.parametrize("compiled", [False, True])
def test_lenet_costs_what_its_closed_form_says(compiled: bool) -> None:
    model = models.build("lenet5", image_size=32, classes=10)
    if compiled:
        model.compile()
    found = cost.measure_task(SimpleNamespace(model=model), SimpleNamespace(image_size=32))
    assert found == {"parameters": (WEIGHTS + BIASES, "parameters"), "forward_flops": (2 * MACS, "FLOPs")}


def test_an_untrained_run_has_a_cost_and_no_accuracy(tmp_path: Path) -> None:
    config = RunConfig(model="vit-32x2/2", train_size=40, budget="none", weights=FRESH, shots="", probes="cost")
    place = RunContext(
        folder=RunFolder(tmp_path, config),
        launch=Launch(wandb="off"),
        cache=tmp_path / "cache",
        settings=("model",),
        accelerator="cpu",
        report=lambda message: None,
    )
    assert set(run.execute(config, place)["metrics"]) == {"parameters", "forward_flops"}
