"""The probe of seconds: which of many times counts, how a model is timed and left, and attention's products."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vision_repro import models
from vision_repro.augmentation.batch import Batch
from vision_repro.models.swin import msa_macs, wmsa_macs
from vision_repro.probes import dispatch, forward_seconds


def task_of(model: nn.Module) -> Any:
    return SimpleNamespace(model=model, device=torch.device("cpu"), normalise=lambda images: images / 127.5 - 1)


def data_of(size: int, count: int = 6) -> Any:
    def batches() -> Iterator[Batch]:
        yield Batch(torch.zeros(count, 3, size, size, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64))

    return SimpleNamespace(
        world=1, image_size=size, pool_dataloader=batches, val_dataloader=batches, test_dataloader=batches
    )


def measured(name: str, size: int) -> dict[str, Any]:
    torch.manual_seed(0)
    task = task_of(models.build(name, image_size=size, classes=10))
    return forward_seconds.measure_task(task, data_of(size))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_seconds, "ENOUGH", 0.0)


def test_the_shortest_pass_counts_and_the_first_ones_do_not() -> None:
    now, lengths = [0.0], iter([0.01, 5.0, 2.0, 9.0, 3.0, 2.5, *[4.0] * 90])  # the warm-up is the shortest of all

    def work() -> None:
        now[0] += next(lengths)

    assert forward_seconds.WARM_UP == 1
    assert forward_seconds.shortest(work, lambda: now[0]) == 2.0


def test_short_passes_are_measured_until_it_is_enough_and_long_ones_at_least_a_few_times() -> None:
    for length, expected in ((0.01, 70), (10.0, forward_seconds.FEWEST)):
        now, calls = [0.0], [0]

        def work(length: float = length, now: list[float] = now, calls: list[int] = calls) -> None:
            now[0] += length
            calls[0] += 1

        forward_seconds.shortest(work, lambda now=now: now[0])  # type: ignore[misc]
        assert calls[0] - forward_seconds.WARM_UP == pytest.approx(expected, abs=1)


@pytest.mark.usefixtures("quick")
def test_a_model_is_timed_in_eval_mode_with_fused_attention_and_left_as_it_was() -> None:
    model = models.build("swin-16x2.2/1-w4", image_size=8, classes=10)
    model.train()
    model.get_submodule("norm").eval()
    models.use_explicit_attention(model, True)
    seen: list[tuple[bool, bool, torch.dtype, int]] = []
    attention = model.get_submodule("layers.0.blocks.0.attn")

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].device.type != "meta":  # the accountant's copy
            fused = bool(vars(module)["fused_attn"])
            seen.append((module.training, fused, inputs[0].dtype, len(inputs[0])))

    attention.register_forward_pre_hook(look)
    forward_seconds.measure_task(task_of(model), data_of(8))
    assert len(seen) == forward_seconds.WARM_UP + forward_seconds.FEWEST
    assert set(seen) == {(False, True, torch.float32, forward_seconds.IMAGES)}
    assert attention.training
    assert not model.get_submodule("norm").training
    assert not any(vars(module).get("fused_attn", False) for module in model.modules())


@pytest.mark.usefixtures("quick")
def test_seconds_are_of_one_image_and_rise_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = measured("swin-16x1.1/1-w4", 8), measured("swin-16x1.1/1-w4", 64)
    assert large["forward_seconds"][0] > 4 * small["forward_seconds"][0] > 0  # 64 times the pixels
    assert small["forward_seconds"][1] == "s"
    monkeypatch.setattr(forward_seconds, "shortest", lambda work: 2.0)
    assert measured("swin-16x1.1/1-w4", 8)["forward_seconds"] == (2.0 / forward_seconds.IMAGES, "s")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("size", [8, 16])
@pytest.mark.parametrize("options", ["-w4", "-global", "-w2-noshift", "-w4-nobias"])
def test_products_are_those_of_the_equations(options: str, size: int) -> None:
    """Eq. 1 and 2 without their first term, the projections; two blocks, then one of twice the channels."""
    expected = 0
    for stage, blocks in ((0, 2), (1, 1)):
        side, channels = size >> stage, 16 << stage
        window = side if options == "-global" else int(options[2])
        whole = msa_macs(side, side, channels) if window == side else wmsa_macs(side, side, channels, window)
        expected += 2 * blocks * (whole - 4 * side**2 * channels**2)
    assert measured(f"swin-16x2.1/1{options}", size)["attention_flops"] == (expected, "FLOPs")


@pytest.mark.usefixtures("quick")
def test_a_network_without_attention_has_no_products() -> None:
    found = measured("lenet5", 32)
    assert found["attention_flops"] == (0, "FLOPs")
    assert found["forward_seconds"][0] > 0


def test_it_is_a_probe() -> None:
    assert "forward_seconds" in dispatch.names()
