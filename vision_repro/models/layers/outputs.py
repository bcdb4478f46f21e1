"""The output of an architecture with auxiliary classifiers in training."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class WithAuxiliary(NamedTuple):
    """Logits `[B, K]`, the logits of the auxiliary classifiers, and the weight of each auxiliary loss.

    `forward` returns it in training mode only, where every parameter must be part of the loss. In evaluation mode the
    auxiliary classifiers do not run, and `forward` returns the logits alone.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    weight: float
