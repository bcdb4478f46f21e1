"""ViTs and BiTs of equal size, by image size, for comparisons of the two families. No torch here.

Equal means within 10 % in parameters, including the linear layer for 10 classes. On one CPU core a training step of the
BiT takes at most about as long as one of the ViT, so that the BiT has no advantage in compute. At 224 pixels the
networks are published ones.
"""

from __future__ import annotations

PAIRS: dict[int, tuple[tuple[str, str], ...]] = {
    8: (("vit-32x4/2", "bit-r11x0.15"), ("vit-64x4/2", "bit-r11x0.3125")),
    32: (("vit-64x4/4", "bit-r11x0.3125/2"), ("vit-128x4/4", "bit-r14x0.3125/2")),
    224: (("vit-s/16", "bit-r50x1"), ("vit-b/16", "bit-r50x2")),
}
"""Image size [pixels] -> (ViT, BiT), the smaller pair first."""

HYBRIDS: dict[int, str] = {8: "r8x0.25+vit-64x3/2", 32: "r8x0.25/2+vit-64x3/4", 224: "r50+vit-b/16"}
"""Image size [pixels] -> hybrid; as large as the larger pair at 8 and 224 pixels, as the smaller pair at 32."""
