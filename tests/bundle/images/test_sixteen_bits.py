"""Files of 16 bits a channel, kept where they are asked for."""

import io
import struct

import numpy as np
import pyspng
import pytest
from PIL import Image

from bundle.errors import ImageFileError
from bundle.images.decoder import ImageReader
from bundle.images.structure import Limits
from server.codec import png16

LIMITS = Limits(100, 1000)
DEEP = np.random.default_rng(0).integers(0, 65_536, (6, 5, 3), dtype=np.uint16)


def decode(file: bytes, channels: int, target: tuple[int, int] | None = None) -> np.ndarray:
    return ImageReader(file, LIMITS).decode(channels, target, keep_sixteen_bits=True).pixels


def saved(image: Image.Image, kind: str, **settings: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def tiff(pixels: np.ndarray, order: str = "<", compression: int = 1) -> bytes:
    """A TIFF of one strip, with 16 bits in each of three channels."""
    height, width, channels = pixels.shape
    data = pixels.astype(f"{order}u2").tobytes()
    bits = 8 + len(data)
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 3, bits),
        (259, 3, 1, compression),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
        (284, 3, 1, 1),
    ]
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, kind, count)
        + (struct.pack(f"{order}HH", value, 0) if kind == 3 and count == 1 else struct.pack(f"{order}I", value))
        for tag, kind, count, value in tags
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", bits + 6)
    directory = struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0)
    return head + data + struct.pack(f"{order}HHH", 16, 16, 16) + directory


def test_colours_of_a_png() -> None:
    np.testing.assert_array_equal(decode(png16.encode(DEEP), 3), DEEP)


def test_grey_of_a_png_and_a_tiff() -> None:
    grey = Image.fromarray(DEEP[:, :, 0])

    np.testing.assert_array_equal(decode(saved(grey, "PNG"), 1)[:, :, 0], DEEP[:, :, 0])
    np.testing.assert_array_equal(decode(saved(grey, "TIFF"), 1)[:, :, 0], DEEP[:, :, 0])
    np.testing.assert_array_equal(decode(saved(grey, "PNG"), 3), np.repeat(DEEP[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("order", ["<", ">"])
def test_colours_of_a_tiff(order: str) -> None:
    np.testing.assert_array_equal(decode(tiff(DEEP, order), 3), DEEP)


def test_colours_become_grey_as_pillow_weighs_them() -> None:
    expected = np.rint(DEEP @ np.array([0.299, 0.587, 0.114]))

    np.testing.assert_array_equal(decode(png16.encode(DEEP), 1)[:, :, 0], expected)


def test_what_is_transparent_is_blended_onto_black() -> None:
    layered = np.dstack([DEEP, np.zeros((6, 5), np.uint16)])
    layered[0, 0, 3], layered[0, 1, 3] = 65_535, 32_768

    decoded = ImageReader(pyspng.encode(layered), LIMITS).decode(3, keep_sixteen_bits=True)

    assert decoded.transparent
    np.testing.assert_array_equal(decoded.pixels[0, 0], DEEP[0, 0])
    np.testing.assert_array_equal(decoded.pixels[0, 1], np.rint(DEEP[0, 1] * (32_768 / 65_535)))
    assert not decoded.pixels[1:].any()


def test_grey_with_transparency() -> None:
    layered = DEEP[:, :, :2]

    expected = np.rint(layered[:, :, :1] * (layered[:, :, 1:] / 65_535))
    np.testing.assert_array_equal(decode(pyspng.encode(np.ascontiguousarray(layered)), 1), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_eight_bits_are(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(Image.fromarray(DEEP[:, :, 0]), "PNG", exif=exif)
    shallow = ImageReader(file, LIMITS).decode(1).pixels

    np.testing.assert_array_equal(np.rint(decode(file, 1) / 257).astype(np.uint8), shallow)


def test_eight_bits_stay_eight() -> None:
    file = saved(Image.fromarray((DEEP >> 8).astype(np.uint8)), "PNG")

    assert decode(file, 3).dtype == np.uint8


def test_resized_in_sixteen_bits() -> None:
    ramp = np.linspace(0, 65_535, 32 * 32).reshape(32, 32).astype(np.uint16)[:, :, None]

    small = decode(png16.encode(ramp), 1, (8, 8))

    assert small.shape == (8, 8, 1)
    assert small.dtype == np.uint16
    assert len(np.unique(small)) == 64


def test_without_asking_colours_have_their_high_bytes() -> None:
    pixels = ImageReader(png16.encode(DEEP), LIMITS).decode(3).pixels

    np.testing.assert_array_equal(pixels, DEEP >> 8)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (png16.encode(DEEP)[:-40], "expected a readable PNG"),
        (tiff(DEEP)[:80] + tiff(DEEP)[-140:], "expected"),
    ],
)
def test_damaged_files(file: bytes, words: str) -> None:
    with pytest.raises(ImageFileError, match=words):
        decode(file, 3)


def test_a_compressed_tiff_of_colours_is_refused() -> None:
    with pytest.raises(ImageFileError, match="without compression"):
        decode(tiff(DEEP, compression=8), 3)


def test_tiles_of_a_tiff_that_reach_beyond_the_edge() -> None:
    side, tile, start = 20, 16, 8
    words = np.random.default_rng(0).integers(0, 65_536, (2, 2, tile, tile, 3), dtype=np.uint16)
    size = tile * tile * 3 * 2
    end = start + 4 * size
    bits, offsets, counts = end + 2 + 10 * 12 + 4, end + 200, end + 300
    fields = [
        (256, 3, 1, side),
        (257, 3, 1, side),
        (258, 3, 3, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (277, 3, 1, 3),
        (322, 3, 1, tile),
        (323, 3, 1, tile),
        (324, 4, 4, offsets),
        (325, 4, 4, counts),
    ]
    data = b"II*\0" + struct.pack("<I", end) + words.tobytes() + struct.pack("<H", len(fields))
    data += b"".join(struct.pack("<HHII", *each) for each in fields) + bytes(4) + struct.pack("<3H", 16, 16, 16)
    data = data.ljust(offsets, b"\0") + struct.pack("<4I", *(start + index * size for index in range(4)))
    data = data.ljust(counts, b"\0") + struct.pack("<4I", *[size] * 4)

    read = decode(data, 3)

    whole = words.transpose(0, 2, 1, 3, 4).reshape(2 * tile, 2 * tile, 3)
    np.testing.assert_array_equal(read, whole[:side, :side])
