import copy
import io
import time
import zipfile
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bundle.errors import BundleError
from bundle.npz import pack, unpack

ARRAYS = {
    "b/0": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array(3),
    "names": np.array(["zwei", "é"]),
    "empty": np.zeros((0, 4), np.int64),
}


def test_what_goes_in_comes_out() -> None:
    back = unpack(pack(ARRAYS), "test")
    assert back.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


def test_numpy_reads_it() -> None:
    with np.load(io.BytesIO(pack(ARRAYS)), allow_pickle=False) as back:
        np.testing.assert_array_equal(back["b/0"], ARRAYS["b/0"])


def test_equal_arrays_give_equal_bytes_in_any_order_layout_and_time() -> None:
    first = pack(ARRAYS)
    time.sleep(0.01)
    other = {name: np.array(array, order="F") for name, array in reversed(ARRAYS.items())}
    assert pack(other) == first


def test_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        pack({"a": np.array([object()])})


def npy_bytes(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _numpy_file(**arrays: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _compressed() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.zeros(10_000_000))
    return buffer.getvalue()


def overlapping(entries: int, payload: bytes, longer: int = 0) -> bytes:
    """An archive whose directory lists one stored entry under many names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("00000.npy"), payload)
        archive.filelist[0].compress_size += longer
        archive.filelist[0].file_size += longer
        for index in range(1, entries):
            again = copy.copy(archive.filelist[0])
            again.filename = again.orig_filename = f"{index:05}.npy"
            archive.filelist.append(again)
    return buffer.getvalue()


def _encrypted() -> bytes:
    data = bytearray(pack({"a": np.zeros(3)}))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    return bytes(data)


def test_entries_that_overlap_are_refused_before_they_are_read() -> None:
    """Python 3.11 reads the same bytes once for each entry."""
    array = npy_bytes(np.zeros(1000))
    assert unpack(overlapping(1, array), "x").keys() == {"00000"}
    with pytest.raises(BundleError, match=r"00000\.npy overlaps with 00001\.npy"):
        unpack(overlapping(2, array), "x")
    with pytest.raises(BundleError, match="overlaps with the directory"):
        unpack(overlapping(1, array, longer=100), "x")


def test_a_directory_of_very_many_entries_is_refused_unread() -> None:
    data = overlapping(20_000, b"")
    with pytest.raises(BundleError, match="expected a directory of at most 1048576 bytes"):
        unpack(data, "x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an archive",
        pack(ARRAYS)[:-40],
        _compressed(),
        _numpy_file(a=np.array([{}], dtype=object)),
        pack({"a": np.zeros(10)}).replace(b"(10,)", b"(99,)"),
        _encrypted(),
        pack(ARRAYS)[:-2] + b"\1\0c",
        pack(ARRAYS)[:-22] + b"PK\6\7" + bytes(16) + pack(ARRAYS)[-22:],
    ],
    ids=["empty", "text", "truncated", "compressed", "pickle", "forged shape", "encrypted", "comment", "zip64"],
)
def test_what_is_not_a_plain_archive_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"thing\.npz"):
        unpack(data, "thing.npz")
