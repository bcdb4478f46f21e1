"""Counts the taps of a convolution: all of them, or only those that fall inside the map.

A tap is one weight of the kernel at one output pixel. A convolution over a padded map also multiplies the zeros at its
border. One convention counts every tap, the other counts only the taps on a pixel of the map. The exaFLOPs of ViT's
Table 6 follow the second one (`published/exaflops.py`).
"""

from __future__ import annotations

from typing import NamedTuple

Shape = tuple[int, ...]
Border = tuple[tuple[int, int], ...]
"""Zeros before and after each spatial axis [pixels]."""


class Axis(NamedTuple):
    """One axis of a convolution: sizes and zeros [pixels]; an explicit padding before the layer counts as its own."""

    size: int
    kernel: int
    stride: int
    dilation: int
    low: int
    high: int

    @property
    def positions(self) -> int:
        """Number of output pixels."""
        return (self.size + self.low + self.high - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    @property
    def all_taps(self) -> int:
        """Number of (output pixel, tap) pairs."""
        return self.positions * self.kernel

    @property
    def inside_taps(self) -> int:
        """Number of (output pixel, tap) pairs whose tap falls on a pixel of the map, not on a zero of its border."""
        total = 0
        for tap in range(self.kernel):
            shift = tap * self.dilation - self.low
            first = max(0, -(shift // self.stride))  # the first output whose tap is at pixel 0 or later
            last = min(self.positions - 1, (self.size - 1 - shift) // self.stride)
            total += max(0, last - first + 1)
        return total
