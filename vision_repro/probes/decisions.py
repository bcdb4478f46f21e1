"""Predicts the classes of modified images, for the probes of shifts, shuffled patches and textures.

Legend: N images, C channels, S their side [pixels].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IMAGES = 500
"""Number of test images that are modified: the first ones."""
PART = 250
"""Images in a forward pass."""


@torch.inference_mode()
def decide(task: Any, images: Tensor) -> Tensor:
    """Returns the class int64 `[N]`, on the CPU, of uint8 images `[N, C, S, S]`; the task is in eval mode."""
    parts = [task.predict(images[start : start + PART].to(task.device)) for start in range(0, len(images), PART)]
    return torch.cat(parts).cpu()


def share(flags: Tensor) -> float:
    """Returns the fraction of a boolean tensor that is true."""
    return int(flags.sum()) / flags.numel()
