"""What is asked of predictions besides top-1 accuracy, by the convention of the data set they are made for.

A data set file says it of its names: `MEAN_PER_CLASS`, where accuracy is usually the mean over classes, and
`REAL_LABELS`, where ReaL has labelled the test images anew. Top-1 accuracy is measured in any case: it is what ViT and
BiT report everywhere, also for Pets and Flowers. N: images of a split.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vision_repro import datasets
from vision_repro.datasets import real_labels


def mean_per_class(found: Tensor, labels: Tensor) -> float:
    """Returns the mean over classes of the share that is found right, a fraction in [0, 1]; classes N int64 each.

    Classes of which there is no image do not count.
    """
    seen = labels.bincount()
    right = labels[found == labels].bincount(minlength=len(seen))
    return float((right[seen > 0].double() / seen[seen > 0]).mean())


def of_predictions(name: str, module: Any, found: Tensor, labels: Tensor) -> dict[str, tuple[float, str]]:
    """Returns what the data set's convention asks for: `test_mean_per_class`, `test_real_accuracy`, or nothing.

    `found` and `labels` are the predicted and the given classes int64 `[N]` of all images of `test`, in the order of
    the data module's listing. Without an image that was skipped on request the order is lost, and with it ReaL.

    Raises:
        UserError: if the ReaL labels are missing or are not those of these images.
    """
    asked = datasets.data_set(name)
    metrics = {}
    if name in getattr(asked, "MEAN_PER_CLASS", ()):
        metrics["test_mean_per_class"] = (mean_per_class(found, labels), "fraction")
    if name in getattr(asked, "REAL_LABELS", ()) and len(found) == len(module.listing.test):
        table = real_labels.targets(module.listing.test, real_labels.read())
        metrics["test_real_accuracy"] = (real_labels.accuracy(found.numpy(), table), "fraction")
    return metrics
