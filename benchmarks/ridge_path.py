"""The search over 16 values of l2: from one eigendecomposition, against 16 solves; 10,000 x 768 features, 1000 classes.

Both ways get the same features and targets in float64 and give the same: first the weights `[16, 768, 1000]`, then the
number of right classes on 1,000 images of val for each l2, which is what a search looks at. The solves are the few-shot
probe's (`ridge.solve`), each from the features: X'X, X'Y, Cholesky. A third way, for fairness, forms X'X and X'Y once
and factorises 16 times.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

from benchmarks.timing import Row, in_turns, ratios, show
from vision_repro.training.device import cores, quiet_threads

quiet_threads()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from vision_repro.probes.linear import L2S  # noqa: E402
from vision_repro.probes.ridge import path_of_rows, ridge_path, solve  # noqa: E402


def seconds(work: Callable[[], Any]) -> float:
    """Returns how long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def solved(inputs: Tensor, targets: Tensor) -> Tensor:
    """Returns the weights for every l2, each solved from the features."""
    return torch.stack([solve(inputs, targets, l2) for l2 in L2S])


def factorised(inputs: Tensor, targets: Tensor) -> Tensor:
    """Returns the weights for every l2, from X'X and X'Y that are formed once."""
    gram, moments, found = inputs.T @ inputs, inputs.T @ targets, []
    for l2 in L2S:
        factor = torch.linalg.cholesky(gram + l2 * torch.eye(len(gram), dtype=torch.float64))
        found.append(torch.cholesky_solve(moments, factor))
    return torch.stack(found)


def right(scores: Tensor, labels: Tensor) -> int:
    """Returns how many classes are right."""
    return int((scores.argmax(1) == labels).sum())


def searched(inputs: Tensor, targets: Tensor, val: Tensor, labels: Tensor) -> list[int]:
    """Returns how many images of val are right for every l2, from one eigendecomposition."""
    return [right(scores, labels) for scores in path_of_rows(inputs, targets).scores(val, L2S)]


def searched_by_solves(inputs: Tensor, targets: Tensor, val: Tensor, labels: Tensor) -> list[int]:
    """Returns how many images of val are right for every l2, each solved from the features."""
    return [right(val @ solve(inputs, targets, l2), labels) for l2 in L2S]


def main(options: Sequence[str]) -> int:
    """Measures and prints; `--quick` shows only that it works."""
    quick = "--quick" in options
    torch.set_num_threads(cores())
    rows, columns, classes, rounds = (400, 64, 10, 1) if quick else (10_000, 768, 1000, 3)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, classes, (rows + 1000,), generator=generator)
    centres = 0.3 * torch.randn(classes, columns, generator=generator, dtype=torch.float64)
    features = centres[drawn] + torch.randn(len(drawn), columns, generator=generator, dtype=torch.float64)
    targets = 2 * torch.nn.functional.one_hot(drawn[:rows], classes).double() - 1
    given, val = (features[:rows], targets), (features[rows:], drawn[rows:])
    path, solves = ridge_path(*given, L2S), solved(*given)
    apart = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(path, solves, strict=True))
    same = searched(*given, *val) == searched_by_solves(*given, *val)
    ways: list[Callable[[], Any]] = [
        partial(ridge_path, *given, L2S),
        partial(solved, *given),
        partial(factorised, *given),
        partial(searched, *given, *val),
        partial(searched_by_solves, *given, *val),
    ]
    weights, sixteen, factors, search, slow = in_turns([partial(seconds, way) for way in ways], rounds)
    table = [
        Row(f"weights for 16 l2 ({median(weights):.2f} s): 16 solves take", ratios(sixteen, weights), goal=">= 8"),
        Row("16 Cholesky factorisations of one X'X take", ratios(factors, weights)),
        Row(f"accuracy on val for 16 l2 ({median(search):.2f} s): 16 solves take", ratios(slow, search), goal=">= 8"),
        Row("largest difference of the weights, over their largest", (apart,), "", "<= 1e-06"),
        Row("the same counts on val (1 is yes)", (float(same),), "", ">= 1"),
    ]
    show(f"Ridge, {rows} x {columns} features, {classes} classes, on {torch.get_num_threads()} threads", table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
