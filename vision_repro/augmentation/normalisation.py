"""Pixels to network inputs: what is subtracted and what it is divided by.

| kind | mean | standard deviation | of |
|---|---|---|---|
| `half` | 0.5 | 0.5 | ViT, BiT and hybrids: [-1, 1] |
| `imagenet` | 3 numbers | 3 numbers | ImageNet, as in torchvision and timm: CNNs and Swin |
| `mean-image` | an image | 1 | the training images (AlexNet) |
| `channel-mean` | 3 numbers | 1 | the training images (VGG) |
| `channel-mean-std` | 3 numbers | 3 numbers | the training images (ResNet) |
| `none` | 0 | 1 | nothing: [0, 1] |
| `timm:<tag>` | 3 numbers | 3 numbers | what timm says of the weights `<tag>` |

Deviation: all kinds first scale pixels to [0, 1]; the lecture slides subtract from values up to 255, which is the same
input times 255 and would need another learning rate for each kind.
B: images of a batch, H and W: height and width in pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vision_repro.config import UserError, nearest

HALF = ((0.5,) * 3, (0.5,) * 3)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FIXED = {"half": HALF, "imagenet": IMAGENET, "none": ((0.0,) * 3, (1.0,) * 3)}
MEASURED = ("mean-image", "channel-mean", "channel-mean-std")
KINDS = (*FIXED, *MEASURED)
TIMM = "timm:"

_SCALED_TO_ONE = re.compile(r"(?:.*\+)?(?:vit|bit)-.*")


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Subtracts `mean` from pixels in [0, 1] and divides by `std`: float64, each `[3]` or `[3, H, W]`."""

    mean: Tensor
    std: Tensor
    _factors: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def __call__(self, images: Tensor) -> Tensor:
        """Returns images `[..., 3, H, W]`, uint8 or float in [0, 255], as float32; they are left as they are.

        Raises:
            UserError: if a mean image has another size than the images.
        """
        if images.device not in self._factors:
            self._factors[images.device] = self._on(images.device)
        scale, offset = self._factors[images.device]
        if offset.shape[-1] > 1 and offset.shape[1:] != images.shape[-2:]:
            raise UserError(
                f"The mean image has {tuple(offset.shape[1:])} pixels, the images have {tuple(images.shape[-2:])}: "
                "choose --normalisation=channel-mean, or one image size."
            )
        return images.to(torch.float32, copy=True).mul_(scale).sub_(offset)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Returns factor and offset, float32 `[3, 1, 1]` or `[3, H, W]`, or one number if all channels are alike."""
        constants = []
        for values in (1 / (255 * self.std), self.mean / self.std):
            values = values[:, None, None] if values.ndim == 1 else values
            alike = bool((values == values[0]).all()) and values.shape[1:] == (1, 1)
            constants.append((values[:1] if alike else values).to(device, torch.float32))
        return constants[0], constants[1]


def default_for(model: str) -> str:
    """Returns the kind that an architecture is published with; `timm:<tag>` is looked up in timm.

    Raises:
        UserError: if timm does not know the tag.
    """
    if model.startswith(TIMM):
        values = _of_timm(model)
        return next((kind for kind, known in FIXED.items() if known == values), model)
    return "half" if _SCALED_TO_ONE.fullmatch(model) else "imagenet"


def statistics(kind: str, batches: Iterable[Tensor] = ()) -> Normalisation:
    """Returns the normalisation of a kind; `batches` of uint8 images `[B, 3, H, W]` are read if it is a measured one.

    Pass the training subset only. Sums are whole numbers, so that the result depends neither on order nor on batches;
    the deviation is the population's.

    Raises:
        UserError: for an unknown kind, no images, images of several sizes or a channel that is the same everywhere.
    """
    if kind in MEASURED:
        return _measure(kind, batches)
    if kind not in FIXED and not kind.startswith(TIMM):
        known = ", ".join(("model", *KINDS))
        raise UserError(f'--normalisation="{kind}" is unknown: expected one of {known}.{nearest(kind, KINDS)}')
    mean, std = FIXED[kind] if kind in FIXED else _of_timm(kind)
    return Normalisation(torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64))


def _measure(kind: str, batches: Iterable[Tensor]) -> Normalisation:
    count, total, squares = 0, torch.zeros(()), [0, 0, 0]
    for images in batches:
        summed = images.sum(0, dtype=torch.int64).cpu()
        if count and summed.shape != total.shape:
            raise UserError(f"--normalisation={kind} needs images of one size, not {summed.shape} and {total.shape}.")
        total = summed if count == 0 else total + summed
        count += len(images)
        if kind == "channel-mean-std":
            square = images.to(torch.int32).square().sum((0, 2, 3), dtype=torch.int64)
            squares = [old + new for old, new in zip(squares, square.tolist(), strict=True)]
    if count == 0:
        raise UserError(f"--normalisation={kind} is measured on the training images, and there are none.")
    if kind == "mean-image":
        mean = total.double() / (255 * count)
        return Normalisation(mean, torch.ones(3, 1, 1, dtype=torch.float64))
    pixels = count * total[0].numel()
    sums: list[int] = total.sum((1, 2)).tolist()
    mean = torch.tensor(sums, dtype=torch.float64) / (255 * pixels)
    if kind == "channel-mean":
        return Normalisation(mean, torch.ones(3, dtype=torch.float64))
    variances = [
        (pixels * square - value * value) / (255 * pixels) ** 2 for value, square in zip(sums, squares, strict=True)
    ]
    if min(variances) == 0:
        raise UserError("--normalisation=channel-mean-std divides by 0: a channel has the same value in all images.")
    return Normalisation(mean, torch.tensor(variances, dtype=torch.float64).sqrt())


def _of_timm(kind: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    # Imported here for start-up time: timm takes long to import.
    import timm

    tag = kind.removeprefix(TIMM)
    try:
        config = timm.get_pretrained_cfg(tag) if timm.is_model(tag) else None
    except RuntimeError:  # the model is known, its weights are not
        config = None
    if config is None:
        near = nearest(tag.split(".")[0], timm.list_models())
        raise UserError(
            f'timm knows no weights "{tag}": expected a tag such as vit_base_patch16_224.augreg_in21k.{near}'
        )
    return tuple(config.mean), tuple(config.std)
