"""The grammar of training augmentation: parts joined by "+", as in `crop-flip+randaugment2x10+erase0.25+mixup0.2`.

| part | what it does | number |
|---|---|---|
| `none` | nothing; stands alone | |
| `flip` | mirrors left-right with probability 0.5 | |
| `crop` | a random crop of the image padded with black by 1/8 of its side; `crop-flip` adds the flip | |
| `inception` | a random box of 5 % to 100 % of the area, resized to the whole, and the flip (ViT, B.1) | |
| `vgg` | resized to a random size, a random crop of it, and the flip (VGG, 3.1) | |
| `resize-crop` | resized to a larger square, a random crop of it, and the flip (BiT, 3.3) | |
| `translate0.1` | shifts by up to the number in x and in y | [fraction of the side], 0 to 1 |
| `rotate15` | turns by up to the number | [degrees], 0 to 180 |
| `shear10` | slants in x or in y, by up to the number | [degrees], 0 to 60 |
| `stretch1.3` | changes width over height by a factor of up to it, the area stays | [factor], 1 to 4 |
| `lens0.1` | bends lines in or out: points half a side off the centre move by up to it | [fraction], 0 to 0.15 |
| `jitter0.4` | brightness, contrast and saturation times 1 - number to 1 + number | [fraction], 0 to 1 |
| `randaugment2x10` | 2 operations an image, magnitude 10; `std0.5` behind it adds noise to that | 0 to 14; 0 to 10 |
| `erase0.25` | fills a random box with noise, with this probability | [probability], 0 to 1 |
| `mixup0.2` | blends pairs of images and of labels with weights from Beta(0.2, 0.2) | [alpha], 0 to 100 |
| `cutmix1` | pastes a box of another image, the labels by area; its share from Beta(1, 1) | [alpha], 0 to 100 |

`mixup-each0.2` and `cutmix-each1` draw a weight for each image instead of one for the batch. With mixup and cutmix, a
batch gets one of them, with equal chance. Parts take effect in the order of this table, in whatever order they are
written; 0 (for stretch 1) is off. `vgg` and `resize-crop` are cut by worker processes from images of any size, and
images in memory have one size. Commas and brackets do not occur: a comma separates values on the command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from vision_repro.config import UserError, nearest

_NUMBER = r"\d+(?:\.\d+)?(?:e-?\d+)?"


class RandAugment(NamedTuple):
    """`operations` an image, each at `magnitude` (10 is the largest), to which noise of deviation `std` is added."""

    operations: int
    magnitude: float
    std: float = 0.0


class Mixing(NamedTuple):
    """Weights from Beta(`alpha`, `alpha`): one for the whole batch, or one for `each` image."""

    alpha: float
    each: bool = False


@dataclass(frozen=True)
class Policy:
    """What is done to a training batch; see the table of this module. `parse` makes one, `str` writes it."""

    crop: str = ""  # "", "pad", "inception", "vgg" or "resize-crop"
    flip: bool = False
    translate: float = 0.0
    rotate: float = 0.0
    shear: float = 0.0
    stretch: float = 1.0
    lens: float = 0.0
    jitter: float = 0.0
    randaugment: RandAugment | None = None
    erase: float = 0.0
    mixup: Mixing | None = None
    cutmix: Mixing | None = None

    def __str__(self) -> str:
        """Returns the policy in its grammar, one text for one policy; "none" where nothing is done."""
        parts = [_CROPS.get((self.crop, self.flip), self.crop)]
        parts += [self._number(name) for name in ("translate", "rotate", "shear", "stretch", "lens", "jitter")]
        if self.randaugment:
            operations, magnitude, std = self.randaugment
            parts.append(f"randaugment{operations}x{_plain(magnitude)}" + (f"std{_plain(std)}" if std else ""))
        parts.append(self._number("erase"))
        for name, mixing in (("mixup", self.mixup), ("cutmix", self.cutmix)):
            if mixing:
                parts.append(f"{name}{'-each' if mixing.each else ''}{_plain(mixing.alpha)}")
        return "+".join(filter(None, parts)) or "none"

    def _number(self, name: str) -> str:
        value: float = getattr(self, name)
        return "" if value == getattr(NONE, name) else name + _plain(value)

    @property
    def warps(self) -> bool:
        """Whether pixels are moved by a resampling of the whole image."""
        return bool(self.translate or self.rotate or self.shear or self.stretch != 1 or self.lens)

    @property
    def needs_whole_images(self) -> bool:
        """Whether the crop is made of images of any size, which only the worker processes see."""
        return self.crop in ("vgg", "resize-crop")

    @property
    def mixes(self) -> bool:
        """Whether labels are mixed too."""
        return bool(self.mixup or self.cutmix)

    def after_cropping(self) -> Policy:
        """Returns what is left to do on the device when the workers have cropped and flipped."""
        return replace(self, crop="", flip=False)


def _plain(value: float) -> str:
    return repr(value).removesuffix(".0")


_CROPS = {("", False): "", ("", True): "flip", ("pad", False): "crop", ("pad", True): "crop-flip"}
NONE = Policy()


class _Part(NamedTuple):
    """What may follow the name of a part, an example, the largest value and what it means, and the fields it sets."""

    pattern: str
    example: str
    meaning: str
    read: Callable[[re.Match[str]], dict[str, object]]


def _fixed(name: str, **fields: object) -> _Part:
    return _Part("", name, "no number", lambda match: fields)


def _number(name: str, example: str, low: float, high: float, unit: str) -> _Part:
    def read(match: re.Match[str]) -> dict[str, object]:
        return {name: _within(float(match[0]), low, high)}

    return _Part(_NUMBER, example, f"{unit} from {low:g} to {high:g}", read)


def _mixing(name: str, example: str, *, each: bool) -> _Part:
    def read(match: re.Match[str]) -> dict[str, object]:
        alpha = float(match[0])
        return {name: Mixing(_within(alpha, 0.01, 100.0), each) if alpha else None}

    return _Part(_NUMBER, example, "alpha of the Beta distribution, 0 (off) or from 0.01 to 100", read)


def _randaugment(match: re.Match[str]) -> dict[str, object]:
    operations, magnitude, std = (float(group or 0) for group in match.groups())
    _within(operations, 0, 14), _within(magnitude, 0, 10), _within(std, 0, 10)
    return {"randaugment": RandAugment(int(operations), magnitude, std) if operations else None}


def _within(value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise ValueError
    return value


PARTS: dict[str, _Part] = {
    "flip": _fixed("flip", flip=True),
    "crop": _fixed("crop", crop="pad"),
    "crop-flip": _fixed("crop-flip", crop="pad", flip=True),
    "inception": _fixed("inception", crop="inception", flip=True),
    "vgg": _fixed("vgg", crop="vgg", flip=True),
    "resize-crop": _fixed("resize-crop", crop="resize-crop", flip=True),
    "translate": _number("translate", "translate0.1", 0, 1, "a fraction of the side"),
    "rotate": _number("rotate", "rotate15", 0, 180, "degrees"),
    "shear": _number("shear", "shear10", 0, 60, "degrees"),
    "stretch": _number("stretch", "stretch1.3", 1, 4, "a factor"),
    "lens": _number("lens", "lens0.1", 0, 0.15, "a fraction"),  # from 1/6 on the corners would fold over
    "jitter": _number("jitter", "jitter0.4", 0, 1, "a fraction"),
    "randaugment": _Part(
        rf"(\d+)x({_NUMBER})(?:std({_NUMBER}))?",
        "randaugment2x10",
        "operations (0 to 14) x magnitude (0 to 10), and if wanted std and the noise of the magnitude (0 to 10)",
        _randaugment,
    ),
    "erase": _number("erase", "erase0.25", 0, 1, "a probability"),
    "mixup": _mixing("mixup", "mixup0.2", each=False),
    "mixup-each": _mixing("mixup", "mixup-each0.2", each=True),
    "cutmix": _mixing("cutmix", "cutmix1", each=False),
    "cutmix-each": _mixing("cutmix", "cutmix-each1", each=True),
}


@cache
def parse(text: str) -> Policy:
    """Returns the policy that `text` describes, such as "none" or "crop-flip+erase0.25".

    Raises:
        UserError: for a part that is unknown (with the nearest one), impossible, doubled or in another's way.
    """
    if text == "none":
        return NONE
    settings: dict[str, object] = {}
    for word in text.split("+"):
        for name, value in _read(word, text).items():
            if name in settings:
                raise UserError(
                    f'--augmentation="{text}" says twice what to do about {name}: leave out "{word}" or the part '
                    "before it that does the same."
                )
            settings[name] = value
    return Policy(**settings)  # type: ignore[arg-type]


def _read(word: str, text: str) -> dict[str, object]:
    """Returns the fields that one part sets."""
    where = f'--augmentation="{text}"' + (f': "{word}"' if word != text else "")
    found = re.match(r"[a-z]*(?:-[a-z]+)*", word)
    name = found[0] if found else ""
    if name == "none":
        raise UserError(f"{where} does not go with other parts: leave it out.")
    if name not in PARTS:
        known = ", ".join(("none", *(part.example for part in PARTS.values())))
        near = nearest(name, ("none", *PARTS))
        raise UserError(f'{where} is unknown: expected one of {known}, or several joined by "+".{near}')
    part = PARTS[name]
    match = re.fullmatch(part.pattern, word.removeprefix(name))
    try:
        return part.read(match) if match else _refuse(where, part)
    except ValueError:
        return _refuse(where, part)


def _refuse(where: str, part: _Part) -> dict[str, object]:
    raise UserError(f"{where} cannot be done: expected {part.meaning}, as in {part.example}.")
