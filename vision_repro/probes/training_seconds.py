"""The training time of a run as its meter measured it: seconds of the wall clock without validation and tests.

Unlike other metrics, times differ from one training to the next. They depend on the device and on its other load: two
runs at the same time on two cores slow each other a little.
"""

from __future__ import annotations

from collections.abc import Mapping


def measure_meter(seconds: Mapping[str, float]) -> dict[str, tuple[float, str]]:
    """Returns `training_seconds`, given the seconds by phase over all resumptions; 0 if nothing was trained."""
    return {"training_seconds": (round(seconds["training"], 3), "s")}
