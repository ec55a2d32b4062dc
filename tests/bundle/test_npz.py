import io
import time
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


def _numpy_file(**arrays: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _compressed() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.zeros(10_000_000))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an archive",
        pack(ARRAYS)[:-40],
        _compressed(),
        _numpy_file(a=np.array([{}], dtype=object)),
        pack({"a": np.zeros(10)}).replace(b"(10,)", b"(99,)"),
    ],
    ids=["empty", "text", "truncated", "compressed", "pickle", "forged shape"],
)
def test_what_is_not_a_plain_archive_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"thing\.npz"):
        unpack(data, "thing.npz")
