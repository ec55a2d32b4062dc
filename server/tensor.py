"""Tensor messages to arrays and back, every size checked."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from autoencoder.v1 import model_pb2
from autoencoder.v1.autoencoder_pb2 import Tensor
from autoencoder.v1.model_pb2 import DataType
from numpy.typing import NDArray

from server.errors import InvalidArgumentError

_TYPES: dict[int, np.dtype[Any]] = {
    model_pb2.DATA_TYPE_UINT8: np.dtype(np.uint8),
    model_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    model_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
}


def fill(tensor: Tensor, array: NDArray[np.float32] | NDArray[np.uint8]) -> bytes:
    """Write a float32 or uint8 array into an empty message; its bytes."""
    tensor.data_type = model_pb2.DATA_TYPE_UINT8 if array.dtype == np.uint8 else model_pb2.DATA_TYPE_FLOAT32
    tensor.shape.extend(array.shape)
    data = array.tobytes()
    tensor.data = data
    return data


def read(tensor: Tensor, field: str) -> NDArray[Any]:
    """Array of a message whose shape has been checked; uint8, float16 or float32.

    Raises:
        InvalidArgumentError: a type that nothing takes, or a byte count that the shape does not give.
    """
    kind = tensor.data_type
    if kind not in _TYPES:
        names = ", ".join(DataType.Name(known) for known in _TYPES)  # pyright: ignore[reportArgumentType]
        raise InvalidArgumentError(f"{field}.data_type", f"wanted one of {names}, got {type_name(kind)}")
    data = tensor.data
    wanted = math.prod(tensor.shape) * _TYPES[kind].itemsize
    if len(data) != wanted:
        raise InvalidArgumentError(
            f"{field}.data",
            f"wanted {wanted} bytes, as shape {shape_text(tensor.shape)} of {type_name(kind)} needs, got {len(data)}",
        )
    return np.frombuffer(data, _TYPES[kind]).reshape(tuple(tensor.shape))


def read_latents(tensor: Tensor, field: str, latent_size: int, limit_rows: int) -> NDArray[np.float32]:
    """(N, D) float32 of a FLOAT32 or FLOAT16 message.

    Raises:
        InvalidArgumentError: another shape, size or type, too many rows, or numbers that are not finite.
    """
    shape = tuple(tensor.shape)
    if len(shape) != 2 or shape[1] != latent_size or shape[0] < 1:  # noqa: PLR2004 (rows and columns)
        raise InvalidArgumentError(
            f"{field}.shape", f"wanted (N, {latent_size}) with N from 1, got {shape_text(shape)}"
        )
    check_rows(shape[0], field, limit_rows)
    if tensor.data_type == model_pb2.DATA_TYPE_UINT8:
        raise InvalidArgumentError(f"{field}.data_type", "wanted DATA_TYPE_FLOAT32 or DATA_TYPE_FLOAT16, got UINT8")
    latents = read(tensor, field).astype(np.float32, copy=False)
    check_finite(latents, field)
    return latents


def check_rows(rows: int, field: str, limit_rows: int) -> None:
    """Refuse more rows than one request may carry."""
    if rows > limit_rows:
        raise InvalidArgumentError(field, f"wanted at most {limit_rows} rows a request, got {rows}: send several")


def check_finite(array: NDArray[Any], field: str) -> None:
    """Refuse NaN and infinity."""
    if not np.isfinite(array).all():
        raise InvalidArgumentError(f"{field}.data", "wanted finite numbers, got NaN or infinity")


def type_name(kind: int) -> str:
    """Name of a data type, also of one from another build."""
    known: dict[int, str] = {value: name for name, value in DataType.items()}
    return known.get(kind, str(kind))


def shape_text(shape: Sequence[int]) -> str:
    """(2, 28, 28) as people write it."""
    return f"({', '.join(map(str, shape))})"
