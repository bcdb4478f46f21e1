import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from vision_repro.config import UserError
from vision_repro.probes.few_shot import draw_shots, few_shot_accuracy, ridge


def blobs(rows: int, columns: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    centres = 2 * torch.randn(classes, columns, generator=torch.Generator().manual_seed(99))
    return centres[labels] + torch.randn(rows, columns, generator=generator), labels


def slow_weights(features: np.ndarray, labels: np.ndarray, classes: int, l2: float, bias: float) -> np.ndarray:
    """The protocol line by line, as a least-squares problem with l2 as further rows."""
    rows, columns = features.shape
    inputs = np.empty((rows, columns + 1))
    for column in range(columns):
        values = features[:, column]
        inputs[:, column] = (values - values.mean()) / (np.sqrt(((values - values.mean()) ** 2).mean()) + 1e-5)
    inputs[:, columns] = bias
    targets = np.full((rows, classes), -1.0)
    for row, label in enumerate(labels):
        targets[row, label] = 1.0
    stacked = np.vstack([inputs, np.sqrt(l2) * np.eye(columns + 1)])
    return np.asarray(np.linalg.lstsq(stacked, np.vstack([targets, np.zeros((columns + 1, classes))]), rcond=None)[0])


@pytest.mark.parametrize(("rows", "columns"), [(40, 7), (10, 33), (12, 11), (12, 12)])
@pytest.mark.parametrize("l2", [1024.0, 0.5])
def test_ridge_is_the_slow_one(rows: int, columns: int, l2: float) -> None:
    features, labels = blobs(rows, columns, 3)
    expected = slow_weights(features.double().numpy(), labels.numpy(), 3, l2, 100.0)
    np.testing.assert_allclose(ridge(features, labels, 3, l2=l2).weights.numpy(), expected, rtol=1e-6, atol=1e-9)


def test_shots_are_nested_balanced_and_distinct() -> None:
    labels = torch.randint(0, 5, (200,), generator=torch.Generator().manual_seed(3))
    most = draw_shots(labels, 5, 10, draw=1, seed=7)
    for shots in (1, 5, 10):
        assert torch.equal(draw_shots(labels, 5, shots, draw=1, seed=7), most[:, :shots])
    assert torch.equal(labels[most], torch.arange(5)[:, None].expand(5, 10))
    assert len(set(most.flatten().tolist())) == 50
    assert not torch.equal(most, draw_shots(labels, 5, 10, draw=2, seed=7))
    assert not torch.equal(most, draw_shots(labels, 5, 10, draw=1, seed=8))


def test_accuracy_does_not_depend_on_which_shots_are_asked_for() -> None:
    pool, pool_labels = blobs(100, 6, 4)
    test, test_labels = blobs(80, 6, 4, seed=1)
    wide = few_shot_accuracy(pool, pool_labels, test, test_labels, classes=4, shots=(1, 5, 10), draws=3, seed=0)
    one = few_shot_accuracy(pool, pool_labels, test, test_labels, classes=4, shots=(10,), draws=3, seed=0)
    assert list(wide) == [1, 5, 10]
    assert all(len(values) == 3 for values in wide.values())
    assert wide[10] == pytest.approx(one[10])
    assert np.mean(wide[10]) > 0.9


def test_accuracy_is_of_the_test_rows_and_their_statistics_do_not_enter() -> None:
    pool, pool_labels = blobs(100, 6, 4)
    test, test_labels = blobs(80, 6, 4, seed=1)
    model = ridge(pool, pool_labels, 4)
    alone = torch.cat([model.predict(row[None]) for row in test])
    assert torch.equal(model.predict(test), alone)
    flipped = few_shot_accuracy(pool, pool_labels, test, (test_labels + 1) % 4, classes=4, shots=(20,), draws=1, seed=0)
    assert flipped[20][0] < 0.1


def test_dead_features_change_nothing() -> None:
    pool, labels = blobs(60, 6, 3)
    test, _ = blobs(50, 6, 3, seed=1)
    padded, wild = (torch.nn.functional.pad(item, (0, 2), value=value) for item, value in ((pool, 0.3), (test, 5.0)))
    assert torch.equal(ridge(padded, labels, 3).predict(wild), ridge(pool, labels, 3).predict(test))


def test_real_scans_are_told_apart_by_their_pixels() -> None:
    images, labels = (torch.from_numpy(item) for item in load_digits(return_X_y=True))
    found = few_shot_accuracy(
        images[:900], labels[:900], images[900:], labels[900:], classes=10, shots=(1, 10, 25), draws=3, seed=0
    )
    means = [float(np.mean(found[shots])) for shots in (1, 10, 25)]
    assert 0.35 < means[0] < means[1] < means[2] < 0.95


def test_features_of_a_diverged_model() -> None:
    pool, labels = blobs(10, 3, 2)
    pool[3, 1] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        ridge(pool, labels, 2)


def test_no_shots_is_no_number() -> None:
    pool, labels = blobs(10, 3, 2)
    assert few_shot_accuracy(pool, labels, pool, labels, classes=2, shots=(), draws=3, seed=0) == {}


@pytest.mark.parametrize(
    ("shots", "tested", "message"),
    [((1, 6), 0, "class 0 has 5"), ((1,), 2, "Class 2 is tested but has no image"), ((0,), 0, "at least 1")],
)
def test_shots_that_cannot_be_drawn(shots: tuple[int, ...], tested: int, message: str) -> None:
    pool, labels = blobs(10, 3, 2)
    with pytest.raises(UserError, match=message):
        few_shot_accuracy(pool, labels, pool, labels + tested, classes=4, shots=shots, draws=1, seed=0)


def test_classes_without_images_are_left_out() -> None:
    labels = torch.tensor([0, 0, 3, 3, 3])
    chosen = draw_shots(labels, 5, 2, draw=0, seed=0)
    assert chosen.shape == (2, 2)
    assert labels[chosen].tolist() == [[0, 0], [3, 3]]
