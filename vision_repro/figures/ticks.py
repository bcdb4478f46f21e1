"""Ticks of linear axes."""

from __future__ import annotations

from matplotlib.ticker import MaxNLocator


class InView(MaxNLocator):
    """At most `count` round ticks, none outside the view, whole numbers if `whole`."""

    def __init__(self, count: int, *, whole: bool = False) -> None:
        super().__init__(nbins=count, steps=[1, 2, 5, 10], integer=whole)

    def __call__(self) -> list[float]:
        """Returns the ticks."""
        assert self.axis is not None
        low, high = sorted(self.axis.get_view_interval())
        return [tick for tick in super().__call__() if low <= tick <= high]
