"""Published sizes of architectures, which tests compare with the models built here. No torch here."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """A published size: our name of the model, the image side [pixels], and the source's numbers for 1000 classes.

    `parameters` is the exact number, including biases and final layer, from the source or an independent count of its
    model; `gmacs` is 1e9 multiply-adds of one forward pass as the source prints it, or None if it prints none.
    """

    name: str
    image_size: int
    parameters: int
    gmacs: float | None
    source: str
