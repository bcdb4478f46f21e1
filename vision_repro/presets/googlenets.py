"""GoogLeNets with and without their devices, and what their names say (`models/googlenet.py`)."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NAME = re.compile(
    r"googlenet(?:x(?P<width>[\d.]+))?(?P<norm>-bn)?(?P<direct>-nobottleneck)?(?P<aux>-noaux|-aux[\d.]+)?"
)
WEIGHTS = {"-noaux": "none", "-aux0": "0", "": "0.3", "-aux1.0": "1.0"}
"""Option of the name -> weight of the auxiliary losses."""


def nets(wide: str, narrow: str, *auxiliary: str, direct: bool = True) -> tuple[str, ...]:
    """Returns nets with and without bottlenecks at both widths, and the wide ones with other auxiliary weights.

    Without bottlenecks the narrow net costs about what the wide one costs with them.
    """
    pairs = (wide, f"{wide}-nobottleneck", narrow, f"{narrow}-nobottleneck") if direct else (wide,)
    return (*pairs, *(f"{wide}{option}" for option in auxiliary))


def parts(model: str) -> dict[str, str | None]:
    """Returns the width, norm, direct and aux of a net's name, None where it does not say."""
    match = _NAME.fullmatch(model)
    assert match is not None, model
    return match.groupdict()


def width(model: str) -> float:
    """Returns the factor of the channels."""
    return float(parts(model)["width"] or 1)


def kind(model: str) -> str:
    """Returns `with batch norm` or `without batch norm`."""
    return "with batch norm" if parts(model)["norm"] else "without batch norm"


def bases(models: Sequence[str]) -> list[str]:
    """Returns the nets with bottlenecks and the paper's auxiliary weight."""
    return [model for model in models if not any(parts(model)[part] for part in ("direct", "aux"))]


def narrower(base: str, models: Sequence[str]) -> str | None:
    """Returns the narrower net without bottlenecks that costs about what `base` does, if it is among the models."""
    kin = [other for other in bases(models) if parts(other)["norm"] == parts(base)["norm"]]
    found = (f"{other}-nobottleneck" for other in kin if width(other) < width(base))
    return next((model for model in found if model in models), None)
