"""The cost of a model as `accounting` counts it: its parameters, and the FLOPs of one image in the forward pass.

A multiply-add is 2 FLOPs, over all taps of a convolution. The parameters include auxiliary classifiers; their FLOPs are
not counted, because they do not run at test time.
"""

from __future__ import annotations

from typing import Any

from vision_repro.accounting.profiler import account
from vision_repro.tasks.forward_flops import FLOPS_PER_MAC


def measure_task(task: Any, module: Any) -> dict[str, tuple[float, str]]:
    """Returns `parameters` and `forward_flops` of the task's model at the image size of the data."""
    found = account(task.model, module.image_size)
    return {"parameters": (found.parameters, "parameters"), "forward_flops": (FLOPS_PER_MAC * found.macs(), "FLOPs")}
