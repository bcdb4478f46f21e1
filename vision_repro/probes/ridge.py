"""Ridge regression in closed form: with Cholesky for one l2, or with one eigendecomposition for many.

Legend: N rows, D columns of the inputs X, K columns of the targets Y, R = min(N, D), L values of l2, M rows to predict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

BLOCKS = 4  # X'X is cut into 4 x 4 blocks, of which 10 are computed


class RidgePath(NamedTuple):
    """The ridge weights for every l2, `basis @ (moments / (values + l2))`.

    `basis` `[D, R]`; `values` `[R]`, the eigenvalues of the smaller of X'X and XX'; `moments` `[R, K]`; all float64.
    """

    basis: Tensor
    values: Tensor
    moments: Tensor

    def weights(self, l2: float) -> Tensor:
        """Returns the weights `[D, K]`."""
        return self.basis @ (self.moments / (self.values + l2)[:, None])

    def scores(self, inputs: Tensor, l2s: Sequence[float]) -> Iterator[Tensor]:
        """Yields `inputs @ weights(l2)` `[M, K]` for every l2 without computing the weights: faster if M < D."""
        turned = inputs @ self.basis
        for l2 in l2s:
            yield turned @ (self.moments / (self.values + l2)[:, None])


def solve(inputs: Tensor, targets: Tensor, l2: float, *, dual: bool | None = None) -> Tensor:
    """Returns the ridge weights `[D, K]` of inputs `[N, D]` and targets `[N, K]`.

    Primal `(X'X + l2 I)^-1 X'Y` or dual `X'(XX' + l2 I)^-1 Y`: the weights are equal; the default is the smaller
    matrix.
    """
    if _is_dual(inputs, dual):
        return inputs.T @ _solve_positive(inputs @ inputs.T, targets, l2)
    return _solve_positive(inputs.T @ inputs, inputs.T @ targets, l2)


def _is_dual(inputs: Tensor, dual: bool | None) -> bool:
    rows, columns = inputs.shape
    return rows < columns if dual is None else dual


def _solve_positive(gram: Tensor, right: Tensor, l2: float) -> Tensor:
    gram.diagonal().add_(l2)
    return torch.cholesky_solve(right, torch.linalg.cholesky(gram))


def add_gram(total: Tensor, inputs: Tensor) -> Tensor:
    """Adds X'X of inputs `[N, D]` to `total` `[D, D]` in place, and returns it; only its lower triangle is valid.

    X'X is symmetric, so blocks above the diagonal are not computed, which takes about 0.7 of the time.
    """
    columns = len(total)
    edges = [columns * block // BLOCKS for block in range(BLOCKS + 1)]
    for first, last in pairwise(edges):
        total[first:last, :last].addmm_(inputs[:, first:last].T, inputs[:, :last])
    return total


def path_of_sums(gram: Tensor, moments: Tensor) -> RidgePath:
    """Returns the path of X'X `[D, D]`, of which only the lower triangle is read, and X'Y `[D, K]`."""
    values, vectors = torch.linalg.eigh(gram, UPLO="L")
    return RidgePath(vectors, values.clamp_min_(0), vectors.T @ moments)


def path_of_rows(inputs: Tensor, targets: Tensor, *, dual: bool | None = None) -> RidgePath:
    """Returns the path of inputs `[N, D]` and targets `[N, K]`; the default is the smaller of X'X and XX'."""
    turned = inputs.T if _is_dual(inputs, dual) else inputs
    gram = add_gram(turned.new_zeros(turned.shape[1], turned.shape[1]), turned)
    if turned is inputs:
        return path_of_sums(gram, inputs.T @ targets)
    kernel = path_of_sums(gram, targets)
    return kernel._replace(basis=inputs.T @ kernel.basis)


def ridge_path(inputs: Tensor, targets: Tensor, l2s: Sequence[float], *, dual: bool | None = None) -> Tensor:
    """Returns the ridge weights `[L, D, K]` for every l2, given inputs `[N, D]` and targets `[N, K]`, in float64.

    They equal those of `solve`, with one eigendecomposition instead of L factorisations and L products over the rows.
    """
    inputs, targets = inputs.double(), targets.double()
    found = path_of_rows(inputs, targets, dual=dual)
    scaled = torch.empty_like(found.moments)
    weights = inputs.new_empty(len(l2s), inputs.shape[1], targets.shape[1])
    for l2, out in zip(l2s, weights, strict=True):
        torch.div(found.moments, (found.values + l2)[:, None], out=scaled)
        torch.mm(found.basis, scaled, out=out)
    return weights
