"""Which taps of a convolution fall inside the map.

A convolution over a padded map also multiplies the zeros at its border. One reading of its cost counts every tap, the
other only those on a pixel of the map; the exaFLOPs of ViT's Table 6 are of the second kind (see `papers.py`).
"""

from __future__ import annotations

from typing import NamedTuple

Shape = tuple[int, ...]
Border = tuple[tuple[int, int], ...]
"""Zeros before and after each spatial axis [pixels]."""


class Axis(NamedTuple):
    """One axis of a convolution: sizes and zeros [pixels], the zeros of an explicit padding before it included."""

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
        """Number of pairs of an output pixel and a tap."""
        return self.positions * self.kernel

    @property
    def inside_taps(self) -> int:
        """Number of those pairs whose tap is on a pixel of the map and not on a zero of its border."""
        total = 0
        for tap in range(self.kernel):
            shift = tap * self.dilation - self.low
            first = max(0, -(shift // self.stride))  # the first output whose tap is at pixel 0 or beyond
            last = min(self.positions - 1, (self.size - 1 - shift) // self.stride)
            total += max(0, last - first + 1)
        return total
