"""PNG files of 8 and 16 bits a channel; Pillow writes 16 for grey images alone. Server and client use it.

PNG (Portable Network Graphics) Specification, third edition: https://www.w3.org/TR/png-3/.
"""

import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBB")
_HEADER_AT = 16
# The first chunk, which all others follow.
_HEADER_ENDS = 33
_COLOUR_TYPES = {1: 0, 3: 2}
_GREY_TYPES = {0, 4}
_SUB_FILTER = 1
_COMPRESSION_LEVEL = 1
# Lines that are compressed at a time.
_LINES = 256


class Header(NamedTuple):
    """What a PNG file says of itself."""

    width: int
    height: int
    bits: int
    """Of a channel."""
    grey: bool


def header(file: bytes) -> Header | None:
    """The header of a PNG file; None for another file."""
    if not file.startswith(_SIGNATURE) or len(file) < _HEADER_AT + _HEADER.size:
        return None
    width, height, bits, colour_type = _HEADER.unpack_from(file, _HEADER_AT)
    return Header(width, height, bits, colour_type in _GREY_TYPES)


def encode(image: NDArray[Any]) -> bytes:
    """(H, W, 1) or (H, W, 3) uint8 or uint16 to a file."""
    height, width, channels = image.shape
    start = struct.pack(">IIBBBBB", width, height, 8 * image.itemsize, _COLOUR_TYPES[channels], 0, 0, 0)
    packed = zlib.compressobj(_COMPRESSION_LEVEL)
    data = [packed.compress(_filtered(image[first : first + _LINES]).data) for first in range(0, height, _LINES)]
    data.append(packed.flush())
    return b"".join([_SIGNATURE, _chunk(b"IHDR", start), _chunk(b"IDAT", b"".join(data)), _chunk(b"IEND", b"")])


def with_profile(file: bytes, profile: bytes) -> bytes:
    """A file of `encode` with an ICC profile (chunk iCCP), which says what its colours are."""
    chunk = _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile))
    return file[:_HEADER_ENDS] + chunk + file[_HEADER_ENDS:]


def _filtered(rows: NDArray[Any]) -> NDArray[np.uint8]:
    """Lines of bytes less those of the pixel to their left, which compress well."""
    height, width, channels = rows.shape
    pixel = channels * rows.itemsize
    raw = rows.astype(rows.dtype.newbyteorder(">")).reshape(height, width * channels).view(np.uint8)
    lines = np.empty((height, 1 + raw.shape[1]), np.uint8)
    lines[:, 0] = _SUB_FILTER
    lines[:, 1:] = raw
    lines[:, 1 + pixel :] -= raw[:, :-pixel]
    return lines


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
