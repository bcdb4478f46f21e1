"""GoogLeNet: `googlenet[x<width>][-bn][-nobottleneck][-noaux|-aux<weight>]`, as in `googlenetx0.25-bn-aux1.0`.

The network of Table 1 and Figure 3 of the paper (arXiv 1409.4842): nine inception blocks with 5x5 branches (torchvision
has 3x3 there), local response normalisation, no batch norm, dropout 0.4 before the last layer. In training it also
returns the logits of two auxiliary classifiers, after 4a and 4d; their losses have the weight 0.3 (section 5), or
`<weight>`. In evaluation they do not run. `-noaux` has none; with `-aux0` they run in training with the weight 0.
`-bn` has batch norm after each convolution and no response normalisation (as in the later BN-Inception).
`-nobottleneck` has no 1x1 convolutions before the 3x3 and 5x5 ones, which then take the whole input. The 1x1
convolution after the pooling stays: without it each block would have more channels than the one before.
`<width>` multiplies all channels. The stem is smaller up to 64 pixels.

Deviation: the constants of the normalisation are n 5, alpha 1e-4 / n, beta 0.75, k 1, from BVLC's replication for
Caffe, which the first author helped with; the paper gives none.
Deviation: He's initialisation (`plain.py`); the paper does not state one.
Deviation: max-pooling rounds sides up without padding, as BVLC's does; the lecture slides pad pool1 by 1. Both give
112-56-28-14-7.
Deviation: up to 64 pixels conv1 is 3x3 (stride 2 above 32 pixels) and pool1 is left out; up to 8 pixels pool2 too; an
auxiliary classifier pools over the whole map where that is smaller than 5x5. Small images would leave no map.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
from torch import Tensor, nn

from vision_repro.models.layers.inception import Inception, Widths, auxiliary_classifier, halving_pool, unit
from vision_repro.models.layers.outputs import WithAuxiliary
from vision_repro.models.layers.plain import WIDTH_PATTERN, Mean, initialise_he, require_size, scaled, width_factor
from vision_repro.models.layers.response_norm import ResponseNorm
from vision_repro.models.published import Published

PATTERN = re.compile(
    rf"googlenet{WIDTH_PATTERN}(?P<norm>-bn)?(?P<direct>-nobottleneck)?(?:(?P<noaux>-noaux)|-aux(?P<aux>\d+(?:\.\d+)?))?"
)
FAMILIES = ("googlenet",)
EXAMPLES = ("googlenet", "googlenet-noaux", "googlenet-bn", "googlenet-nobottleneck", "googlenetx0.25-bn-aux1.0")
SMALL = (("googlenetx0.125-bn", 8), ("googlenetx0.125", 32), ("googlenetx0.125-nobottleneck-noaux", 64))
PUBLISHED = (
    Published("googlenet", 224, 13_378_280, None, "Table 1 and section 5, all biases and both auxiliary classifiers"),
    Published("googlenet-noaux", 224, 6_998_552, None, "Table 1, all biases"),
    Published("googlenet-bn-noaux", 224, 6_998_552 + 7_280, None, "Table 1, scale and shift of 7,280 maps, no bias"),
)
BLOCKS = {
    "3a": Widths(64, 96, 128, 16, 32, 32),
    "3b": Widths(128, 128, 192, 32, 96, 64),
    "4a": Widths(192, 96, 208, 16, 48, 64),
    "4b": Widths(160, 112, 224, 24, 64, 64),
    "4c": Widths(128, 128, 256, 24, 64, 64),
    "4d": Widths(112, 144, 288, 32, 64, 64),
    "4e": Widths(256, 160, 320, 32, 128, 128),
    "5a": Widths(256, 160, 320, 32, 128, 128),
    "5b": Widths(384, 192, 384, 48, 128, 128),
}
POOLED_AFTER = {"3b": "pool3", "4e": "pool4"}
AUXILIARY_AFTER = ("4a", "4d")


def _stem(image_size: int, width: float, norm: bool) -> nn.Sequential:
    """Returns the layers before 3a."""
    one, two, three = (scaled(count, width) for count in (64, 64, 192))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"] = unit(3, one, 7 if image_size > 64 else 3, norm, stride=2 if image_size > 32 else 1)
    if image_size > 64:
        layers["pool1"] = halving_pool()
    if not norm:
        layers["norm1"] = ResponseNorm(5, alpha=1e-4 / 5, k=1.0)
    layers["conv2"], layers["conv3"] = unit(one, two, 1, norm), unit(two, three, 3, norm)
    if not norm:
        layers["norm2"] = ResponseNorm(5, alpha=1e-4 / 5, k=1.0)
    if image_size > 8:
        layers["pool2"] = halving_pool()
    return nn.Sequential(layers)


def _side(image_size: int) -> int:
    """Returns the side of the map after the stem [pixels]."""
    side = (image_size + 1) // 2 if image_size > 32 else image_size
    side = side // 2 if image_size > 64 else side
    return side // 2 if image_size > 8 else side


class GoogLeNet(nn.Module):
    """Stem, nine inception blocks, mean over the map, linear layer, and auxiliary classifiers that run in training."""

    def __init__(self, stem: nn.Sequential, body: OrderedDict[str, nn.Module], head: nn.Linear, weight: float) -> None:
        super().__init__()
        self.stem = stem
        self.body = nn.ModuleDict(body)
        self.auxiliary = nn.ModuleDict()
        self.neck = nn.Sequential(Mean(), nn.Dropout(0.4))
        self.head = head
        self.weight = weight

    def _walk(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the last map `[B, C, H, W]`, and the maps that the auxiliary classifiers take."""
        # On a CPU, pooling with stride 1 is several times slower in the other memory format.
        maps, seen = self.stem(images.contiguous(memory_format=torch.channels_last)), []
        for key, layer in self.body.items():
            maps = layer(maps)
            if key in self.auxiliary:
                seen.append(maps)
        return maps, seen

    def forward_features(self, images: Tensor) -> Tensor:
        """Returns the last feature map `[B, C, H, W]`."""
        return self._walk(images)[0]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Returns logits `[B, K]` of a feature map, or with `pre_logits` its mean `[B, D]`."""
        vectors: Tensor = self.neck(features)
        return vectors if pre_logits else self.head(vectors)

    def get_classifier(self) -> nn.Module:
        """Returns the final linear layer."""
        return self.head

    def forward(self, images: Tensor) -> Tensor | WithAuxiliary:
        """Returns logits `[B, K]`; in training also those of the auxiliary classifiers, if there are any."""
        maps, seen = self._walk(images)
        logits = self.forward_head(maps)
        if not self.training or not seen:
            return logits
        pairs = zip(self.auxiliary.values(), seen, strict=True)
        return WithAuxiliary(logits, tuple(classifier(item) for classifier, item in pairs), self.weight)


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the GoogLeNet `name`; its features are the mean of the last map.

    Raises:
        UserError: if the width is 0, or the images are too small for the poolings.
    """
    match = PATTERN.fullmatch(name)
    assert match is not None
    require_size(name, image_size, 4)
    width, norm, reduced = width_factor(match["width"]), match["norm"] is not None, match["direct"] is None
    body: OrderedDict[str, nn.Module] = OrderedDict()
    channels, side = scaled(192, width), _side(image_size)
    taps: dict[str, tuple[int, int]] = {}
    for key, published in BLOCKS.items():
        block = Inception(channels, Widths(*(scaled(count, width) for count in published)), norm, reduced)
        body[key], channels = block, block.channels
        taps[key] = channels, side
        if key in POOLED_AFTER:
            body[POOLED_AFTER[key]], side = halving_pool(), side // 2
    model = GoogLeNet(_stem(image_size, width, norm), body, nn.Linear(channels, classes), float(match["aux"] or 0.3))
    initialise_he(model, model.head)
    for key in () if match["noaux"] else AUXILIARY_AFTER:  # drawn last, so that the other weights do not depend on them
        classifier = auxiliary_classifier(*taps[key], width, norm, classes)
        final = classifier[-1]
        assert isinstance(final, nn.Linear)
        initialise_he(classifier, final)
        model.auxiliary[key] = classifier
    return model
