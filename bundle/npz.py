"""Deterministic .npz files: the same arrays give the same bytes; no pickle, no compression."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bundle.errors import BundleError


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
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {info.filename.removesuffix(".npy"): _read(archive, info) for info in archive.infolist()}
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, KeyError) as error:
        raise BundleError(
            f"{what}: expected an .npz file of plain arrays, got one that cannot be read: {error}"
        ) from error


def _npy_bytes(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    # Strings of any width are stored as they are; objects, which would need pickle, are refused.
    npy.write_array(buffer, np.asarray(array, order="C"), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    # Stored entries are no larger than the file, so that a small file cannot demand much memory.
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename} is compressed")
    buffer = io.BytesIO(archive.read(info))
    npy.read_magic(buffer)
    shape, fortran, dtype = npy.read_array_header_1_0(buffer)
    payload = buffer.read()
    if dtype.hasobject or fortran or len(payload) != dtype.itemsize * int(np.prod(shape, dtype=object)):
        raise ValueError(f"{info.filename} holds {len(payload)} bytes, its header says {dtype} {shape}")
    return np.frombuffer(payload, dtype).reshape(shape)
