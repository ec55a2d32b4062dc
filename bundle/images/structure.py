"""Structural limits of image files, against files that ask for more work than their size and pixels justify.

They are checked in the bytes, before a decoder reads them. Pillow reads headers in Python, part by part, and libjpeg
decodes each scan of a progressive JPEG over all pixels: thousands of scans, or millions of empty markers, chunks,
sub-blocks or tags would keep a thread busy for minutes.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from bundle.errors import ImageFileError

# A part of a file may be this small on average, beyond the number that is always allowed.
_BYTES_PER_PART = 256
# A marker of a JPEG header, past fill bytes (FFFF) and junk; between scans, restart markers belong to the data.
_HEADER_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_SCAN_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_END_OF_IMAGE, _START_OF_SCAN, _QUANTIZATION, _PHOTOSHOP = 0xD9, 0xDA, 0xDB, 0xED
_EXIF, _MULTI_PICTURE = b"Exif\0\0", b"MPF\0"
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xDE}) - {0xC4, 0xC8, 0xCC}
# Markers without a length, and those whose length Pillow does not read.
_BARE = frozenset({0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
_QUANTIZATION_BYTES, _COMPONENT_BYTES = 65, 3
_SEGMENT_BYTES = 65_535
_SIGNATURE_BYTES, _CHUNK_BYTES = 8, 12
_GIF_HEADER_BYTES = 13
_TABLE_FLAG, _TABLE_SIZE = 0x80, 0x07
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
# Read as bytes, never value by value.
_BYTE_TYPES = frozenset({1, 2, 6, 7})
# Directories of EXIF, GPS and interoperability tags.
_DIRECTORY_TAGS = frozenset({0x8769, 0x8825, 0xA005})


@dataclass(frozen=True)
class Limits:
    """What an image file may ask for, whatever its size in bytes; the defaults are far above what cameras write."""

    max_scans: int = 32
    """Scans of a JPEG file; libjpeg writes at most 18 (progressive, four colours)."""
    max_parts: int = 16_384
    """Markers, fill bytes, chunks, sub-blocks and tag values; and one more for each 256 bytes of the file."""


def check(data: bytes, limits: Limits) -> list[int]:
    """Check the structure of an image file; return where each scan of a JPEG file begins.

    Raises:
        ImageFileError: more scans or parts than allowed.
    """
    parts = _Parts(limits.max_parts + len(data) // _BYTES_PER_PART)
    if data.startswith(b"\xff\xd8\xff"):
        return _check_jpeg(data, parts, limits.max_scans)
    if data.startswith(b"\x89PNG"):
        _check_png(data, parts)
    elif data.startswith(b"GIF8"):
        _check_gif(data, parts)
    elif data.startswith((b"II", b"MM")):
        _check_directories(data, parts)
    return []


def check_exif(exif: bytes, limits: Limits) -> None:
    """Check the tags of an EXIF block.

    Raises:
        ImageFileError: more values than allowed.
    """
    _check_directories(exif.removeprefix(_EXIF), _Parts(limits.max_parts + len(exif) // _BYTES_PER_PART))


class _Parts:
    """Counts the parts of a file."""

    def __init__(self, allowed: int) -> None:
        self._allowed = self._left = allowed

    def add(self, count: int = 1) -> None:
        self._left -= count
        if self._left < 0:
            raise ImageFileError(
                f"expected at most {self._allowed} markers, chunks, tag values and fill bytes in a file of this size, "
                "got more: save the image again"
            )


def _check_jpeg(data: bytes, parts: _Parts, max_scans: int) -> list[int]:
    scans: list[int] = []
    exif: list[bytes] = []
    position = 2
    while found := (_SCAN_MARKER if scans else _HEADER_MARKER).search(data, position):
        marker, end = data[found.start() + 1], found.end()
        # Behind the first scan, what lies between markers is pixels.
        parts.add(1 if scans else 1 + found.start() - position)
        if marker == _START_OF_SCAN:
            if not scans:
                _check_directories(b"".join(exif), parts)
            scans.append(found.start())
            if len(scans) > max_scans:
                raise ImageFileError(
                    f"expected at most {max_scans} scans in a JPEG file, got more: save it as baseline JPEG"
                )
        elif marker == _END_OF_IMAGE and scans:
            return scans
        position = end if marker in _BARE else _end_of_segment(data, marker, end, parts, exif)
    if not scans:
        # Pillow looks for a marker byte by byte to the end.
        parts.add(len(data) - position)
        _check_directories(b"".join(exif), parts)
    return scans


def _end_of_segment(data: bytes, marker: int, start: int, parts: _Parts, exif: list[bytes]) -> int:
    """Count what a segment is made of; `exif` collects EXIF, which may be split over segments."""
    end = start + int.from_bytes(data[start : start + 2], "big")
    if end <= start + 1:
        return start + 2
    if marker == _QUANTIZATION:
        parts.add((end - start) // _QUANTIZATION_BYTES)
    elif marker in _FRAMES:
        parts.add((end - start) // _COMPONENT_BYTES)
    elif marker == _PHOTOSHOP:
        parts.add(data.count(b"8BIM", start, end))
    elif data.startswith(_EXIF, start + 2):
        # Pillow copies what it has of EXIF for each segment that continues it.
        parts.add(len(exif) * _SEGMENT_BYTES // _BYTES_PER_PART)
        exif.append(data[start + 2 + len(_EXIF) : end])
    elif data.startswith(_MULTI_PICTURE, start + 2):
        _check_directories(data[start + 2 + len(_MULTI_PICTURE) : end], parts)
    return end


def _check_png(data: bytes, parts: _Parts) -> None:
    position = _SIGNATURE_BYTES
    while position + _CHUNK_BYTES <= len(data):
        parts.add()
        length = int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == b"eXIf":
            _check_directories(data[position + 8 : position + 8 + length], parts)
        position += _CHUNK_BYTES + length


def _check_gif(data: bytes, parts: _Parts) -> None:
    """Count the sub-blocks before the first frame; those of frames are read by C code."""
    position = _GIF_HEADER_BYTES
    if data[10:11] and data[10] & _TABLE_FLAG:
        position += 6 << (data[10] & _TABLE_SIZE)
    while position < len(data) and data[position] not in b",;":
        parts.add()
        if data[position] != ord("!"):
            position += 1
            continue
        position += 2
        while position < len(data) and data[position]:
            parts.add()
            position += 1 + data[position]
        position += 1


def _check_directories(data: bytes, parts: _Parts) -> None:
    """Count the tags and values of TIFF's first directory, or that of EXIF, and of the directories that it names."""
    if len(data) < _SIGNATURE_BYTES:
        return
    order = ">" if data.startswith(b"MM") else "<"
    big = data[2:4] in (b"\x2b\0", b"\0\x2b")
    offsets = [_number(data, 8 if big else 4, order, 8 if big else 4)]
    size_bytes = 0
    while offsets:
        for tag, kind, count, value in _entries(data, offsets.pop(), order, big=big):
            # Each entry counts, whatever it holds: so many can name directories, this one among them.
            parts.add()
            value_bytes = count * _VALUE_BYTES.get(kind, 0)
            if value_bytes > len(data):
                # Values that lie outside of the file are never read.
                continue
            parts.add(0 if kind in _BYTE_TYPES else count)
            size_bytes += value_bytes
            if size_bytes > len(data):
                raise ImageFileError("expected tags that lie side by side, got more of them than the file has room for")
            if tag in _DIRECTORY_TAGS:
                offsets.append(value)


def _entries(data: bytes, offset: int, order: str, *, big: bool) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, number of values, and value or offset of each entry of a directory."""
    head = 8 if big else 2
    entry = struct.Struct(f"{order}HHQQ" if big else f"{order}HHLL")
    count = _number(data, offset, order, head)
    end = min(len(data), offset + head + count * entry.size)
    for start in range(offset + head, end - entry.size + 1, entry.size):
        yield entry.unpack_from(data, start)


def _number(data: bytes, offset: int, order: str, size: int) -> int:
    return int.from_bytes(data[offset : offset + size], "big" if order == ">" else "little")
