"""Training recipes of the papers: schedule and hyper-parameters, as typed values. Imports no torch.

Steps are optimizer steps, counted from 0; sides are in pixels; rates are learning rates.
"""

from __future__ import annotations

import math
from typing import NamedTuple

LINEAR_END = 1e-5  # learning rate; vit_jax/utils.py


class Schedule(NamedTuple):
    """A learning rate over `steps`: "cosine", "linear" (to 1e-5) or "staircase" (divided by 10 at each boundary)."""

    kind: str
    steps: int
    warmup: int = 0
    boundaries: tuple[int, ...] = ()

    def rate(self, step: int, peak: float) -> float:
        """Returns the learning rate at `step`.

        Warm-up multiplies the rate by step / warmup; the schedule's progress starts at its end (`vit_jax/utils.py`).
        So the first step of a warm-up has rate 0, as in both releases.
        """
        ramp = min(1.0, step / self.warmup) if self.warmup else 1.0
        if self.kind == "staircase":
            return peak * ramp * 0.1 ** sum(step >= boundary for boundary in self.boundaries)
        progress = min(1.0, max(0.0, (step - self.warmup) / (self.steps - self.warmup)))
        if self.kind == "linear":
            return ramp * (LINEAR_END + (peak - LINEAR_END) * (1 - progress))
        return ramp * peak * 0.5 * (1 + math.cos(math.pi * progress))


class FineTuning(NamedTuple):
    """Fine-tuning by SGD with momentum; one of `learning_rates` is chosen on the fraction `dev_fraction` of train.

    Training images are resized to a square of side `resize`, whatever their shape, and cropped at random to `crop`;
    test images are resized to `crop`. None means that the source does not state the value, or does not use it.
    """

    schedule: Schedule
    learning_rates: tuple[float, ...]
    batch: int
    momentum: float
    weight_decay: float
    grad_clip: float | None
    resize: int | None
    crop: int
    mixup: float
    dev_fraction: float | None
    averaging: float | None
    source: str
    notes: tuple[str, ...] = ()


class PreTraining(NamedTuple):
    """Training from scratch; `optimizer` is "adam" with `momenta` (beta1, beta2), or "sgd" with one momentum."""

    schedule: Schedule
    learning_rate: float
    batch: int
    optimizer: str
    momenta: tuple[float, ...]
    weight_decay: float
    dropout: float
    grad_clip: float | None
    resolution: int
    epochs: int
    source: str
    notes: tuple[str, ...] = ()
