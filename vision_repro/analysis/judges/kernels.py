"""Kernels in a row, of C maps each: weights, receptive field and padding in closed form, and judges on their networks.

Source: VGG (arXiv 1409.1556), section 2.3; lecture slides on CNNs. `sides` are the sides of the kernels in their order,
such as `(3, 3)`; strides are 1 and convolutions keep the map by zero padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from statistics import fmean

from vision_repro.analysis.claims import Evidence, Judgement
from vision_repro.analysis.judges.estimates import counted


def weights(sides: Sequence[int], channels: int) -> int:
    """Returns the weights of a stack without biases: C^2 times the sum of the areas, as 18 C^2 of `(3, 3)`."""
    return channels**2 * sum(side**2 for side in sides)


def receptive_field(sides: Sequence[int]) -> int:
    """Returns the side of the square of the input that one output sees [pixels]: 5 for `(5,)` and for `(3, 3)`."""
    return 1 + sum(side - 1 for side in sides)


def inside(side: int, pixels: int) -> Fraction:
    """Returns the share of a kernel's taps that fall on a map of `pixels` by `pixels`, not on its padding.

    Along one axis a tap that is d pixels from the centre falls outside at d of the positions, at most at all of them.
    """
    reach = side // 2
    outside = 2 * sum(min(step, pixels) for step in range(1, reach + 1))
    return Fraction(pixels * side - outside, pixels * side) ** 2


def share_of_weights(
    evidence: Evidence, large: str, small: str, sides: Sequence[int], spread: Sequence[int]
) -> Judgement:
    """Judges the small kernels' share of the large one's weights, from the counts of two models.

    The models differ in their stages only, of which `spread` are the channels; `sides` are the large kernel's and then
    the small ones'. What the counts differ by is what the small kernels save.

    Raises:
        ValueError: if the two do not see the same of their input, as then there is nothing to compare.
    """
    if receptive_field(sides[:1]) != receptive_field(sides[1:]):
        raise ValueError(f"a kernel of {sides[0]} does not see as many pixels as kernels of {sides[1:]}")
    counts = [next(iter(evidence.values("parameters", model=model).values()), None) for model in (large, small)]
    whole = sum(weights(sides[:1], channels) for channels in spread)
    value, note = None, ""
    if counts[0] is not None and counts[1] is not None:
        value = 1 - (counts[0] - counts[1]) / whole
        note = f"{counts[0]:,.0f} and {counts[1]:,.0f} parameters of the networks"
    return counted(
        evidence,
        value,
        expected=weights(sides[1:], 1) / weights(sides[:1], 1),
        metric="parameters",
        unit="ratio",
        subject="the small kernels' weights over the large one's",
        note=note,
    )


def costs(evidence: Evidence, model: str, reference: str) -> str:
    """Returns the model's parameters and FLOPs over those of the reference, in words; nothing if none was counted."""
    words = []
    for metric, name in (("parameters", "parameters"), ("forward_flops", "FLOPs")):
        ours, theirs = (evidence.values(metric, model=item).values() for item in (model, reference))
        words += [f"{fmean(ours) / fmean(theirs):.3f} of its {name}"] if ours and theirs else []
    return " and ".join(words)
