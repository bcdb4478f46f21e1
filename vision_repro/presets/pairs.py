"""ViTs and BiTs of equal size, by image size: the comparisons of the first experiment. No torch here.

Equal means within 10 % in parameters, the linear layer for 10 classes included. Among BiTs of that size these are ones
whose training step takes at most about the time of the ViT's on one CPU core, so that the BiT does not buy its accuracy
with compute; at 224 pixels they are published networks.
"""

from __future__ import annotations

PAIRS: dict[int, tuple[tuple[str, str], ...]] = {
    8: (("vit-32x4/2", "bit-r11x0.15"), ("vit-64x4/2", "bit-r11x0.3125")),
    32: (("vit-64x4/4", "bit-r11x0.3125/2"), ("vit-128x4/4", "bit-r14x0.3125/2")),
    224: (("vit-s/16", "bit-r50x1"), ("vit-b/16", "bit-r50x2")),
}
"""Image size [pixels] -> (ViT, BiT), the smaller pair first."""

HYBRIDS: dict[int, str] = {8: "r8x0.25+vit-64x3/2", 32: "r8x0.25/2+vit-64x3/4", 224: "r50+vit-b/16"}
"""Image size [pixels] -> hybrid; of the size of the larger pair at 8 and 224 pixels, of the smaller at 32."""
