"""Few-shot linear accuracy on frozen features: ridge regression in closed form (ViT, section 4.1).

The protocol is that of the authors' code (`big_vision/evaluators/fewshot_lsr.py`): features are standardised with the
statistics of the few-shot images, a constant feature is the bias, targets are -1 and 1, l2 is fixed, and within a draw
fewer shots are a subset of more.
Legend: N images, D features, K classes. Features come from a frozen model in eval mode (`vision_repro.models`).

Deviation: Cholesky in float64 instead of `eigh` in float32; it gives the same weights up to rounding, and is faster.
Deviation: the caller chooses the images (the authors resize to 256 and crop to 224).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vision_repro.config import UserError
from vision_repro.probes.ridge import solve

L2 = 1024.0  # 2^10, fixed
BIAS = 100.0  # value of the constant feature: so large that l2 has little effect on its weight
EPSILON = 1e-5  # added to each standard deviation


class Ridge(NamedTuple):
    """A fitted linear classifier: weights `[D + 1, K]`, where the bias is last; mean and scale `[D]`; all float64."""

    weights: Tensor
    mean: Tensor
    scale: Tensor
    bias: float

    def predict(self, features: Tensor) -> Tensor:
        """Returns the class of each row of features `[N, D]`, int64 `[N]`."""
        return (self._design(features) @ self.weights).argmax(1)

    def _design(self, features: Tensor) -> Tensor:
        standard = (features.double() - self.mean) / self.scale
        return torch.cat([standard, standard.new_full((len(standard), 1), self.bias)], 1)


def ridge(features: Tensor, labels: Tensor, classes: int, *, l2: float = L2, bias: float = BIAS) -> Ridge:
    """Returns the classifier fitted to features `[N, D]` and labels `[N]`, standardised by their own statistics.

    Raises:
        ValueError: if a feature is not finite, for example because the model has diverged.
    """
    features = features.double()
    if not features.isfinite().all():
        raise ValueError("The features hold values that are not finite: the model has diverged.")
    mean, scale = features.mean(0), features.std(0, correction=0) + EPSILON
    start = Ridge(features.new_zeros(features.shape[1] + 1, classes), mean, scale, bias)
    targets = 2 * torch.nn.functional.one_hot(labels, classes).double() - 1
    return start._replace(weights=solve(start._design(features), targets, l2))


def draw_shots(labels: Tensor, classes: int, shots: int, *, draw: int, seed: int) -> Tensor:
    """Returns the indices of `shots` random images of each class that occurs, int64 `[K, shots]`.

    Depends on labels, seed and draw only, and is nested: fewer shots are the first columns. Classes without images are
    left out, so that the other classes of an incomplete data set can be measured.

    Raises:
        UserError: if a class that occurs has fewer than `shots` images.
    """
    counts = torch.bincount(labels.cpu(), minlength=classes).tolist()
    occurring = [label for label, count in enumerate(counts) if count]
    poorest = min(occurring, key=lambda label: counts[label])
    if counts[poorest] < shots:
        raise UserError(
            f"{shots} shots need {shots} images of every class, but class {poorest} has {counts[poorest]} "
            f"to draw from: set --shots to at most {counts[poorest]}."
        )
    order = np.random.default_rng([seed, draw]).permutation(len(labels))
    shuffled = labels.cpu().numpy()[order]
    chosen = np.stack([order[shuffled == label][:shots] for label in occurring])
    return torch.from_numpy(chosen).to(labels.device)


def few_shot_accuracy(
    pool_features: Tensor,
    pool_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    classes: int,
    shots: Sequence[int],
    draws: int,
    seed: int,
    l2: float = L2,
) -> dict[int, list[float]]:
    """Returns the test accuracy of every draw, a fraction in [0, 1], for each number of shots per class.

    Features are `[N, D]`, labels int64 `[N]`, all on one device. Shots are drawn from the pool; the accuracy is over
    all test rows.

    Raises:
        UserError: if a number of shots is below 1, a class of the pool has fewer images than the largest number of
            shots, or a class of the test images has no image in the pool.
        ValueError: if a feature is not finite.
    """
    if any(count < 1 for count in shots):
        raise UserError(f"Shots {list(shots)} include a number below 1: expected numbers of at least 1.")
    if not shots:
        return {}
    undrawn = sorted(set(test_labels.tolist()) - set(pool_labels.tolist()))
    if undrawn:
        raise UserError(
            f"Class {undrawn[0]} is tested but has no image to draw shots from: expected at least one of each class."
        )
    accuracy: dict[int, list[float]] = {count: [] for count in shots}
    for draw in range(draws):
        chosen = draw_shots(pool_labels, classes, max(shots), draw=draw, seed=seed)
        for count, values in accuracy.items():
            picked = chosen[:, :count].flatten()
            model = ridge(pool_features[picked], pool_labels[picked], classes, l2=l2)
            correct = (model.predict(test_features) == test_labels).sum()
            values.append(int(correct) / len(test_labels))
    return accuracy
