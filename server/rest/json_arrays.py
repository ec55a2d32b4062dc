"""JSON arrays of numbers to NumPy arrays and back.

Long arrays are written, and deeply nested ones read, in pieces, because one call into C would block every other thread.
"""

import json
import math
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from server.errors import InvalidArgumentError

DTYPES = {
    "UINT8": np.dtype(np.uint8),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
}
_KINDS = {"u": "iu", "i": "iu", "f": "iuf"}
_WORDS = {"f": "fractions", "b": "true and false"}
# Read or written in about a millisecond.
_NUMBERS_AT_ONCE = 1024
_BYTES_AT_ONCE = 16 * 1024
# Long arrays of numbers only. They do not match inside a string, where the quotes are escaped.
_LONG = re.compile(rb'"data"\s*:\s*(\[[-+.\deE,\s\[\]]{65536,}\])')
# With a list per this many bytes, reading in pieces pays: fewer lists are parsed five times as fast at once.
_BYTES_PER_LIST = 128
_MARKS = bytes.maketrans(b"123456789+-.eE", b"0" * 14)
_SPACES = b" \t\r\n"


def text(array: NDArray[Any]) -> str:
    """Write (N,) numbers, separated by commas."""
    pieces = (array[first : first + _NUMBERS_AT_ONCE].tolist() for first in range(0, len(array), _NUMBERS_AT_ONCE))
    return ", ".join(json.dumps(piece)[1:-1] for piece in pieces)


def cut(document: bytes) -> tuple[bytes, Mapping[str, bytes]]:
    """Cut long nested arrays of numbers out of a document; returns it, and each array by the key that replaces it."""
    if document.count(b"[") * _BYTES_PER_LIST < len(document):
        return document, {}
    texts: dict[str, bytes] = {}

    def keep(found: re.Match[bytes]) -> bytes:
        key = secrets.token_hex(8)
        texts[key] = found[1]
        return b'"data":{"%b":0}' % key.encode()

    return _LONG.sub(keep, document), texts


def from_text(field: str, data: bytes, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Read (N,) numbers of a JSON array that is flat or nested as `shape` says; None for any other.

    Raises:
        InvalidArgumentError: integers out of range.
    """
    marks = data.translate(_MARKS, _SPACES)
    # A number next to the outside of a bracket would merge with another one once the brackets are removed.
    if b"0[" in marks or b"]0" in marks or not _fits(marks.translate(None, b"0"), shape):
        return None
    flat = data.translate(None, b"[]")
    pieces: list[NDArray[Any]] = []
    start = 0
    while start < len(flat):
        stop = flat.find(b",", start + _BYTES_AT_ONCE)
        stop = len(flat) if stop < 0 else stop
        try:
            piece = np.asarray(json.loads(b"[%b]" % flat[start:stop]))
        except ValueError:
            return None
        if piece.dtype.kind not in _KINDS[dtype.kind]:
            return None
        pieces.append(_narrow(field, piece, dtype))
        start = stop + 1
    array = np.concatenate(pieces)
    return array if array.size == math.prod(shape) else None


def from_list(field: str, datatype: str, data: list[object], shape: Sequence[int]) -> NDArray[Any]:
    """Read (N,) numbers of an array of any regular form.

    Raises:
        InvalidArgumentError: ragged, not numbers, integers out of range, more or fewer than the shape has.
    """
    dtype = DTYPES[datatype]
    _refuse_others(field, datatype, data)
    try:
        array: NDArray[Any] = np.asarray(data)
    except ValueError:
        raise InvalidArgumentError(field, "expected arrays of equal lengths, got a ragged one") from None
    if array.size and array.dtype.kind not in _KINDS[dtype.kind]:
        got = _WORDS.get(array.dtype.kind, "something else")
        raise InvalidArgumentError(field, f"expected numbers for {datatype}, got {got}")
    if array.size != math.prod(shape):
        raise InvalidArgumentError(
            field, f"expected as many elements as shape {tuple(shape[:8])} has, got {array.size}"
        )
    return _narrow(field, array, dtype)


def _fits(brackets: bytes, shape: Sequence[int]) -> bool:
    """Whether brackets and commas are those of a flat array, or of one nested as in the shape."""
    if min(shape, default=0) < 1 or math.prod(shape) > len(brackets):
        return False
    nested = b""
    for size in reversed(shape):
        nested = b"[%b]" % b",".join([nested] * size)
    return brackets in {nested, b"[%b]" % (b"," * (math.prod(shape) - 1))}


def _refuse_others(field: str, datatype: str, data: list[object]) -> None:
    """Refuse non-numbers before NumPy makes an array: one string would make every element a string of its length."""
    kinds = _kinds(data) - {int, float, bool, list}
    if kinds:
        got = "texts" if str in kinds else "something else"
        raise InvalidArgumentError(field, f"expected numbers for {datatype}, got {got}")


def _kinds(data: list[object]) -> set[type]:
    kinds = set(map(type, data))
    if list in kinds:
        for part in data:
            if isinstance(part, list):
                kinds |= _kinds(cast("list[object]", part))
    return kinds


def _narrow(field: str, array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            raise InvalidArgumentError(field, f"expected {limits.min} to {limits.max}, got {low} to {high}")
    with np.errstate(over="ignore"):
        # Overflow becomes infinite and is refused as such.
        return array.astype(dtype)
