"""How long a model takes to look at an image, on this device; and what its attention costs, by the accountant.

Seconds are measured in float32 in eval mode with fused attention, whatever the run trained with, on a few test images
at once, after warm-up. The shortest of many passes counts: a pass does the same work each time, so all that differs
between passes is what else the machine does, and that only adds.

`forward_seconds` is the one thing in a table that does not repeat bit by bit. Of several processes the first tells its
own time. Legend: N images, S their side [pixels].
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
"""Images of a pass; of a single small one, most of the time would be the calls of the operations."""
WARM_UP = 1
"""Passes before those that are measured."""
FEWEST, ENOUGH = 5, 0.7
"""Passes that are measured at least, and the time after which no further one begins [s]."""


def measure_task(task: Any, module: Any) -> dict[str, tuple[float, str]]:
    """Returns `forward_seconds` of one image, and `attention_flops`, those of both attention products of one image.

    The products are Q K' and the softmax matrix times V, multiply-add = 2, without the projections around them and
    without the softmax; a model without attention has 0.
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
    """Returns the shortest time that `work` took [s], of at least `FEWEST` times after `WARM_UP` that do not count."""
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
    """Does a forward pass and waits until the device is through with it."""
    model(inputs)
    if inputs.device.type == "cuda":
        torch.cuda.synchronize(inputs.device)


@contextmanager
def _as_measured(model: nn.Module) -> Iterator[None]:
    """Makes the model use fused attention in eval mode inside the block, and leaves it as it was."""
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
