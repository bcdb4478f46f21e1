"""What an architecture with auxiliary classifiers returns in training."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class WithAuxiliary(NamedTuple):
    """Logits `[B, K]`, those of the auxiliary classifiers, and the weight of each auxiliary loss.

    Returned by `forward` in training mode only, so that every parameter takes part in the loss; in eval mode the
    auxiliary classifiers do not run, and `forward` returns the logits alone.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    weight: float
