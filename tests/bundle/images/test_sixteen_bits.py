"""Files of 16 bits a channel, kept where they are asked for."""

import io
import struct

import numpy as np
import pyspng
import pytest
from autoencoder.v1 import png
from PIL import Image

from bundle.errors import ImageFileError
from bundle.images.decoder import ImageReader
from bundle.images.structure import Limits

LIMITS = Limits(100, 1000)
DEEP = np.random.default_rng(0).integers(0, 65_536, (6, 5, 3), dtype=np.uint16)


def decode(file: bytes, channels: int, target: tuple[int, int] | None = None) -> np.ndarray:
    return ImageReader(file, LIMITS).decode(channels, target, keep_sixteen_bits=True).pixels


def saved(image: Image.Image, kind: str, **settings: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def tiff(
    pixels: np.ndarray,
    order: str = "<",
    *,
    side: int = 0,
    planar: bool = False,
    extra: int | None = None,
    compression: int = 1,
) -> bytes:
    """A TIFF of one strip, of tiles or of planes; `extra` says what the fourth channel is."""
    height, width, channels = pixels.shape
    if side:
        padded = np.pad(pixels, ((0, -height % side), (0, -width % side), (0, 0)))
        corners = [(top, left) for top in range(0, height, side) for left in range(0, width, side)]
        blocks = [padded[top : top + side, left : left + side] for top, left in corners]
    else:
        blocks = [*np.moveaxis(pixels, 2, 0)] if planar else [pixels]
    data = [block.astype(f"{order}u2").tobytes() for block in blocks]
    offsets = [8 + sum(map(len, data[:index])) for index in range(len(data))]
    tags = {
        256: (3, [width]),
        257: (3, [height]),
        258: (3, [16] * channels),
        259: (3, [compression]),
        262: (3, [2]),
        277: (3, [channels]),
        284: (3, [2 if planar else 1]),
    }
    lengths = [len(block) for block in data]
    if side:
        tags |= {322: (3, [side]), 323: (3, [side]), 324: (4, offsets), 325: (4, lengths)}
    else:
        tags |= {273: (4, offsets), 278: (3, [height]), 279: (4, lengths)}
    if extra is not None:
        tags[338] = (3, [extra])
    entries, values = b"", b""
    for tag, (kind, numbers) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        if len(packed) > 4:
            values += packed
            packed = struct.pack(f"{order}I", 8 + sum(lengths) + len(values) - len(packed))
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + sum(lengths) + len(values))
    return head + b"".join(data) + values + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def test_colours_of_a_png() -> None:
    np.testing.assert_array_equal(decode(png.encode(DEEP), 3), DEEP)


def test_grey_of_a_png_and_a_tiff() -> None:
    grey = Image.fromarray(DEEP[:, :, 0])

    np.testing.assert_array_equal(decode(saved(grey, "PNG"), 1)[:, :, 0], DEEP[:, :, 0])
    np.testing.assert_array_equal(decode(saved(grey, "TIFF"), 1)[:, :, 0], DEEP[:, :, 0])
    np.testing.assert_array_equal(decode(saved(grey, "PNG"), 3), np.repeat(DEEP[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("order", ["<", ">"])
def test_colours_of_a_tiff(order: str) -> None:
    np.testing.assert_array_equal(decode(tiff(DEEP, order), 3), DEEP)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiles_that_reach_beyond_the_image(order: str) -> None:
    large = np.random.default_rng(1).integers(0, 65_536, (20, 37, 3), dtype=np.uint16)

    np.testing.assert_array_equal(decode(tiff(large, order, side=16), 3), large)


def test_a_channel_that_is_not_alpha_is_left_out() -> None:
    layered = np.dstack([DEEP, np.full((6, 5), 7, np.uint16)])

    np.testing.assert_array_equal(decode(tiff(layered, extra=0), 3), DEEP)
    with pytest.raises(ImageFileError, match="without compression"):
        decode(tiff(layered, extra=1), 3)


@pytest.mark.parametrize("keep", [False, True])
def test_planes_of_colours_are_refused_rather_than_misread(*, keep: bool) -> None:
    with pytest.raises(ImageFileError, match="got a planar TIFF: save it as PNG"):
        ImageReader(tiff(DEEP, planar=True), LIMITS).decode(3, keep_sixteen_bits=keep)


def test_colours_become_grey_as_pillow_weighs_them() -> None:
    expected = np.rint(DEEP @ np.array([0.299, 0.587, 0.114]))

    np.testing.assert_array_equal(decode(png.encode(DEEP), 1)[:, :, 0], expected)


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


def test_what_is_resized_has_eight_bits_as_in_training() -> None:
    ramp = np.linspace(0, 65_535, 32 * 32).reshape(32, 32).astype(np.uint16)[:, :, None]
    file = png.encode(ramp)

    small = decode(file, 1, (8, 8))

    np.testing.assert_array_equal(small, ImageReader(file, LIMITS).decode(1, (8, 8)).pixels)
    assert small.dtype == np.uint8


def test_without_asking_colours_have_their_high_bytes() -> None:
    pixels = ImageReader(png.encode(DEEP), LIMITS).decode(3).pixels

    np.testing.assert_array_equal(pixels, DEEP >> 8)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (png.encode(DEEP)[:-40], "expected a readable PNG"),
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
