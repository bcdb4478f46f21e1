"""What a source says of an architecture, held against what is built here. No torch here."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """A published size: its name here, the image side [pixels], and the source's numbers for 1000 classes.

    `parameters` are exact, biases and final layer included, from the source or from an independent count of it; `gmacs`
    are 1e9 multiply-adds of one forward pass as the source prints them, or None where it prints none.
    """

    name: str
    image_size: int
    parameters: int
    gmacs: float | None
    source: str
