"""The pictures of an attention page: of a data set, or a person's own.

Legend: I images, S side of what the model sees [pixels].
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vision_repro import datasets
from vision_repro.augmentation import crops
from vision_repro.config import UserError, nearest
from vision_repro.files.decode import decode
from vision_repro.files.subset import order

_LOSSLESS = 96  # up to this side [pixels], where a JPEG's blocks would be seen, pictures are PNG
_QUALITY = 88


class Pictures(NamedTuple):
    """What the model sees: images uint8 `[I, 3, S, S]`, and a name and a class for each, "" where there is none."""

    images: Tensor
    names: tuple[str, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    """Names of the model's classes; empty where the images have none."""
    source: str
    """Which images these are and what was done to them, in words."""

    @property
    def uris(self) -> tuple[str, ...]:
        """The pictures as data URIs: PNG if small, else JPEG, which is for the eye only."""
        return tuple(_uri(image) for image in self.images)


def _uri(image: Tensor) -> str:
    # Imported here for start-up time: PIL takes long to import.
    from PIL import Image

    small, stream = image.shape[-1] <= _LOSSLESS, io.BytesIO()
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    picture.save(stream, "PNG", optimize=True) if small else picture.save(stream, "JPEG", quality=_QUALITY)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def of_files(names: Sequence[str], size: int) -> Pictures:
    """Returns a person's own images, grey ones too: the central square that a model is tested on.

    Raises:
        UserError: naming the file that is missing, a folder, no image or too large.
    """
    if not names:
        raise UserError("--files names no image: expected paths such as a.jpg,b.png.")
    images = []
    for name in names:
        file = Path(name).expanduser()
        if file.is_dir():
            raise UserError(f'--files: "{file}" is a folder: expected image files, such as a.jpg,b.png.')
        if not file.exists():
            beside = [item.name for item in file.parent.iterdir()] if file.parent.is_dir() else []
            raise UserError(f'--files: there is no "{file}".{nearest(file.name, beside)}')
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UserError(f'--files: "{file}" cannot be read ({error.strerror}).') from None
        images.append(crops.central(decode(content, f'"{file}"'), size))
    return Pictures(
        torch.stack(images),
        tuple(Path(name).name for name in names),
        ("",) * len(names),
        (),
        f"own images{_cropped(size)}",
    )


def of_data_set(name: str, root: Path | None, cache: Path, *, size: int, count: int, seed: int) -> Pictures:
    """Returns `count` images of the `val` split, of as many classes as there are; which, is a function of the seed.

    Of `val`, because a person who looks at a model's attention chooses with it, and `test` is looked at once.

    Raises:
        UserError: if the data are missing or broken, or have fewer images.
    """
    found: Any = datasets.listed(name, root, cache) if datasets.is_streamed(name) else datasets.load(name, root, cache)
    labels = torch.as_tensor(found.val.labels)
    if count > len(labels):
        raise UserError(f"--images={count} is too many: the val split of {name} has {len(labels)} images.")
    chosen = order(labels, seed)[:count].tolist()
    how = f"images of the val split of {name}"
    if datasets.is_streamed(name):
        read = found.val.read
        images = torch.stack([crops.central(decode(read(i), found.val.source(i)), size) for i in chosen])
        how += _cropped(size)
    else:
        images = found.val.images[chosen]
        how += "" if images.shape[-1] == size else f", resized from {images.shape[-1]} pixels"
        images = crops.resize(images, size, size)
    words = tuple(found.class_names[int(labels[index])] for index in chosen)
    return Pictures(images, tuple(f"val {index}" for index in chosen), words, tuple(found.class_names), how)


def _cropped(size: int) -> str:
    return f", short side resized to 256/224 of {size} pixels, central {size} x {size}"
