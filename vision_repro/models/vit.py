"""Vision Transformer: `vit-<size>/<patch>[-<option>]...`, as in `vit-b/16`, `vit-64x4/2` or `vit-b/16-gap-pos2d-every`.

`<size>` is a published size (ViT, Table 1; ti, s, m and mu are from the authors' code; b-half is the ViT-b of Figure 4)
or `<width>x<depth>` with an MLP of 4 x width. `<patch>` is the side of a patch [pixels]. The heads of a
`<width>x<depth>` are 16 wide up to width 64, 32 wide up to width 256, and 64 wide above, as in published sizes.

Options, in this order:

    -gap                      mean of the patch tokens after the last norm, and no class token, instead of the class
                              token (ViT, section D.3)
    -pos0 | -pos2d | -posrel  no position embedding, 2-D, or 1-D relative, instead of 1-D (ViT, section D.4)
    -every | -shared          position embedding added to the input of every layer instead of the first: each layer has
                              its own table, or all have the same (ViT, section D.4)
    -tanh                     a hidden layer of width D with tanh before the head, as in pre-training (ViT, 3.1)
    -drop<rate>               dropout after every dense layer except qkv, and after adding the position embedding to
                              the patches (ViT, section B.1)

Deviation: the head's bias starts at 0, with and without -tanh, instead of -10 in the authors' pre-training; -10 is for
a sigmoid loss, and the losses here are softmax.
Deviation: the exact GELU instead of the tanh approximation of the released code; they differ by less than 1e-3.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import torch
from timm.layers import Attention, lecun_normal_
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vision_repro.config import UserError
from vision_repro.models.layers.position import Positions, RelativeAttention, Table, TwoTables
from vision_repro.models.published import Published
from vision_repro.models.variants import OPTIONS_PATTERN, SIZE_PATTERN, Options, Size, parse_options, parse_size

PATTERN = re.compile(rf"vit-{SIZE_PATTERN}/(?P<patch>\d+){OPTIONS_PATTERN}")
FAMILIES = ("vit",)
EXAMPLES = ("vit-32x4/2", "vit-64x4/2", "vit-64x4/4", "vit-128x6/4", "vit-s/16", "vit-b/16", "vit-l/16", "vit-h/14")
_TABLE_1 = "ViT, Table 1; counted"
_RELEASE = "google-research/vision_transformer, vit_jax/configs/models.py; counted"
PUBLISHED = (  # for ViT-L/16 Table 1 prints 307M, the number of L/32 with its head
    Published("vit-b/16", 224, 86_567_656, None, _TABLE_1),
    Published("vit-b/32", 224, 88_224_232, None, _TABLE_1),
    Published("vit-l/16", 224, 304_326_632, None, _TABLE_1),
    Published("vit-l/32", 224, 306_535_400, None, _TABLE_1),
    Published("vit-h/14", 224, 632_045_800, None, _TABLE_1),
    Published("vit-ti/16", 224, 5_717_416, None, _RELEASE),
    Published("vit-s/16", 224, 22_050_664, None, _RELEASE),
    Published("vit-s/32", 224, 22_878_952, None, _RELEASE),
    Published("vit-b-half/32", 224, 22_878_952, None, "ViT, Figure 4; counted"),
)
SMALL = (
    ("vit-64x2/2", 8), ("vit-64x2/4", 32), ("vit-64x2/8", 64),
    ("vit-32x2/2-gap", 8), ("vit-32x2/2-pos0", 8), ("vit-32x2/2-pos2d", 8), ("vit-32x2/2-posrel", 8),
    ("vit-32x2/2-every", 8), ("vit-32x2/2-shared", 8), ("vit-32x2/2-pos2d-every", 8), ("vit-32x2/2-pos2d-shared", 8),
    ("vit-32x2/2-tanh", 8), ("vit-32x2/2-drop0.1", 8), ("vit-32x2/4-gap-posrel-tanh", 32),
)  # fmt: skip


class ViT(VisionTransformer):  # type: ignore[misc]  # timm is untyped
    """timm's ViT with the initialisation of the released code (`vit_jax/models_vit.py`) and with our `Options`.

    Legend: B images, N patches, T tokens (the N patches and, if there is one, the class token), D features, K classes.
    """

    def __init__(self, size: Size, options: Options, **settings: Any) -> None:
        """Builds a size with its options; `settings` are timm's for images, patches and classes."""
        gap, relative = options.pooling == "gap", options.position == "posrel"
        default_position = not options.position and not options.placement
        super().__init__(
            embed_dim=size.width,
            depth=size.depth,
            num_heads=size.heads,
            global_pool="avg" if gap else "token",
            class_token=not gap,
            fc_norm=False,
            pos_embed="learn" if default_position else "none",
            pos_drop_rate=options.rate,
            proj_drop_rate=options.rate,
            attn_layer=RelativeAttention if relative else Attention,
            weight_init="jax",
            **settings,
        )
        self._initialise()
        side, tokens = self.patch_embed.grid_size[0], self.patch_embed.num_patches + self.num_prefix_tokens
        self.positions: Positions | None = None
        if relative:
            for block in self.blocks:
                block.attn.add_offsets(tokens)
        elif options.position != "pos0" and not default_position:
            kind, placement = TwoTables if options.position == "pos2d" else Table, options.placement or "stem"
            self.positions = Positions(kind, placement, size.depth, side, size.width, class_token=not gap)
        self.pre_logits = _hidden(size.width) if options.hidden else nn.Identity()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Corrects timm's `weight_init="jax"`.

        timm draws the joint query-key-value matrix as one Xavier matrix, whose bound is smaller by sqrt(2) than that of
        three separate matrices, and starts the class token with a standard deviation of 1e-6 instead of at zero.
        """
        if self.cls_token is not None:
            self.cls_token.zero_()
        for block in self.blocks:
            for part in block.attn.qkv.weight.chunk(3):
                nn.init.xavier_uniform_(part)

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Returns tokens `[B, T, D]`: the class token before the patches, and the first layer's position embedding."""
        tokens: Tensor = super()._pos_embed(x)
        return tokens if self.positions is None else self.pos_drop(tokens + self.positions(0))

    def encode(self, patches: Tensor) -> Tensor:
        """Returns tokens `[B, T, D]` after the last norm for patch embeddings `[B, N, D]` (ViT, Eq. 1 to 4)."""
        tokens = self._pos_embed(patches)
        for layer, block in enumerate(self.blocks):
            if layer > 0 and self.positions is not None and self.positions.repeated:
                tokens = tokens + self.positions(layer)
            tokens = checkpoint(block, tokens, use_reentrant=False) if self.grad_checkpointing else block(tokens)
        encoded: Tensor = self.norm(tokens)
        return encoded

    def forward_features(self, images: Tensor) -> Tensor:
        """Returns tokens `[B, T, D]` after the last norm for images `[B, 3, H, W]`."""
        return self.encode(self.patch_embed(images))

    def forward_intermediates(self, *arguments: Any, **settings: Any) -> Any:
        """Returns what timm's method returns.

        Raises:
            NotImplementedError: if later layers have position embeddings, which timm's method would leave out.
        """
        if self.positions is not None and self.positions.repeated:
            raise NotImplementedError("timm adds no position embedding after the first layer: hook the blocks instead")
        return super().forward_intermediates(*arguments, **settings)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Returns logits `[B, K]` of tokens `[B, T, D]`, or with `pre_logits` the final layer's input `[B, D]`."""
        found: Tensor = self.pre_logits(super().forward_head(features, pre_logits=True))
        return found if pre_logits else self.head(found)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits `[B, K]` of images `[B, 3, H, W]`."""
        return self.forward_head(self.forward_features(images))

    def no_weight_decay(self) -> set[str]:
        """Returns the names of the class token and of all position embeddings."""
        names = (name for name, _ in self.named_parameters())
        return {*super().no_weight_decay(), *(n for n in names if n.startswith("positions.") or n.endswith(".offsets"))}


def _hidden(width: int) -> nn.Module:
    """Returns the hidden layer of the pre-training head, drawn by flax's defaults: LeCun normal, zero bias."""
    layer = nn.Linear(width, width)
    lecun_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(OrderedDict(fc=layer, act=nn.Tanh()))


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the ViT `name`, with a head of zeros.

    Raises:
        UserError: if the size or an option is unknown or the patch does not divide the image.
    """
    match = PATTERN.fullmatch(name)
    assert match is not None
    size, options, patch = parse_size(match["size"]), parse_options(match["options"]), int(match["patch"])
    if patch == 0 or image_size % patch:
        raise UserError(f"{name}: {image_size}-pixel images do not divide into patches of {patch} pixels.")
    model: nn.Module = ViT(size, options, img_size=image_size, patch_size=patch, num_classes=classes)
    return model
