"""The variants of a Swin that the paper compares: windows and positions, their models, and what Table 4 prints."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vision_repro.papers.tables import paper_table

SHIFTED, FIXED, GLOBAL = "shifted windows", "windows not shifted", "global attention"
BARE, ABSOLUTE, BOTH = "no positions", "absolute embedding", "absolute and relative"
OPTIONS = {FIXED: "-noshift", BARE: "-nobias", ABSOLUTE: "-nobias-abspos", BOTH: "-abspos"}
"""What is behind the name of the network with shifted windows and relative bias."""
PRINTED = {
    SHIFTED: ("shifted", "relative"),
    FIXED: ("fixed", "relative"),
    BARE: ("shifted", "none"),
    ABSOLUTE: ("shifted", "absolute"),
    BOTH: ("shifted", "absolute+relative"),
}
"""Rows of the paper's Table 4: windows and position."""


def variants(plain: str) -> dict[str, str]:
    """Returns the model of each variant of `plain`, which has shifted windows of a stated size, as `swin-t-w7`."""
    return {
        SHIFTED: plain,
        FIXED: plain + OPTIONS[FIXED],
        GLOBAL: re.sub(r"-w\d+", "-global", plain),
        **{role: plain + OPTIONS[role] for role in (BARE, ABSOLUTE, BOTH)},
    }


def is_timed(model: str) -> bool:
    """Returns whether the cost of a model over the image size is asked for: not of what costs the same as another."""
    return not any(option in model for option in ("-noshift", "-nobias", "-abspos"))


def present(models: Sequence[str]) -> dict[str, str]:
    """Returns the model of each variant that is there; none without the one that all are compared with."""
    plain = next((model for model in models if is_timed(model) and "-global" not in model), None)
    return {role: model for role, model in variants(plain).items() if model in models} if plain else {}


def printed(role: str) -> float | None:
    """Returns the top-1 accuracy of Swin-T on ImageNet (fraction) in the paper's Table 4, if it has the variant."""
    tops = {(row["windows"], row["position"]): row["imagenet_top1"] for row in paper_table("swin_table4")}
    return round(float(tops[PRINTED[role]]) / 100, 4) if role in PRINTED else None


def printed_difference(first: str, second: str) -> str:
    """Returns the paper's difference of two variants in points, or the empty string where it has not both."""
    a, b = printed(first), printed(second)
    return "" if a is None or b is None else f"{100 * (a - b):+.1f} points"
