"""What an account of a model is made of: its layers, with shapes, parameters, memory and multiply-adds. No torch here.

A layer is one call of a module that computes (or one functional operation between such calls). Memory is its output at
4 bytes an element, as on the lecture slides; listed are convolutions, linear layers, attention's products, norms,
pooling and flattening, so activations (taken to be in place), additions and reshapes are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from vision_repro.accounting.conv_padding import Border, Shape

BYTES = 4
"""Bytes an element, as on the slides: single precision."""


@dataclass(frozen=True)
class Layer:
    """One layer: module path, kind (`conv`, `linear`, `attention`, `norm`, `pool`, `flatten`, `parameters`), cost.

    `parameters` are those of its module alone, counted where it runs first; `macs` count all taps, `inside` those
    inside the map; `window` are pooling's operations; `heads` is 0 but for attention.
    """

    name: str
    kind: str
    input: Shape = ()
    output: Shape = ()
    parameters: int = 0
    memory: int = 0
    macs: int = 0
    inside: int = 0
    window: int = 0
    kernel: Shape = ()
    stride: Shape = ()
    padding: Border = ()
    groups: int = 1
    heads: int = 0


@dataclass(frozen=True)
class Account:
    """All layers of a model for a batch of square images, in the order in which they run."""

    layers: tuple[Layer, ...]
    image_size: int
    batch: int

    @property
    def parameters(self) -> int:
        """Number of parameters, of modules that do not run in eval mode too."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def memory(self) -> int:
        """Outputs of all layers [bytes]."""
        return sum(layer.memory for layer in self.layers)

    @property
    def window(self) -> int:
        """Pooling's operations, one a window element."""
        return sum(layer.window for layer in self.layers)

    def macs(self, taps: str = "all") -> int:
        """Returns the multiply-adds of the forward pass over `all` taps, or over those `inside` the map."""
        return sum(layer.macs if taps == "all" else layer.inside for layer in self.layers)
