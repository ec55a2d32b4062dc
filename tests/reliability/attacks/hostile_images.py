"""Image files that ask for more work than their bytes and pixels justify, by name."""

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image

SIDE = 2048
EXIF_HEADER = b"MM\x00\x2a\x00\x00\x00\x08"


def hostile(size_bytes: int, side: int = SIDE) -> dict[str, bytes]:
    """Files of at most about `size_bytes`; decoders that can be held up by them read them for seconds a MiB."""
    return {name: make(size_bytes, side) for name, make in _MAKERS.items()}


def progressive(scans: int, side: int = SIDE) -> bytes:
    """A flat grey JPEG whose last scan, which refines all coefficients, is repeated: a pass takes 11 bytes."""
    stream = io.BytesIO()
    Image.new("L", (side, side), 128).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * scans + data[-2:]


def jpeg_with(header: bytes) -> bytes:
    """A small JPEG with these bytes after its first marker."""
    stream = io.BytesIO()
    Image.new("L", (8, 8), 128).save(stream, "JPEG")
    data = stream.getvalue()
    return data[:2] + header + data[2:]


def png_with(before: bytes = b"", behind: bytes = b"") -> bytes:
    """A small PNG with these chunks before and behind its pixels."""
    pixels = _chunk(b"IDAT", zlib.compress(bytes(72)))
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + behind + _chunk(b"IEND", b"")


def tags(count: int, kind: int = 5, tag: int = 0x011A, values: int | None = None) -> bytes:
    """A TIFF or EXIF directory with one tag of so many values; 5: rational numbers of 8 bytes."""
    entry = struct.pack(">HHII", tag, kind, count if values is None else values, 26)
    return EXIF_HEADER + struct.pack(">H", 1) + entry + bytes(4) + bytes(8 * count)


def segments(kind: int, payload: bytes, size_bytes: int) -> bytes:
    """As many JPEG segments of one kind as go into so many bytes."""
    each = bytes([0xFF, kind]) + struct.pack(">H", len(payload) + 2) + payload
    return each * (size_bytes // len(each))


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def _chunks(kind: bytes, size_bytes: int) -> bytes:
    each = _chunk(kind, b"")
    return each * (size_bytes // len(each))


def _split_exif(size_bytes: int) -> bytes:
    """EXIF of one tag with a million values, split over segments."""
    exif = tags(size_bytes // 8)
    parts = [exif[first : first + 65_000] for first in range(0, len(exif), 65_000)]
    return jpeg_with(b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts))


def _hex_exif(size_bytes: int) -> bytes:
    """A compressed text of hexadecimal digits, whose one tag has as many values as a text may hold."""
    text = b"\nexif\n 1\n" + tags(min(size_bytes // 8, 60_000), tag=0x0112).hex().encode()
    return png_with(_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))


def _gif(extension: bytes) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (8, 8), 128).save(stream, "GIF")
    data = stream.getvalue()
    start = 13 + (6 << (data[10] & 7)) * (data[10] >> 7)
    return data[:start] + extension + data[start:]


def _strips(size_bytes: int) -> bytes:
    """An uncompressed TIFF of 8 x 8 pixels that has a strip for each 8 bytes of the file."""
    count = size_bytes // 8
    first = 8 + 2 + 12 * 8 + 4
    entries = [
        (0x100, 3, 1, 8 << 16),
        (0x101, 3, 1, 8 << 16),
        (0x102, 3, 1, 8 << 16),
        (0x103, 3, 1, 1 << 16),
        (0x106, 3, 1, 1 << 16),
        (0x111, 4, count, first),
        (0x116, 3, 1, 1 << 16),
        (0x117, 4, count, first + 4 * count),
    ]
    directory = b"".join(struct.pack(">HHII", *entry) for entry in entries)
    return EXIF_HEADER + struct.pack(">H", 8) + directory + bytes(4) + struct.pack(">I", 8) * (2 * count)


def _rle(size_bytes: int) -> bytes:
    """A BMP of which each pixel is a run of its own."""
    side = 2 * int((size_bytes // 4) ** 0.5)
    palette = bytes(1024)
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, side * side * 2, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024, 0, 0, 54 + 1024) + head + palette + b"\x01\x07" * (side * side // 2)


_MAKERS: dict[str, Callable[[int, int], bytes]] = {
    "scans": lambda size, side: progressive(size // 11, side),
    "fill bytes": lambda size, _: jpeg_with(b"\xff" * size),
    "junk": lambda size, _: jpeg_with(bytes(size)),
    "empty APP1": lambda size, _: jpeg_with(segments(0xE1, b"", size)),
    "comments": lambda size, _: jpeg_with(segments(0xFE, b"", size)),
    "restart markers": lambda size, _: jpeg_with(b"\xff\xd0" * (size // 2)),
    "quantization tables": lambda size, _: jpeg_with(segments(0xDB, bytes(65 * 1000), size)),
    "photoshop resources": lambda size, _: jpeg_with(
        segments(0xED, b"Photoshop 3.0\0" + b"8BIM\0\1\0\0\0\0\0\0" * 5000, size)
    ),
    "split EXIF": lambda size, _: _split_exif(size),
    "many EXIF segments": lambda size, _: jpeg_with(segments(0xE1, b"Exif\0\0" + bytes(600), size)),
    "empty EXIF segments": lambda size, _: jpeg_with(segments(0xE1, b"Exif\0\0", size)),
    "empty PNG chunks": lambda size, _: png_with(_chunks(b"abCd", size)),
    "empty IDAT": lambda size, _: png_with(_chunks(b"IDAT", size)),
    "PNG chunks behind": lambda size, _: png_with(behind=_chunks(b"abCd", size)),
    "EXIF in PNG": lambda size, _: png_with(_chunk(b"eXIf", tags(size // 8, tag=0x0112))),
    "hexadecimal EXIF": lambda size, _: _hex_exif(size),
    "GIF sub-blocks": lambda size, _: _gif(b"!\xfe" + b"\1x" * (size // 2) + b"\0"),
    "GIF extensions": lambda size, _: _gif(b"!\xff\0" * (size // 3)),
    "GIF junk": lambda size, _: _gif(b"\1" * size),
    "TIFF strips": lambda size, _: _strips(size),
    "RLE of BMP": lambda size, _: _rle(size),
}
