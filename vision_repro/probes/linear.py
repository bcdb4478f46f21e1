"""Linear probe: ridge regression on the frozen features of all training images of the run.

The protocol is that of the few-shot probe (ViT, section 4.1; `few_shot`): features standardised by the statistics of
the training images, targets -1 and 1, the class with the highest score. l2 is chosen on `val`, from one
eigendecomposition for all its values (`ridge`), and `test` is looked at once.

Deviation: a closed form instead of a softmax layer trained by SGD, as in "linear evaluation" of self-supervised papers
(MAE, 4.1): it has no learning rate, no epochs and no seed, so that only the features are compared.
Deviation: an intercept that is not regularised, instead of few-shot's constant feature of 100; the same for any l2 far
below 10,000 N, and X'X keeps its condition.
Legend: N images of train, M of val or test, D features, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vision_repro.probes.features import Features
from vision_repro.probes.few_shot import EPSILON
from vision_repro.probes.ridge import RidgePath, add_gram, path_of_rows, path_of_sums

L2S = tuple(4.0**exponent for exponent in range(-5, 11))
"""What l2 is chosen from: 2^-10 to 2^20; the few-shot probe's 2^10 is one of them."""
CHUNK = 8192
"""Rows that are held in float64 at once."""


class Standard:
    """Features minus the mean, over the population's standard deviation, of the rows `[N, D]` it is made from."""

    def __init__(self, rows: Tensor) -> None:
        self.mean = rows.mean(0, dtype=torch.float64)
        squares = torch.zeros_like(self.mean)
        for part in torch.split(rows, CHUNK):
            squares += (part.double() - self.mean).square_().sum(0)
        self.scale = (squares / len(rows)).sqrt() + EPSILON
        if not self.scale.isfinite().all():
            raise ValueError("The features hold values that are not finite: the model has diverged.")

    def __call__(self, rows: Tensor) -> Tensor:
        """Returns rows `[M, D]` on this scale, float64."""
        return (rows.double() - self.mean) / self.scale


def fit(features: Tensor, labels: Tensor, classes: int, standard: Standard) -> tuple[RidgePath, Tensor]:
    """Returns the weights for every l2 of features `[N, D]` and labels `[N]`, and the intercept `[K]`; float64.

    The intercept is the mean target, since standardised features have mean 0. In the primal regime neither the rows nor
    the targets are ever held in float64 as a whole.
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
    return path_of_sums(gram, 2 * sums.T), intercept  # X'(2 onehot - 1 - intercept), as the columns of X sum to 0


def choose(path: RidgePath, intercept: Tensor, inputs: Tensor, labels: Tensor) -> float:
    """Returns the l2 that is right most often on inputs `[M, D]` with labels `[M]`; of equal ones the largest."""
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
