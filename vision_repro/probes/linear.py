"""Linear probe: ridge regression on the frozen features of all training images of the run.

The protocol is that of the few-shot probe (ViT, section 4.1; `few_shot`): features are standardised with the statistics
of the training images, targets are -1 and 1, and the class with the highest score is predicted. l2 is chosen on `val`,
with one eigendecomposition for all its values (`ridge`), and `test` is used once.

Deviation: a closed form instead of a softmax layer trained by SGD, the "linear evaluation" of self-supervised papers
(MAE, 4.1): it has no learning rate, no epochs and no seed, so that only the features are compared.
Deviation: an intercept without regularisation instead of few-shot's constant feature of 100; the result is the same for
any l2 far below 10,000 N, and X'X stays well conditioned.
Legend: N images of train, M of val or test, D features, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vision_repro.probes.features import Features
from vision_repro.probes.few_shot import EPSILON
from vision_repro.probes.ridge import RidgePath, add_gram, path_of_rows, path_of_sums

L2S = tuple(4.0**exponent for exponent in range(-5, 11))
"""Candidates for l2: 2^-10 to 2^20; they include the 2^10 of the few-shot probe."""
CHUNK = 8192
"""Number of rows that are held in float64 at once."""


class Standard:
    """Standardises features: subtracts the mean of given rows `[N, D]` and divides by their standard deviation."""

    def __init__(self, rows: Tensor) -> None:
        self.mean = rows.mean(0, dtype=torch.float64)
        squares = torch.zeros_like(self.mean)
        for part in torch.split(rows, CHUNK):
            squares += (part.double() - self.mean).square_().sum(0)
        self.scale = (squares / len(rows)).sqrt() + EPSILON
        if not self.scale.isfinite().all():
            raise ValueError("The features hold values that are not finite: the model has diverged.")

    def __call__(self, rows: Tensor) -> Tensor:
        """Returns standardised rows `[M, D]`, float64."""
        return (rows.double() - self.mean) / self.scale


def fit(features: Tensor, labels: Tensor, classes: int, standard: Standard) -> tuple[RidgePath, Tensor]:
    """Returns the weights for every l2, given features `[N, D]` and labels `[N]`, and the intercept `[K]`; float64.

    The intercept is the mean target, because standardised features have mean 0. If N >= D, the whole matrices of rows
    and targets are never held in float64.
    """
    rows, columns = features.shape
    counts = torch.bincount(labels, minlength=classes).double()
    intercept = 2 * counts / rows - 1
    if rows < columns:
        targets = 2 * torch.nn.functional.one_hot(labels, classes).double() - 1
        return path_of_rows(standard(features), targets - intercept), intercept
    gram, sums = torch.zeros(columns, columns, dtype=torch.float64), torch.zeros(classes, columns, dtype=torch.float64)
    for part, part_labels in zip(torch.split(features, CHUNK), torch.split(labels, CHUNK), strict=True):
        inputs = standard(part)
        add_gram(gram, inputs)
        sums.index_add_(0, part_labels, inputs)
    # X'(2 onehot - 1 - intercept) = 2 X' onehot, because the columns of X sum to 0
    return path_of_sums(gram, 2 * sums.T), intercept


def choose(path: RidgePath, intercept: Tensor, inputs: Tensor, labels: Tensor) -> float:
    """Returns the l2 with the highest accuracy on inputs `[M, D]` with labels `[M]`; of equal ones the largest."""
    right = [int(((scores + intercept).argmax(1) == labels).sum()) for scores in path.scores(inputs, L2S)]
    return max(zip(right, L2S, strict=True))[1]


def measure_features(features: Features, classes: int) -> dict[str, tuple[float, str]]:
    """Returns `linear_accuracy` on `test`, a fraction in [0, 1].

    Raises:
        ValueError: if a feature is not finite.
    """
    standard = Standard(features.train)
    path, intercept = fit(features.train, features.train_labels, classes, standard)
    weights = path.weights(choose(path, intercept, standard(features.val), features.val_labels))
    found = torch.cat([(standard(part) @ weights + intercept).argmax(1) for part in torch.split(features.test, CHUNK)])
    return {"linear_accuracy": (int((found == features.test_labels).sum()) / len(found), "fraction")}
