"""The linear probe: scikit-learn's ridge in both regimes, l2 from val alone, real scans."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge
from torch import Tensor

from vision_repro.probes import linear
from vision_repro.probes.features import Features
from vision_repro.probes.linear import L2S, Standard, choose, fit, measure_features


def blobs(rows: int, columns: int, seed: int, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (rows,), generator=generator)
    centres = torch.randn(5, columns, generator=torch.Generator().manual_seed(99))
    scales = torch.logspace(-1, 2, columns)
    return scales * (centres[labels] + spread * torch.randn(rows, columns, generator=generator)) + 7, labels


def split(rows: int, columns: int, spread: float = 2.0) -> Features:
    parts = (blobs(count, columns, seed, spread) for seed, count in enumerate((rows, 60, 500)))
    return Features(*itertools.chain.from_iterable(parts))


def theirs(train: Tensor, labels: Tensor, l2: float) -> tuple[Any, np.ndarray, np.ndarray]:
    """scikit-learn's ridge with an intercept on standardised features, of 5 classes of which one has no image."""
    values = train.double().numpy()
    mean, scale = values.mean(0), values.std(0) + 1e-5
    targets = 2 * np.eye(5)[labels.numpy()] - 1
    return Ridge(alpha=l2, solver="svd").fit((values - mean) / scale, targets), mean, scale


@pytest.mark.parametrize(("rows", "columns"), [(300, 12), (25, 40), (30, 30)])
def test_weights_and_intercept_are_scikit_learn_s(monkeypatch: pytest.MonkeyPatch, rows: int, columns: int) -> None:
    monkeypatch.setattr(linear, "CHUNK", 64)
    train, labels = blobs(rows, columns, 0)
    path, intercept = fit(train, labels, 5, Standard(train))
    for l2 in L2S:
        model, _, _ = theirs(train, labels, l2)
        np.testing.assert_allclose(path.weights(l2).T.numpy(), model.coef_, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(intercept.numpy(), model.intercept_, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(300, 12), (25, 40)])
def test_the_accuracy_is_that_of_the_slow_search_on_val(rows: int, columns: int) -> None:
    features = split(rows, columns)
    best = (-1.0, 0.0, 0.0)
    for l2 in L2S:
        model, mean, scale = theirs(features.train, features.train_labels, l2)
        val, test = (
            float((model.predict((part.double().numpy() - mean) / scale).argmax(1) == labels.numpy()).mean())
            for part, labels in ((features.val, features.val_labels), (features.test, features.test_labels))
        )
        best = max(best, (val, l2, test))
    assert 0.3 < best[2] < 0.98
    found, unit = measure_features(features, 5)["linear_accuracy"]
    assert found == pytest.approx(best[2], abs=1e-12)
    assert unit == "fraction"


def test_test_has_no_say_in_the_choice() -> None:
    features = split(200, 12)
    wrong = features._replace(test_labels=(features.test_labels + 1) % 4)
    assert measure_features(wrong, 5)["linear_accuracy"][0] < 0.3
    standard = Standard(features.train)
    path, intercept = fit(features.train, features.train_labels, 5, standard)
    inputs = standard(features.val)
    right = {l2: int(((inputs @ path.weights(l2) + intercept).argmax(1) == features.val_labels).sum()) for l2 in L2S}
    chosen = choose(path, intercept, inputs, features.val_labels)
    assert right[chosen] == max(right.values())
    assert all(right[l2] < right[chosen] for l2 in L2S if l2 > chosen)


def test_much_noise_is_shrunk_more_than_little() -> None:
    chosen = []
    for spread in (0.01, 6.0):
        features = split(60, 50, spread)
        standard = Standard(features.train)
        path, intercept = fit(features.train, features.train_labels, 5, standard)
        chosen.append(choose(path, intercept, standard(features.test), features.test_labels))
    assert chosen[1] >= 64


def test_real_scans() -> None:
    images, labels = (torch.from_numpy(item) for item in load_digits(return_X_y=True))
    images = images.float()
    found = measure_features(
        Features(images[:1000], labels[:1000], images[1000:1200], labels[1000:1200], images[1200:], labels[1200:]), 10
    )
    assert 0.85 < found["linear_accuracy"][0] < 0.96  # least squares on raw pixels


def test_features_of_a_diverged_model() -> None:
    features = split(20, 3)
    features.train[3, 1] = torch.inf
    with pytest.raises(ValueError, match="not finite"):
        measure_features(features, 5)
