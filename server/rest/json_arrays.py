"""JSON arrays of numbers to NumPy arrays and back.

Long arrays are written and read in pieces: one call into C would block every other thread, and Python's objects for all
numbers of an array take twenty times the memory of its text.
"""

import json
import math
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from server.errors import InvalidArgumentError

DTYPES = {
    "UINT8": np.dtype(np.uint8),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
}
_KINDS = {"u": "iu", "i": "iu", "f": "iuf"}
_WORDS = {"f": "fractions"}
_RAGGED = "expected arrays of equal lengths, got a ragged one"
# Written in about a millisecond.
_NUMBERS_AT_ONCE = 1024
# Read in a quarter of a millisecond.
_BYTES_AT_ONCE = 64 * 1024
# Shorter arrays are parsed with their document.
_LONG_BYTES = 64 * 1024
# A document has one for each input; further ones stay in it.
_MAX_ARRAYS = 64
_MAX_DOCUMENT_BYTES = 1024 * 1024
_MAX_AXES = 32
# It does not match inside a string, where the quotes are escaped.
_DATA = re.compile(rb'"data"\s*:\s*\[')
_ARRAY_BYTES = b"0123456789-+.eE, \t\r\n[]"
_BYTES_PER_LIST = 128
_MARKS = bytes.maketrans(b"123456789+-.eE", b"0" * 14)
_SPACES = b" \t\r\n"


def text(array: NDArray[Any]) -> str:
    """Write (N,) numbers, separated by commas."""
    pieces = (array[first : first + _NUMBERS_AT_ONCE].tolist() for first in range(0, len(array), _NUMBERS_AT_ONCE))
    return ", ".join(json.dumps(piece)[1:-1] for piece in pieces)


def cut(document: bytes) -> tuple[bytes, Mapping[str, bytes]]:
    """Cut long arrays of numbers out of a document; returns it, and each array by the key that replaces it.

    Raises:
        InvalidArgumentError: what is left is too long to be parsed at once.
    """
    texts: dict[str, bytes] = {}
    parts: list[bytes] = []
    done = start = 0
    for _ in range(_MAX_ARRAYS):
        if not (found := _DATA.search(document, start)):
            break
        first = found.end() - 1
        start = document.rfind(b"]", first, _end_of_numbers(document, first)) + 1 or found.end()
        if start - first >= _LONG_BYTES:
            key = secrets.token_hex(8)
            texts[key] = document[first:start]
            parts += (document[done:first], b'{"%b":0}' % key.encode())
            done = start
    left = sum(map(len, parts)) + len(document) - done
    if left > _MAX_DOCUMENT_BYTES:
        raise InvalidArgumentError(
            "request", f"expected at most {_MAX_DOCUMENT_BYTES} bytes of JSON besides arrays of numbers, got {left}"
        )
    return (b"".join([*parts, document[done:]]) if texts else document), texts


def from_text(field: str, datatype: str, data: bytes, shape: Sequence[int]) -> NDArray[Any]:
    """Read (N,) numbers of a JSON array of any regular form.

    Raises:
        InvalidArgumentError: as `from_list`, or not JSON.
    """
    dtype, size = DTYPES[datatype], _elements(field, data)
    _check_size(field, size, shape)
    flat = data.translate(None, b"[]")
    array = np.empty(size, dtype)
    start = filled = 0
    while start <= len(flat):
        stop = flat.find(b",", start + _BYTES_AT_ONCE)
        stop = len(flat) if stop < 0 else stop
        if stop - start > 2 * _BYTES_AT_ONCE:
            raise InvalidArgumentError(field, f"expected numbers of a few bytes, got {stop - start} without a comma")
        try:
            piece = np.asarray(from_json(b"[%b]" % flat[start:stop]))
        except ValueError as error:
            raise InvalidArgumentError(field, f"Invalid JSON: {error}") from error
        _check_kind(field, datatype, piece)
        # A text without numbers has no elements.
        array[filled : filled + piece.size] = _narrow(field, piece, dtype)
        filled += piece.size
        start = stop + 1
    if filled != size:
        raise InvalidArgumentError(field, "Invalid JSON: expected a number on each side of a comma")
    return array


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
        raise InvalidArgumentError(field, _RAGGED) from None
    if array.size:
        _check_kind(field, datatype, array)
    _check_size(field, array.size, shape)
    return _narrow(field, array, dtype)


def _end_of_numbers(document: bytes, start: int) -> int:
    """Where bytes that an array of numbers cannot contain begin."""
    while start < len(document):
        piece = document[start : start + _LONG_BYTES]
        if others := piece.translate(None, _ARRAY_BYTES):
            return start + piece.index(others[:1])
        start += len(piece)
    return start


def _elements(field: str, data: bytes) -> int:
    """How many elements an array has that is flat or regularly nested, counted without reading the numbers."""
    lists = data.count(b"[")
    if lists != data.count(b"]"):
        raise InvalidArgumentError(field, _RAGGED)
    if lists == 1:
        return data.count(b",") + 1
    marks = data.translate(_MARKS, _SPACES)
    if _touches(marks, lists):
        raise InvalidArgumentError(field, "Invalid JSON: expected a comma between a number and a bracket")
    brackets = marks.translate(None, b"0")
    sizes = _sizes(brackets)
    if sizes is None or brackets != _brackets(sizes):
        raise InvalidArgumentError(field, _RAGGED)
    return math.prod(sizes)


def _touches(marks: bytes, lists: int) -> bool:
    """Whether a number is next to the outside of a bracket: without the brackets it would merge with another one."""
    if lists * _BYTES_PER_LIST < len(marks):
        # A search for two bytes among so many equal ones takes five times as long.
        before, behind = marks.split(b"["), marks.split(b"]")[1:]
        return any(part.endswith(b"0") for part in before) or any(part.startswith(b"0") for part in behind)
    return b"0[" in marks or b"]0" in marks


def _sizes(brackets: bytes) -> Sequence[int] | None:
    """Sizes of a regularly nested array, innermost first, by its first part on each level; None for any other."""
    depth = len(brackets) - len(brackets.lstrip(b"["))
    sizes: list[int] = []
    inner = 0
    for level in range(1, min(depth, _MAX_AXES) + 1):
        length = brackets.find(b"]" * level) + level - (depth - level)
        # Each of its parts but the last one is followed by a comma.
        size, surplus = divmod(length - 1, inner + 1)
        if surplus or size < 1:
            return None
        sizes.append(size)
        inner = length
    return sizes if inner == len(brackets) else None


def _brackets(sizes: Sequence[int]) -> bytes:
    """Brackets and commas of an array of these sizes, innermost first."""
    nested = b""
    for size in sizes:
        nested = b"[%b%b]" % ((nested + b",") * (size - 1), nested)
    return nested


def _check_kind(field: str, datatype: str, array: NDArray[Any]) -> None:
    if array.dtype.kind not in _KINDS[DTYPES[datatype].kind]:
        got = _WORDS.get(array.dtype.kind, "something else")
        raise InvalidArgumentError(field, f"expected numbers for {datatype}, got {got}")


def _check_size(field: str, size: int, shape: Sequence[int]) -> None:
    if size != math.prod(shape):
        raise InvalidArgumentError(field, f"expected as many elements as shape {tuple(shape[:8])} has, got {size}")


def _refuse_others(field: str, datatype: str, data: list[object]) -> None:
    """Refuse non-numbers before NumPy makes an array: one string would make every element a string of its length."""
    kinds = _kinds(data) - {int, float, list}
    if kinds:
        got = "texts" if str in kinds else "true and false" if bool in kinds else "something else"
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
