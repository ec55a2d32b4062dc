"""Tensor codec: deserialises Tensor messages to arrays and back, every size checked."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from autoencoder.v1 import model_pb2
from autoencoder.v1.autoencoder_pb2 import Tensor
from autoencoder.v1.model_pb2 import DataType
from autoencoder.v1.shapes import DTYPES, ShapeError, Shapes
from numpy.typing import NDArray

from server.errors import InvalidArgumentError
from server.types import Buffer

# From the bytes of a Tensor's data to rows of a graph.
Convert: TypeAlias = Callable[[bytes], Buffer]
_TYPES = {kind: dtype for kind, dtype in DTYPES.items() if kind != model_pb2.DATA_TYPE_INT64}
_DATA_TYPES = {dtype: kind for kind, dtype in _TYPES.items()}
MAX_AXES = 64
"""No model has more axes; a caller may send millions."""
_MAX_SIZES_SHOWN = 8
# Far beyond the latents of any model, and far below where its sums overflow.
_LARGEST_LATENT = 1e6


def fill(tensor: Tensor, array: NDArray[Any]) -> None:
    """Write an array of one of the types of requests into an empty message."""
    tensor.data_type = _DATA_TYPES[array.dtype]  # pyright: ignore[reportAttributeAccessIssue] (one of the enumeration)
    tensor.shape.extend(array.shape)
    tensor.data = array.tobytes()


def shape_of(sent: Sequence[int], field: str) -> tuple[int, ...]:
    """Return the shape in a message.

    Raises:
        InvalidArgumentError: far too many axes.
    """
    if len(sent) > MAX_AXES:
        raise InvalidArgumentError(field, f"expected at most {MAX_AXES} sizes, got {len(sent)}")
    return tuple(sent)


def check_data(tensor: Tensor, field: str) -> np.dtype[Any]:
    """Check type and size of a message whose shape has been checked; return its type.

    Raises:
        InvalidArgumentError: an unsupported type, or a byte count that does not match the shape.
    """
    kind = tensor.data_type
    dtype = _TYPES.get(kind)
    if dtype is None:
        names = ", ".join(DataType.Name(known) for known in _TYPES)  # pyright: ignore[reportArgumentType]
        raise InvalidArgumentError(f"{field}.data_type", f"expected one of {names}, got {type_name(kind)}")
    got, expected = len(tensor.data), math.prod(tensor.shape) * dtype.itemsize
    if got != expected:
        raise InvalidArgumentError(
            f"{field}.data",
            f"expected {expected} bytes, as shape {shape_text(tensor.shape)} of {type_name(kind)} needs, got {got}",
        )
    return dtype


def rows_of_latents(tensor: Tensor, field: str, shapes: Shapes, limit_rows: int) -> tuple[Convert, int]:
    """Return how a FLOAT32 or FLOAT16 Tensor's data become float32 latents, refusing NaN and infinity; and N.

    The shape is (N, D), or (N, h, w, c) for spatial latents.

    Raises:
        InvalidArgumentError: another shape, size or type, or too many rows.
    """
    shape = shape_of(tensor.shape, f"{field}.shape")
    try:
        shapes.image_of(shape[1:])
    except ShapeError as error:
        raise _wrong_latents(field, shape, shapes, error) from error
    if shape[0] < 1:
        raise _wrong_latents(field, shape, shapes)
    check_rows(shape[0], field, limit_rows)
    if tensor.data_type in {model_pb2.DATA_TYPE_UINT8, model_pb2.DATA_TYPE_UINT16}:
        got = type_name(tensor.data_type).removeprefix("DATA_TYPE_")
        raise InvalidArgumentError(f"{field}.data_type", f"expected DATA_TYPE_FLOAT32 or DATA_TYPE_FLOAT16, got {got}")
    return partial(_finite, check_data(tensor, field), field), shape[0]


def read_latents(tensor: Tensor, field: str, shapes: Shapes, limit_rows: int) -> NDArray[np.float32]:
    """(N, D) or (N, h, w, c) float32 of a FLOAT32 or FLOAT16 message.

    Raises:
        InvalidArgumentError: another shape, size or type, too many rows, or values that are not finite or too large.
    """
    convert, _ = rows_of_latents(tensor, field, shapes, limit_rows)
    return np.frombuffer(convert(tensor.data), np.float32).reshape(tuple(tensor.shape))


def _wrong_latents(
    field: str, shape: tuple[int, ...], shapes: Shapes, error: ShapeError | None = None
) -> InvalidArgumentError:
    if shapes.free and error is not None and shape:
        return InvalidArgumentError(f"{field}.shape", f"{error}, in {shape_text(shape)}")
    latent = ", ".join(map(str, shapes.latent))
    expected = f"expected (N, {latent}) with N from 1"
    return InvalidArgumentError(f"{field}.shape", f"{expected}, got {shape_text(shape)}")


def _finite(kind: np.dtype[Any], field: str, data: bytes) -> Buffer:
    latents = np.frombuffer(data, kind).astype(np.float32, copy=False)
    check_latents(latents, f"{field}.data")
    return latents.data


def check_rows(rows: int, field: str, limit_rows: int) -> None:
    """Refuse more rows than a request may have."""
    if rows > limit_rows:
        few = "one row" if limit_rows == 1 else f"at most {limit_rows} rows a request"
        advice = "" if limit_rows == 1 else ": send several requests"
        raise InvalidArgumentError(field, f"expected {few}, got {rows}{advice}")


def check_finite(array: NDArray[Any], field: str) -> None:
    """Refuse NaN and infinity."""
    if not np.isfinite(array).all():
        raise InvalidArgumentError(f"{field}.data", "expected finite numbers, got NaN or infinity")


def check_latents(latents: NDArray[Any], field: str, advice: str = "send smaller ones") -> None:
    """Refuse NaN, infinity, and values so large that graphs would return them."""
    # NaN makes the comparison false.
    if not np.abs(latents).max() <= _LARGEST_LATENT:
        raise InvalidArgumentError(
            field,
            f"expected finite latents from {-_LARGEST_LATENT:g} to {_LARGEST_LATENT:g}, "
            f"got {np.abs(latents).max():g}: {advice}",
        )


def type_name(kind: int) -> str:
    """Name of a data type; its number if it is unknown."""
    known: dict[int, str] = {value: name for name, value in DataType.items()}
    return known.get(kind, str(kind))


def shape_text(shape: Sequence[int]) -> str:
    """Format a shape as (2, 28, 28), truncated after the first few sizes."""
    more = ", …" if len(shape) > _MAX_SIZES_SHOWN else ""
    return f"({', '.join(map(str, shape[:_MAX_SIZES_SHOWN]))}{more})"
