"""LeNet-5: `lenet5[-sigmoid|-1998]`, grey digits of 32 pixels.

`lenet5` is the network as it is usually drawn: two 5x5 convolutions of 6 and 16 maps, tanh after each, 2x2 average
pooling, 120 and 84 units. `lenet5-sigmoid` is the network of the lecture slides, with a sigmoid after each pooling.
`lenet5-1998` is the network of LeCun et al. 1998, section II.B: sub-sampling with a trainable coefficient and bias for
each map and a squashing function after it, 16 maps of which each takes only some of the 6 (Table I), and
1.7159 tanh(2/3 a). Up to its 84 units it has exactly the paper's 60,000 trainable parameters.

Colour images become grey with the weights of ITU-R 601, as in PIL. An image with three equal channels keeps its values.

Deviation: a linear layer and softmax instead of the paper's Euclidean distance to drawn 7x12 characters, which would
need a picture for each class.
Deviation: `lenet5` and `lenet5-sigmoid` have average pooling without parameters and 16 maps that take all 6, instead of
trainable sub-sampling and Table I; this is the network that textbooks and the slides call LeNet-5.
Deviation: other sizes than 32 pixels. Below 32 pixels the first convolution is padded, as the paper pads 28-pixel
digits; the second is padded where its map would be empty (8-pixel digits). The third covers the whole map.
Deviation: Glorot's uniform initialisation, with gain 4 before a sigmoid (the inverse of its slope at 0), instead of the
paper's uniform weights within 2.4 / fan-in. `lenet5-1998` has the paper's, except for the sub-sampling coefficients,
which start at 1/4: the mean of the four pixels.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vision_repro.models.layers.plain import Plain, require_size
from vision_repro.models.published import Published

PATTERN = re.compile(r"lenet5(?:-(?P<variant>sigmoid|1998))?")
FAMILIES = ("lenet",)
EXAMPLES = ("lenet5", "lenet5-sigmoid", "lenet5-1998")
SMALL = (("lenet5", 8), ("lenet5-sigmoid", 8), ("lenet5-1998", 32), ("lenet5", 64))
PUBLISHED = (
    Published("lenet5", 32, 145_856, None, "LeCun et al. 1998, II.B, all 16 x 6 kernels in C3; 84 x 1000 + 1000 added"),
    Published("lenet5-1998", 32, 145_000, None, "LeCun et al. 1998, II.B: 60,000, to which 84 x 1000 + 1000 is added"),
)
GREY = (0.299, 0.587, 0.114)
SOURCES = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5)),
)
"""The maps of S2 that each of the 16 maps of C3 takes (Table I)."""


class Grey(nn.Module):
    """Converts colour images `[B, 3, H, W]` to grey images `[B, 1, H, W]`."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: Tensor
        self.register_buffer("weights", torch.tensor(GREY).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the weighted sum of the three channels."""
        return (images * self.weights.to(images.dtype)).sum(1, keepdim=True)


class ScaledTanh(nn.Module):
    """1.7159 tanh(2/3 a), which maps 1 to 1 and -1 to -1 (LeCun et al. 1998, Eq. 6 and Appendix A)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the squashed inputs, of their shape."""
        return 1.7159 * torch.tanh(inputs * (2 / 3))


class Subsample(nn.Module):
    """Sum of 2x2 pixels times a trainable coefficient plus a trainable bias; each map has its own two."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.full((maps,), 0.25))
        self.bias = nn.Parameter(torch.zeros(maps))

    def forward(self, maps: Tensor) -> Tensor:
        """Returns maps `[B, C, H / 2, W / 2]`."""
        summed = 4 * F.avg_pool2d(maps, 2)
        return summed * self.coefficient[:, None, None] + self.bias[:, None, None]


class SparseConv(nn.Module):
    """C3: 5x5 convolution from 6 to 16 maps, each of which takes only the maps in `SOURCES`; 60 kernels."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        places = [6 * index + source for index, sources in enumerate(SOURCES) for source in sources]
        self.places: Tensor
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.weight = nn.Parameter(torch.zeros(len(places), 5, 5))
        self.bias = nn.Parameter(torch.zeros(16))
        self.padding = padding

    def dense(self) -> Tensor:
        """Returns the kernels `[16, 6, 5, 5]`, zero where a map does not take an input map."""
        return self.weight.new_zeros(96, 5, 5).index_copy(0, self.places, self.weight).view(16, 6, 5, 5)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns maps `[B, 16, H, W]`."""
        return F.conv2d(maps, self.dense(), self.bias, padding=self.padding)


@torch.no_grad()
def _initialise(model: nn.Module, variant: str | None) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if variant == "1998":
                bound = 2.4 / module.weight[0].numel()
                nn.init.uniform_(module.weight, -bound, bound)
            else:
                nn.init.xavier_uniform_(module.weight, gain=4.0 if variant == "sigmoid" else 1.0)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
        elif isinstance(module, SparseConv):
            kernels = iter(module.weight)
            for sources in SOURCES:
                bound = 2.4 / (25 * len(sources))
                for _ in sources:
                    nn.init.uniform_(next(kernels), -bound, bound)


def _pooling(variant: str | None, maps: int) -> list[tuple[str, nn.Module]]:
    """Returns the layers between two convolutions, with their names."""
    if variant == "sigmoid":
        return [("pool", nn.AvgPool2d(2)), ("squash", nn.Sigmoid())]
    if variant == "1998":
        return [("squash", ScaledTanh()), ("pool", Subsample(maps)), ("squash_again", ScaledTanh())]
    return [("squash", nn.Tanh()), ("pool", nn.AvgPool2d(2))]


def build(name: str, *, image_size: int, classes: int) -> nn.Module:
    """Returns the LeNet-5 `name`; its features are the 84 units before the last layer.

    Raises:
        UserError: if the images have fewer than 4 pixels a side.
    """
    match = PATTERN.fullmatch(name)
    assert match is not None
    require_size(name, image_size, 4)
    variant = match["variant"]
    first = 2 if image_size < 32 else 0
    middle = (image_size - 4 + 2 * first) // 2
    second = 2 if middle < 6 else 0
    side = (middle - 4 + 2 * second) // 2
    c3 = SparseConv(second) if variant == "1998" else nn.Conv2d(6, 16, 5, padding=second)
    features: list[tuple[str, nn.Module]] = [("grey", Grey()), ("c1", nn.Conv2d(1, 6, 5, padding=first))]
    features += [(f"s2_{key}", layer) for key, layer in _pooling(variant, 6)]
    features += [("c3", c3), *((f"s4_{key}", layer) for key, layer in _pooling(variant, 16))]
    squash = {None: nn.Tanh, "sigmoid": nn.Sigmoid, "1998": ScaledTanh}[variant]
    neck: list[tuple[str, nn.Module]] = [("c5", nn.Conv2d(16, 120, side)), ("c5_squash", squash())]
    neck += [("flatten", nn.Flatten()), ("f6", nn.Linear(120, 84)), ("f6_squash", squash())]
    stack, top = nn.Sequential(OrderedDict(features)), nn.Sequential(OrderedDict(neck))
    model = Plain(stack, top, nn.Linear(84, classes))
    _initialise(model, variant)
    if variant == "sigmoid":
        nn.init.xavier_uniform_(model.head.weight)  # no sigmoid follows
    return model
