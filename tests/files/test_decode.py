"""Decoding: every odd file as it should look, every broken one refused, whichever decoder is installed."""

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vision_repro.config import UserError
from vision_repro.files import decode as decoding
from vision_repro.files.decode import decode, inspect

DECODERS = ("simplejpeg", "torchvision", "pillow")


def use(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the decoders before `name` look as if they were not installed."""
    modules = {"simplejpeg": "simplejpeg", "torchvision": "torchvision.io"}
    for gone in DECODERS[: DECODERS.index(name)]:
        monkeypatch.setitem(sys.modules, modules[gone], None)  # an import of it raises ImportError
    decoding._decoder.cache_clear()
    if decoding.decoder().split()[0] != name:
        pytest.skip(f"{name} is not installed")


@pytest.fixture(params=DECODERS)
def each_decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    use(request.param, monkeypatch)
    yield request.param
    decoding._decoder.cache_clear()


def photo(width: int = 60, height: int = 40, mode: str = "RGB") -> Image.Image:
    """A smooth picture, no two quadrants alike."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 255 / width, y * 255 / height, (x + 2 * y) * 255 / (width + 2 * height)]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8)).convert(mode)


def saved(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(image: Tensor) -> npt.NDArray[np.uint8]:
    array: npt.NDArray[np.uint8] = image.permute(1, 2, 0).numpy()
    return array


def by_pillow(data: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def with_exif(data: bytes, note: bytes) -> bytes:
    """Puts an EXIF segment into a JPEG."""
    return data[:2] + b"\xff\xe1" + (len(note) + 8).to_bytes(2) + b"Exif\0\0" + note + data[2:]


def files(root: Path) -> list[bytes]:
    found = [*root.glob("imagenette-224/val/*/*"), *root.glob("pets-3/*/images/*.jpg")]
    return [path.read_bytes() for path in sorted(found)[::12]]


# --- what is read ---


@pytest.mark.usefixtures("each_decoder")
def test_all_decoders_give_pillows_pixels_on_real_photos(real_data: Path) -> None:
    images = files(real_data)
    assert len(images) > 90
    for data in images:
        found, complaint = inspect(data, "x")
        assert np.array_equal(pixels(found), by_pillow(data))
        assert not complaint


JPEGS: dict[str, Callable[[], bytes]] = {
    "colour": lambda: saved(photo()),
    "greyscale": lambda: saved(photo(mode="L")),
    "cmyk": lambda: saved(photo(mode="CMYK")),
    "progressive": lambda: saved(photo(), progressive=True),
    "not subsampled": lambda: saved(photo(), subsampling=0, quality=95),
    "subsampled 4:2:2": lambda: saved(photo(61, 39), subsampling=1),
    "stored as RGB": lambda: saved(photo(), keep_rgb=True),
    "restart markers": lambda: saved(photo(), restart_marker_rows=1),
    "a long comment before the frame": lambda: saved(photo(), comment=b"x" * 60_000, dpi=(72, 72)),
    "one pixel": lambda: saved(photo(1, 1)),
    "fill bytes between markers": lambda: (data := saved(photo()))[:2] + b"\xff\xff" + data[2:],
    "bytes behind the end": lambda: saved(photo()) + b"\0\0\0 more",
}


@pytest.mark.usefixtures("each_decoder")
@pytest.mark.parametrize("kind", JPEGS)
def test_jpegs_of_every_kind(kind: str) -> None:
    data = JPEGS[kind]()
    found = decode(data, "x")
    assert found.dtype == torch.uint8
    assert np.array_equal(pixels(found), by_pillow(data))


def test_cmyk_has_its_colours_and_not_their_negatives() -> None:
    found = pixels(decode(saved(photo(mode="CMYK"), quality=95), "x")).astype(int)
    assert np.abs(found - np.asarray(photo())).mean() < 3


def test_sixteen_bits_keep_the_upper_eight() -> None:
    values = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
    found = pixels(decode(saved(Image.fromarray(values), "PNG"), "x"))
    assert np.array_equal(found, np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2))


def test_sixteen_bit_colour() -> None:
    """A PNG of 2 x 1 pixels written by hand, as Pillow writes none of this depth."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = b"\0" + struct.pack(">6H", 0x1234, 0x8000, 0xFFFF, 0, 0x00FF, 0x0100)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert pixels(decode(data, "x")).tolist() == [[[0x12, 0x80, 0xFF], [0, 0, 1]]]


def transparent_palette() -> bytes:
    return saved(photo().quantize(16), "PNG", transparency=bytes(range(16)))


ODD: dict[str, Callable[[], bytes]] = {
    "palette": lambda: saved(photo().quantize(200), "PNG"),
    "palette with transparency": transparent_palette,
    "transparent": lambda: saved(photo().convert("RGBA"), "PNG"),
    "grey and alpha": lambda: saved(photo().convert("LA"), "PNG"),
    "one bit": lambda: saved(photo().convert("1"), "PNG"),
    "bmp": lambda: saved(photo(), "BMP"),
    "webp": lambda: saved(photo(), "WEBP", lossless=True),
    "gif": lambda: saved(photo().quantize(64), "GIF"),
    "animation": lambda: saved(photo(), "PNG", save_all=True, append_images=[photo().rotate(180)]),
}


@pytest.mark.parametrize("kind", ODD)
def test_other_formats_look_like_the_photo(kind: str) -> None:
    data = ODD[kind]()
    found = pixels(decode(data, "x"))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA").convert("RGB"))
    assert np.array_equal(found, expected)


def test_a_png_under_the_name_of_a_jpeg_is_read() -> None:
    assert np.array_equal(pixels(decode(saved(photo(), "PNG"), "x.jpg")), np.asarray(photo()))


@pytest.mark.usefixtures("each_decoder")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_rotated_photos_are_put_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photo(), kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(pixels(decode(data, "x")), np.asarray(expected))


@pytest.mark.usefixtures("each_decoder")
@pytest.mark.parametrize(
    "note", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff"]
)
def test_a_damaged_exif_note_does_not_matter(note: bytes) -> None:
    plain = saved(photo())
    data = plain[:2] + b"\xff\xe1" + (len(note) + 2).to_bytes(2) + note + plain[2:]
    assert np.array_equal(pixels(decode(data, "x")), by_pillow(plain))


# --- what is refused ---


@pytest.mark.usefixtures("each_decoder")
def test_the_end_of_a_thumbnail_is_not_the_end_of_the_photo() -> None:
    data = with_exif(saved(photo()), b"II*\0\x08\0\0\0\0\0" + saved(photo(8, 8)))
    assert np.array_equal(pixels(decode(data, "x")), by_pillow(data))
    with pytest.raises(UserError, match="truncated"):
        decode(data[:-40] + bytes(40), "x")


@pytest.mark.usefixtures("each_decoder")
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("padding", ["", "zeros"])
def test_no_truncated_jpeg_passes(real_data: Path, progressive: bool, padding: str) -> None:
    """Cut anywhere, as by a broken download, into a file of full length or not: never grey, never silent."""
    random = np.random.RandomState(0)
    for data in files(real_data)[::8]:
        whole = saved(Image.open(io.BytesIO(data)), progressive=progressive, quality=90)
        for cut in (1, 2, 3, 10, 100, *random.randint(200, len(whole), 3).tolist()):
            cut_off = whole[:-cut] + (b"\0" * cut if padding else b"")
            with pytest.raises(UserError, match=r"^a/b\.jpg is no whole image \(.*\): fetch it again") as caught:
                decode(cut_off, "a/b.jpg")
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [10, 100, 1000])
def test_a_jpeg_with_a_hole_is_refused_by_the_strict_decoder(
    real_data: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    use("simplejpeg", monkeypatch)
    for data in files(real_data)[::8]:
        with pytest.raises(UserError, match="no whole image"):
            decode(data[: -2 - cut] + data[-2:], "x")


def test_harmless_damage_is_read_and_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    use("simplejpeg", monkeypatch)
    data = saved(photo())
    odd = data[:-2] + b"\0\0\0" + data[-2:]
    found, complaint = inspect(odd, "x")
    assert np.array_equal(pixels(found), by_pillow(data))
    assert "extraneous bytes" in complaint


BROKEN = {
    "empty": (b"", "x is empty"),
    "garbage": (b"garbage", "x is no whole image"),
    "start of a jpeg": (b"\xff\xd8", "x is no whole image"),
    "start and end of a jpeg": (b"\xff\xd8\xff\xd9", "x is no whole image"),
    "start of a png": (b"\x89PNG\r\n\x1a\n", "x is no whole image"),
    "web page": (b"<html>404 Not Found</html>", "x is no whole image"),
    "zeros": (bytes(5000), "x is no whole image"),
}


@pytest.mark.usefixtures("each_decoder")
@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_image(kind: str) -> None:
    data, words = BROKEN[kind]
    with pytest.raises(UserError, match=words):
        decode(data, "x")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF"])
def test_truncated_files_of_other_formats(kind: str) -> None:
    data = saved(photo(200, 150), kind)
    for keep in (0.1, 0.5, 0.9):
        with pytest.raises(UserError, match="no whole image"):
            decode(data[: int(len(data) * keep)], "x")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_flipped_bits_give_an_image_or_one_sentence(kind: str) -> None:
    whole, random = saved(photo(), kind), np.random.RandomState(1)
    for _ in range(60):
        data = bytearray(whole)
        for place in random.randint(0, min(len(data), 400), 3):
            data[place] ^= 1 << random.randint(8)
        try:
            assert decode(bytes(data), "x").shape[0] == 3
        except UserError as error:
            assert str(error).startswith("x is")  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017


def bomb_jpeg() -> bytes:
    """A JPEG of a few hundred bytes that claims 60,000 x 60,000 pixels."""
    data = bytearray(saved(photo(8, 8)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = (60_000).to_bytes(2) * 2
    return bytes(data)


def bomb_png(side: int) -> bytes:
    return saved(Image.new("1", (side, side)), "PNG")


@pytest.mark.usefixtures("each_decoder")
@pytest.mark.parametrize("data", [bomb_jpeg(), bomb_png(9_500), bomb_png(14_000)], ids=["jpeg", "warned", "refused"])
def test_decompression_bombs_are_not_unpacked(data: bytes) -> None:
    with pytest.raises(UserError, match=r"x is too large \(.*\): expected at most 89,478,485 pixels"):
        decode(data, "x")


def test_without_a_fast_decoder_pillow_reads_all(monkeypatch: pytest.MonkeyPatch) -> None:
    use("pillow", monkeypatch)
    assert decoding.decoder().startswith("pillow ")
    assert np.array_equal(pixels(decode(saved(photo()), "x")), by_pillow(saved(photo())))
    decoding._decoder.cache_clear()
