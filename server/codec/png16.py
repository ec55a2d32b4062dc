"""PNG files of 16 bits a channel, which Pillow writes for grey images alone.

PNG (Portable Network Graphics) Specification, third edition: https://www.w3.org/TR/png-3/.
"""

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2}
_BITS = 16
_SUB_FILTER = 1
_COMPRESSION_LEVEL = 1


def encode(image: NDArray[Any]) -> bytes:
    """(H, W, 1) or (H, W, 3) uint16 to a file."""
    height, width, channels = image.shape
    header = struct.pack(">IIBBBBB", width, height, _BITS, _COLOUR_TYPES[channels], 0, 0, 0)
    big_endian = image.reshape(height, width * channels).astype(">u2").view(np.uint8)
    # What is left of a byte when that of the pixel to its left is taken away compresses well.
    lines = np.empty((height, 1 + big_endian.shape[1]), np.uint8)
    lines[:, 0] = _SUB_FILTER
    lines[:, 1:] = big_endian
    lines[:, 1 + 2 * channels :] -= big_endian[:, : -2 * channels]
    data = zlib.compress(lines.data, _COMPRESSION_LEVEL)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
