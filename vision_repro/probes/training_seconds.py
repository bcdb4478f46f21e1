"""How long a run trained, by its own meter: seconds of the wall clock, validations and tests left out.

A clock never shows the same twice: these rows are the one thing in a table that does not repeat bit by bit. They also
depend on the device and on what else it does; two runs side by side on two cores slow each other a little.
"""

from __future__ import annotations

from collections.abc import Mapping


def measure_meter(seconds: Mapping[str, float]) -> dict[str, tuple[float, str]]:
    """Returns `training_seconds` of the meter's seconds by phase, over all resumptions; 0 where nothing is trained."""
    return {"training_seconds": (round(seconds["training"], 3), "s")}
