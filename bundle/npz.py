"""Deterministic .npz files: the same arrays give the same bytes; no pickle, no compression."""

import io
import struct
import zipfile
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bundle.errors import BundleError

# The record at the end of an archive: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.16.
_END = struct.Struct("<4s4H2LH")
_LOCAL_HEADER_BYTES = 30
# Thousands of arrays; each entry costs ten times its bytes in memory.
_MAX_DIRECTORY_BYTES = 1024 * 1024


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Named arrays of any shape to .npz bytes that `numpy.load` reads."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            # A ZipInfo made from a name alone is dated 1980: no clock in the bytes.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), _npy_bytes(arrays[name]))
    return buffer.getvalue()


def unpack(data: bytes, what: str) -> dict[str, NDArray[Any]]:
    """Bytes of `pack` or `numpy.savez` to the named arrays; `what` names them in errors.

    Raises:
        BundleError: not an .npz file, compressed, truncated, or an array that is not what its header says.
    """
    try:
        _check_directory(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            check_entries(archive)
            return {info.filename.removesuffix(".npy"): _read(archive, info) for info in archive.infolist()}
    # RuntimeError: encrypted, or a header nested too deep.
    except (zipfile.BadZipFile, ValueError, EOFError, RuntimeError, KeyError, struct.error) as error:
        raise BundleError(
            f"{what}: expected an .npz file of plain arrays, got one that cannot be read: {error}"
        ) from error


def _npy_bytes(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    # Strings of any width are stored as they are; objects, which would need pickle, are refused.
    npy.write_array(buffer, np.asarray(array, order="C"), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _check_directory(data: bytes) -> None:
    """A directory of a few entries, without a comment or the larger format of archives beyond 4 GiB."""
    if len(data) < _END.size:
        raise ValueError("it is too short")
    signature, *_, directory_bytes, _, comment_bytes = _END.unpack(data[-_END.size :])
    if signature != b"PK\5\6" or comment_bytes or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise ValueError(f"expected a directory of at most {_MAX_DIRECTORY_BYTES} bytes at its end")
    if data[-_END.size - 20 :].startswith(b"PK\6\7"):
        raise ValueError("expected an archive of less than 4 GiB")


def check_entries(archive: zipfile.ZipFile) -> None:
    """Refuse entries that overlap: some versions of Python read what lies under many as often.

    Raises:
        ValueError: they do.
    """
    places = sorted(
        (info.header_offset, info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size, info.filename)
        for info in archive.infolist()
    )
    for (_, end, name), (start, _, other) in pairwise([*places, (archive.start_dir, 0, "the directory")]):
        if end > start:
            raise ValueError(f"its entries overlap: {name} overlaps with {other}")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    # Stored entries are together no larger than the file, so that a small file cannot demand much memory.
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ValueError(f"{info.filename} is compressed")
    buffer = io.BytesIO(archive.read(info))
    npy.read_magic(buffer)
    shape, fortran, dtype = npy.read_array_header_1_0(buffer)
    payload = buffer.read()
    if dtype.hasobject or fortran or len(payload) != dtype.itemsize * int(np.prod(shape, dtype=object)):
        raise ValueError(f"{info.filename} holds {len(payload)} bytes, its header says {dtype} {shape}")
    return np.frombuffer(payload, dtype).reshape(shape)
