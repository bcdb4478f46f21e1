"""Ridge weights, one and many l2: primal, dual, scikit-learn's and those of sixteen solves."""

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from sklearn.linear_model import Ridge as SklearnRidge
from torch import Tensor

from vision_repro.probes.ridge import add_gram, path_of_rows, ridge_path, solve

L2S = [4.0**exponent for exponent in range(-5, 11)]


def problem(rows: int, columns: int, classes: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows * 100 + columns)
    inputs = torch.randn(rows, columns, generator=generator, dtype=dtype)
    return inputs, torch.randn(rows, classes, generator=generator, dtype=dtype)


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(rows=st.integers(1, 20), columns=st.integers(1, 20), l2=st.sampled_from([1.0, 64.0, 1024.0]))
def test_primal_is_dual_is_sklearn(rows: int, columns: int, l2: float) -> None:
    generator = torch.Generator().manual_seed(rows * 100 + columns)
    inputs = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    targets = torch.randn(rows, 4, generator=generator, dtype=torch.float64)
    primal = solve(inputs, targets, l2, dual=False)
    torch.testing.assert_close(solve(inputs, targets, l2, dual=True), primal, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(solve(inputs, targets, l2), primal, rtol=1e-9, atol=1e-10)
    theirs = SklearnRidge(alpha=l2, fit_intercept=False).fit(inputs.numpy(), targets.numpy()).coef_
    np.testing.assert_allclose(primal.numpy(), np.atleast_2d(theirs).reshape(4, columns).T, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dual", [None, False, True])
@pytest.mark.parametrize(("rows", "columns"), [(60, 17), (12, 50), (20, 20), (1, 3), (5, 1)])
def test_the_path_is_sixteen_solves_and_scikit_learn_s(rows: int, columns: int, dual: bool | None) -> None:
    inputs, targets = problem(rows, columns)
    found = ridge_path(inputs, targets, L2S, dual=dual)
    assert found.shape == (16, columns, 3)
    assert found.dtype == torch.float64
    for l2, weights in zip(L2S, found, strict=True):
        size = float(weights.abs().max())
        torch.testing.assert_close(weights, solve(inputs, targets, l2), rtol=0, atol=1e-6 * size)
        theirs = SklearnRidge(alpha=l2, fit_intercept=False, solver="svd").fit(inputs.numpy(), targets.numpy()).coef_
        np.testing.assert_allclose(weights.numpy(), theirs.reshape(3, columns).T, rtol=0, atol=1e-6 * size)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "columns", "classes"), [(2000, 768, 100), (500, 768, 100)])
def test_the_path_is_sixteen_solves_at_the_size_of_real_features(rows: int, columns: int, classes: int) -> None:
    inputs, _ = problem(rows, columns)
    inputs[:, 1] = inputs[:, 0] + 1e-3 * inputs[:, 1]  # two features that nearly agree
    targets = 2 * torch.nn.functional.one_hot(torch.arange(rows) % classes, classes).double() - 1
    for l2, weights in zip(L2S, ridge_path(inputs, targets, L2S), strict=True):
        expected = solve(inputs, targets, l2)
        torch.testing.assert_close(weights, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def test_scores_are_those_of_the_weights() -> None:
    for rows in (40, 6):
        inputs, targets = problem(rows, 9)
        tested, _ = problem(11, 9)
        path = path_of_rows(inputs, targets)
        for l2, scores in zip(L2S, path.scores(tested, L2S), strict=True):
            torch.testing.assert_close(scores, tested @ path.weights(l2), rtol=1e-9, atol=1e-12)


def test_features_in_float32_are_solved_in_float64() -> None:
    inputs, targets = problem(30, 8, dtype=torch.float32)
    assert torch.equal(ridge_path(inputs, targets, [2.0]), ridge_path(inputs.double(), targets.double(), [2.0]))


@pytest.mark.parametrize("columns", [1, 3, 4, 10])
def test_half_of_the_gram_matrix_summed_in_parts_is_all_of_it(columns: int) -> None:
    inputs, _ = problem(50, columns)
    total = torch.zeros(columns, columns, dtype=torch.float64)
    for part in torch.split(inputs, 7):
        add_gram(total, part)
    torch.testing.assert_close(total.tril(), (inputs.T @ inputs).tril())


def test_a_gram_matrix_of_no_full_rank_has_no_negative_eigenvalue() -> None:
    inputs, targets = problem(50, 6)
    inputs = torch.cat([inputs, inputs, 0 * inputs], 1)  # rank 6 of 18
    path = path_of_rows(inputs, targets, dual=False)
    assert float(path.values.min()) >= 0
    torch.testing.assert_close(path.weights(1e-4), solve(inputs, targets, 1e-4), rtol=1e-6, atol=1e-9)
