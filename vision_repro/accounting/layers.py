"""The account of a model: its layers, with shapes, parameters, memory and multiply-adds. Imports no torch.

A layer is one call of a module that computes something, or one functional operation between such calls. Its memory is
its output at 4 bytes an element, as on the lecture slides. The account lists convolutions, linear layers, attention
products, norms, pooling and flattening. It does not list activations (assumed to work in place), additions and
reshapes.
"""

from __future__ import annotations

from dataclasses import dataclass

from vision_repro.accounting.conv_padding import Border, Shape

BYTES = 4
"""Bytes an element, as on the slides: single precision."""


@dataclass(frozen=True)
class Layer:
    """One layer: module path, kind (`conv`, `linear`, `attention`, `norm`, `pool`, `flatten`, `parameters`), cost.

    `parameters` belong to the module itself, without its submodules, and are counted at its first call. `macs` count
    all taps, `inside_macs` only the taps inside the map. `pool_ops` are the operations of pooling. `heads` is 0 except
    for attention.
    """

    name: str
    kind: str
    input: Shape = ()
    output: Shape = ()
    parameters: int = 0
    memory: int = 0
    macs: int = 0
    inside_macs: int = 0
    pool_ops: int = 0
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
        """Number of parameters, including those of modules that do not run in eval mode."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def memory(self) -> int:
        """Memory of the outputs of all layers [bytes]."""
        return sum(layer.memory for layer in self.layers)

    @property
    def pool_ops(self) -> int:
        """Operations of pooling, one for each element of a window."""
        return sum(layer.pool_ops for layer in self.layers)

    def macs(self, taps: str = "all") -> int:
        """Returns the multiply-adds of the forward pass over `all` taps, or over those `inside` the map."""
        return sum(layer.macs if taps == "all" else layer.inside_macs for layer in self.layers)
