"""k nearest neighbours against scikit-learn's, in parts of any size, on real scans."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from vision_repro.probes import knn
from vision_repro.probes.features import Features
from vision_repro.probes.knn import measure_features, predict


def digits() -> Features:
    images, labels = (torch.from_numpy(item) for item in load_digits(return_X_y=True))
    images = images.float() + 0.01 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))  # no ties
    return Features(images[:900], labels[:900], images[900:1000], labels[900:1000], images[1000:], labels[1000:])


def votes(distances: np.ndarray) -> np.ndarray:
    """The weight of a neighbour at a cosine distance, 1 - similarity."""
    weights: np.ndarray = np.exp((1 - distances) / 0.07)
    return weights


@pytest.mark.parametrize("neighbours", [1, 5, 20, 200])
def test_classes_are_scikit_learn_s(neighbours: int) -> None:
    data = digits()
    model = KNeighborsClassifier(neighbours, metric="cosine", algorithm="brute", weights=votes)
    model.fit(data.train.double().numpy(), data.train_labels.numpy())
    expected = model.predict(data.test.double().numpy())
    found = predict(data.train.double(), data.train_labels, data.test.double(), 10, neighbours=neighbours)
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("entries", [1, 900 * 7, 2**24])
def test_memory_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch, entries: int) -> None:
    data = digits()
    whole = predict(data.train, data.train_labels, data.test, 10)
    sizes: list[int] = []

    def note(item: Tensor, dim: int) -> Tensor:
        sizes.append(len(item))
        return torch.nn.functional.normalize(item, dim=dim)

    monkeypatch.setattr(knn, "normalize", note)
    monkeypatch.setattr(knn, "ENTRIES", entries)
    assert torch.equal(predict(data.train, data.train_labels, data.test, 10), whole)
    assert sizes[0] == 900
    assert max(sizes[1:]) * 900 <= max(entries, 900)
    assert sum(sizes[1:]) == 797


def test_only_the_direction_counts_and_near_votes_weigh_more() -> None:
    train = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]])
    labels = torch.tensor([2, 0, 0])
    # one neighbour in the same direction outvotes two at right angles: exp(1 / 0.07) against exp(0.1 / 0.07) + 1
    assert predict(train, labels, torch.tensor([[50.0, 0.0], [0.0, 1e-3]]), 3).tolist() == [2, 0]
    even = predict(train, labels, torch.tensor([[50.0, 0.0]]), 3, temperature=1e6)
    assert even.tolist() == [0]


def test_real_scans() -> None:
    assert 0.93 < measure_features(digits(), 10)["knn_accuracy"][0] < 0.99


def test_features_of_a_diverged_model() -> None:
    data = digits()
    data.test[3, 1] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        measure_features(data, 10)
