"""The time of a forward pass per image on this device, and the FLOPs of attention as `accounting` counts them.

Seconds are measured in float32, in eval mode and with fused attention, whatever the run used in training, on a few test
images at once and after warm-up. The shortest of many passes is reported: each pass does the same work, so passes
differ only by other load on the machine, which can only add time.

Unlike other metrics, `forward_seconds` differs from one measurement to the next. With several processes, the time is
that of the first. Legend: N images, S their side [pixels].
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from vision_repro.accounting.profiler import account
from vision_repro.models import use_explicit_attention
from vision_repro.probes.images import first_images
from vision_repro.tasks.forward_flops import FLOPS_PER_MAC

IMAGES = 4
"""Images per pass; with one small image, calling the operations would take most of the time."""
WARM_UP = 1
"""Passes before the measured ones."""
FEWEST, ENOUGH = 5, 0.7
"""Minimum number of measured passes, and the time after which no further pass starts [s]."""


def measure_task(task: Any, module: Any) -> dict[str, tuple[float, str]]:
    """Returns `forward_seconds` and `attention_flops` of one image.

    `attention_flops` are those of two products, Q K' and the softmax matrix times V, with multiply-add = 2; projections
    and softmax are not included. A model without attention has 0.
    """
    images = first_images(module, "test", IMAGES).images.to(task.device)
    with _as_measured(task.model), torch.inference_mode():
        inputs = task.normalise(images)
        taken = shortest(lambda: _pass(task.model, inputs))
    products = sum(layer.macs for layer in account(task.model, module.image_size).layers if layer.kind == "attention")
    return {
        "forward_seconds": (taken / len(images), "s"),
        "attention_flops": (FLOPS_PER_MAC * products, "FLOPs"),
    }


def shortest(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Returns the shortest time of `work` [s], over at least `FEWEST` calls after `WARM_UP` unmeasured ones."""
    for _ in range(WARM_UP):
        work()
    begin = clock()
    times: list[float] = []
    while len(times) < FEWEST or clock() - begin < ENOUGH:
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


def _pass(model: nn.Module, inputs: torch.Tensor) -> None:
    """Does a forward pass and waits until the device has finished it."""
    model(inputs)
    if inputs.device.type == "cuda":
        torch.cuda.synchronize(inputs.device)


@contextmanager
def _as_measured(model: nn.Module) -> Iterator[None]:
    """Makes the model use fused attention in eval mode inside the block, and restores both at the end."""
    kept = [(module, vars(module)["fused_attn"]) for module in model.modules() if "fused_attn" in vars(module)]
    training = {module: module.training for module in model.modules()}
    use_explicit_attention(model, False)
    model.eval()
    try:
        yield
    finally:
        for module, fused in kept:
            vars(module)["fused_attn"] = fused
        for module, mode in training.items():
            module.training = mode
