"""Compares attention over the whole map with attention in windows, counted on real Swin modules (Swin, 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from vision_repro.accounting.architectures import counted
from vision_repro.accounting.check import EXACT, Check, Table
from vision_repro.models.swin import msa_macs, wmsa_macs

CHANNELS, WINDOW, PATCH, STAGES = 96, 7, 4, 4
"""Swin-T."""
SIZES = (224, 448, 672, 896, 1120)
"""Image sides [pixels] for which windows of 7 tokens divide the map of every stage."""
SOURCE = "Swin paper (arXiv 2103.14030), Eq. 1 and 2"


@dataclass(frozen=True)
class Point:
    """Multiply-adds of one attention module over the whole map and in windows: counted, and by the equations."""

    image_size: int
    stage: int
    whole: int
    windowed: int

    @property
    def side(self) -> int:
        """Height and width of the map [tokens]."""
        return self.image_size // PATCH >> self.stage

    @property
    def channels(self) -> int:
        """C of the stage."""
        return CHANNELS << self.stage

    @property
    def whole_equation(self) -> int:
        """MSA, Eq. 1."""
        return msa_macs(self.side, self.side, self.channels)

    @property
    def windowed_equation(self) -> int:
        """W-MSA, Eq. 2."""
        return wmsa_macs(self.side, self.side, self.channels, WINDOW)


def attention_macs(model: str, image_size: int, stage: int) -> int:
    """Returns the multiply-adds of the first attention module of a stage: projections and both products."""
    start = f"layers.{stage}.blocks.0.attn"
    return sum(layer.macs for layer in counted(model, image_size).layers if layer.name.startswith(start))


@cache
def points() -> tuple[Point, ...]:
    """Returns the first stage at every size of `SIZES`, and the other stages at 224 pixels."""
    places = [(size, 0) for size in SIZES] + [(SIZES[0], stage) for stage in range(1, STAGES)]
    return tuple(
        Point(
            size, stage, attention_macs("swin-t-global", size, stage), attention_macs(f"swin-t-w{WINDOW}", size, stage)
        )
        for size, stage in places
    )


def windows() -> Table:
    """Returns the checks of the counted multiply-adds against Eq. 1 and Eq. 2."""
    checks = []
    for point in points():
        subject = f"{point.image_size} px, stage {point.stage + 1}, {point.side} x {point.side} x {point.channels}"
        ratio = f"MSA costs {point.whole / point.windowed:.3g} times W-MSA"
        checks += [
            Check(subject, "MSA", "MAC", point.whole, str(point.whole_equation), EXACT, SOURCE, ratio),
            Check(subject, "W-MSA", "MAC", point.windowed, str(point.windowed_equation), EXACT, SOURCE),
        ]
    text = (
        f"One attention module of Swin-T: `swin-t-global` against windows of {WINDOW} x {WINDOW} tokens. The whole map "
        "costs 4hwC^2 + 2(hw)^2 C multiply-adds, windows 4hwC^2 + 2M^2 hwC, both without softmax. Windows cost less "
        "because their second term grows in proportion to the map, and that of the whole map with its square."
    )
    return Table("swin_windows", "Swin: attention in windows", text, tuple(checks), wide=True)
