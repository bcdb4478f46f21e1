"""Nets that differ in one thing: plain, residual nets and VGG in depth, ResNets in shortcuts, and in the kind of block.

Source: ResNet (arXiv 1512.03385), sections 3 and 4; VGG (arXiv 1409.1556), section 2. Depth is in weighted layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vision_repro.papers.tables import paper_table

By = Mapping[int, str]
"""Depth -> model."""


@dataclass(frozen=True)
class Nets:
    """The models of a preset: by depth, the shortcuts by letter, and the bottleneck with the basic net beside it.

    `shallow` is the depth at which degradation starts: the paper's own shallowest net, not the shallowest of all.
    """

    plain: By = field(default_factory=dict)
    residual: By = field(default_factory=dict)
    vgg: By = field(default_factory=dict)
    shortcuts: Mapping[str, str] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()
    shallow: int = 20

    @property
    def all(self) -> tuple[str, ...]:
        """Each model once."""
        groups = (self.plain.values(), self.residual.values(), self.vgg.values(), self.shortcuts.values(), self.blocks)
        return tuple(dict.fromkeys(model for group in groups for model in group))

    @property
    def kinds(self) -> dict[str, By]:
        """The nets with and without shortcuts, by the word for them."""
        return {"plain": self.plain, "residual": self.residual}

    def within(self, models: Sequence[str]) -> Nets:
        """Returns the nets that are among `models`."""
        plain, residual, vgg = (
            {depth: name for depth, name in kind.items() if name in models}
            for kind in (self.plain, self.residual, self.vgg)
        )
        shortcuts = {letter: name for letter, name in self.shortcuts.items() if name in models}
        blocks = self.blocks if set(self.blocks) <= set(models) else ()
        return Nets(plain, residual, vgg, shortcuts, blocks, self.shallow)


def cifar_nets(depths: Sequence[int], width: str, vgg: str) -> Nets:
    """Returns the nets for small images; 29 layers of bottlenecks are as many blocks as 20 of basic ones."""
    plain, residual = ({depth: f"{kind}{depth}{width}" for depth in depths} for kind in ("plain", "resnet"))
    base = residual[20]
    return Nets(
        plain,
        residual,
        {depth: f"vgg{depth}{vgg}-bn-fc0" for depth in (11, 13, 16, 19)},
        {"A": base, "B": f"{base}-projection", "C": f"{base}-allproj"},
        (base, f"resnet29{width}-bottleneck"),
    )


NETS = {
    "smoke": Nets(
        {8: "plain8x0.25", 14: "plain14x0.25"}, {8: "resnet8x0.25", 14: "resnet14x0.25"},
        {11: "vgg11x0.06-bn", 13: "vgg13x0.06-bn"},
        {"A": "resnet8x0.25", "B": "resnet8x0.25-projection"}, ("resnet8x0.25", "resnet11x0.25-bottleneck"), 8,
    ),
    "cpu": cifar_nets((8, 20, 56), "x0.25", "x0.125"),
    "cifar": cifar_nets((8, 20, 32, 56), "x0.25", "x0.125"),
    "gpu": cifar_nets((20, 32, 44, 56), "", "x0.5"),
    "paper": Nets(
        {18: "plain18", 34: "plain34"}, {18: "resnet18-identity", 34: "resnet34-identity"},
        {11: "vgg11-bn", 13: "vgg13-bn", 16: "vgg16-bn", 19: "vgg19-bn"},
        {"A": "resnet34-identity", "B": "resnet34", "C": "resnet34-allproj"}, ("resnet34", "resnet50-v1"), 18,
    ),
}  # fmt: skip
"""Preset -> nets."""


def printed_errors(*tables: str) -> dict[str, float]:
    """Returns the error (fraction) of each model that the papers print in these tables, such as `resnet_table3`."""
    rows = [row for row in paper_table("resnet_depth") if row["table"] in tables and row["metric"].endswith("error")]
    return {row["model"]: float(row["value"]) / 100 for row in rows}
