"""k nearest neighbours on frozen features: cosine similarity, votes weighted by exp(similarity / 0.07).

Wu et al. 2018, "Unsupervised feature learning via non-parametric instance discrimination", section 3.4.

Deviation: k = 20 instead of 200; DINO (Caron et al. 2021, section 4.1) found it best. Nothing is chosen on `val`.
Legend: N images of train, M of test, D features, K classes, k neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vision_repro.probes.features import Features

NEIGHBOURS, TEMPERATURE = 20, 0.07
ENTRIES = 2**24
"""Number of similarities that are held at once (64 MiB)."""


def predict(
    train: Tensor,
    labels: Tensor,
    test: Tensor,
    classes: int,
    *,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Returns the class int64 `[M]` of features `[M, D]`, from the nearest features `[N, D]` with labels `[N]`.

    With fewer than k training images, all of them vote.

    Raises:
        ValueError: if a feature is not finite.
    """
    if not (train.isfinite().all() and test.isfinite().all()):
        raise ValueError("The features hold values that are not finite: the model has diverged.")
    known, found = normalize(train, dim=1), []
    for part in torch.split(test, max(1, ENTRIES // len(train))):
        near, places = (normalize(part, dim=1) @ known.T).topk(min(neighbours, len(train)), dim=1)
        votes = near.new_zeros(len(part), classes)
        found.append(votes.scatter_add_(1, labels[places], (near / temperature).exp()).argmax(1))
    return torch.cat(found)


def measure_features(features: Features, classes: int) -> dict[str, tuple[float, str]]:
    """Returns `knn_accuracy` on `test`, a fraction in [0, 1]; raises the errors of `predict`."""
    found = predict(features.train, features.train_labels, features.test, classes)
    return {"knn_accuracy": (int((found == features.test_labels).sum()) / len(found), "fraction")}
