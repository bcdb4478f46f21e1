"""Bytes of an image file to pixels, by the fastest decoder there is. H and W: height and width in pixels.

All three JPEG decoders, simplejpeg, torchvision's and Pillow's, are builds of libjpeg-turbo: on 1720 real files their
pixels were equal to the last bit, so the choice changes no number, only the speed (1.5 : 1.2 : 1). What is no plain
JPEG is left to Pillow, and so is the verdict on what the fast ones refuse.

JPEGs are never decoded at a fraction of their size: most of the time is in the entropy code, so that half the size
takes 0.83 of the time, and the resized pixels then differ by up to 15 of 255.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vision_repro.config import UserError

Pixels = npt.NDArray[np.uint8]  # [H, W, 3]
MAX_PIXELS = 89_478_485  # Pillow's limit: a quarter of a GiB; a file of kilobytes can claim terabytes
_ORIENTATION = 0x0112  # the EXIF tag
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start-of-frame markers
_LOST = ("premature end", "bad Huffman", "instead of RST", "Premature end")  # what libjpeg says when pixels are missing


def decode(data: bytes, source: object) -> Tensor:
    """Returns the image upright as uint8 `[3, H, W]`, in memory `[H, W, 3]`.

    Greyscale becomes three equal channels, 16 bits their upper 8; CMYK and palettes are converted, transparency is
    dropped, and of an animation the first picture is taken.

    Deviation: EXIF orientation is applied, which the papers' pipelines (TensorFlow's decoder) ignored; a picture on
    its side is a defect of the file, and no data set of theirs has more than a few.

    Raises:
        UserError: naming `source`, if these are not the bytes of a whole image of at most `MAX_PIXELS`.
    """
    return inspect(data, source)[0]


def inspect(data: bytes, source: object) -> tuple[Tensor, str]:
    """Returns what `decode` does, and what a strict decoder complains of in a file that is read all the same.

    Raises:
        UserError: as `decode`.
    """
    if not data:
        raise UserError(f"{source} is empty: expected an image; fetch it again or remove it.")
    complaint = ""
    if data[:2] == b"\xff\xd8":
        header = _header(data)
        _check_size(header.height, header.width, source)
        if not _ends(data):
            raise _broken(source, "it has no end: truncated")
        if header.plain:
            pixels, complaint = _quickly(data, source)
            if pixels is not None:
                return _tensor(_upright(pixels, header.exif)), complaint
    return _tensor(_by_pillow(data, source)), complaint


def decoder() -> str:
    """Returns the name and version of the JPEG decoder in use, such as "simplejpeg 1.9.0"."""
    return _decoder()[0]


@cache
def _decoder() -> tuple[str, Callable[[bytes], Pixels] | None]:
    """Returns the fastest decoder that is installed; None leaves everything to Pillow."""
    # Imports inside the function, as simplejpeg is optional and torchvision costs start-up time.
    try:
        from simplejpeg import decode_jpeg

        return f"simplejpeg {version('simplejpeg')}", decode_jpeg
    except ImportError:
        pass
    try:
        from torchvision.io import decode_image

        return f"torchvision {version('torchvision')}", partial(_by_torchvision, decode_image)
    except ImportError:  # torchvision has announced that it will remove its decoder
        return f"pillow {version('pillow')}", None


def _quickly(data: bytes, source: object) -> tuple[Pixels | None, str]:
    """Returns the pixels, or None with the complaint for which Pillow shall judge."""
    read = _decoder()[1]
    if read is None:
        return None, ""
    try:
        return read(data), ""
    except (ValueError, RuntimeError) as error:
        # Pillow ignores libjpeg's warnings and would fill what is missing with grey
        if any(words in str(error) for words in _LOST):
            raise _broken(source, str(error)) from None
        return None, str(error)


def _by_torchvision(read: Callable[..., Tensor], data: bytes) -> Pixels:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        image = read(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode="RGB")
    pixels: Pixels = image.permute(1, 2, 0).numpy()
    return pixels


def _by_pillow(data: bytes, source: object) -> Pixels:
    # Imported here for start-up time: PIL takes long to import.
    from PIL import Image

    with warnings.catch_warnings(action="ignore"):
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data)) as image:
                _check_size(image.height, image.width, source)
                return _upright(_rgb(image), image.info.get("exif", b""))
        except UserError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large(source, str(error)) from None
        except Exception as error:  # of broken bytes, readers of old formats raise anything
            raise _broken(source, str(error) or type(error).__name__) from None


def _rgb(image: Any) -> Pixels:
    if image.mode.startswith("I"):  # 16 bits, or 32 that hold 16: Pillow's own conversion has cut them off at 255
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if "transparency" in image.info:  # or Pillow warns of palettes with transparency
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


class _Header(NamedTuple):
    """What stands before the pixels of a JPEG; zeros where it cannot be told."""

    height: int = 0
    width: int = 0
    channels: int = 0
    exif: bytes = b""

    @property
    def plain(self) -> bool:
        """Whether the fast decoders read it as Pillow does: greyscale or colour, not CMYK."""
        return min(self.height, self.width) > 0 and self.channels in (1, 3)


def _header(data: bytes) -> _Header:
    """Returns the header of a JPEG, by a walk over its segments up to the first scan."""
    header, place = _Header(), 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4])
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        body = data[place + 4 : place + 2 + length]
        if marker in _FRAMES and len(body) >= 6:
            height, width = int.from_bytes(body[1:3]), int.from_bytes(body[3:5])
            header = header._replace(height=height, width=width, channels=body[5])
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            header = header._replace(exif=body)
        place += 2 + length
    return header


def _ends(data: bytes) -> bool:
    """Whether a JPEG has an end after its last scan; a download that broke off has not, even if padded with zeros."""
    return data.endswith(b"\xff\xd9") or data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")


def _upright(pixels: Pixels, exif: bytes) -> Pixels:
    """Returns the image as its EXIF orientation says it is to be seen."""
    if not exif:
        return pixels
    turned = {
        2: lambda: pixels[:, ::-1],
        3: lambda: pixels[::-1, ::-1],
        4: lambda: pixels[::-1],
        5: lambda: pixels.swapaxes(0, 1),
        6: lambda: pixels[::-1].swapaxes(0, 1),
        7: lambda: pixels[::-1, ::-1].swapaxes(0, 1),
        8: lambda: pixels[:, ::-1].swapaxes(0, 1),
    }.get(_orientation(exif))
    return np.ascontiguousarray(turned()) if turned else pixels


def _orientation(exif: bytes) -> int:
    # Imported here for start-up time: PIL takes long to import.
    from PIL import Image

    tags = Image.Exif()
    try:
        tags.load(exif)
        return int(tags.get(_ORIENTATION, 1))
    except Exception:  # a damaged note on a whole image: anything may come out of it
        return 1


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _check_size(height: int, width: int, source: object) -> None:
    if height * width > MAX_PIXELS:
        raise _too_large(source, f"{width} x {height} pixels")


def _too_large(source: object, what: str) -> UserError:
    return UserError(
        f"{source} is too large ({what}): expected at most {MAX_PIXELS:,} pixels; shrink the image or remove it."
    )


def _broken(source: object, reason: str) -> UserError:
    return UserError(f"{source} is no whole image ({' '.join(reason.split())}): fetch it again or remove it.")
