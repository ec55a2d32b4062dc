"""Arrays to `Tensor` messages and back."""

from math import prod
from typing import Any

import grpc
import numpy as np
from autoencoder.v1.autoencoder_pb2 import Tensor
from autoencoder.v1.model_pb2 import DataType
from autoencoder.v1.shapes import DTYPES
from numpy.typing import ArrayLike, NDArray

from hourglass_client.errors import InternalError, invalid

FloatArray = NDArray[np.float32]
_LATENTS = "(N, D) or (D,), or spatial ones (N, h, w, c) or (h, w, c)"
_AXES = {2, 4}
_ONE_OF_THEM = {1, 3}


def latents_tensor(field: str, latents: ArrayLike) -> Tensor:
    """Floating-point latents, (N, D) or (N, h, w, c) or those of one image, to FLOAT32, or FLOAT16 of float16."""
    try:
        array = np.asarray(latents)
    except (ValueError, TypeError, RuntimeError) as error:
        raise invalid(field, f"expected floating-point latents {_LATENTS}, in one array: {error}") from error
    if array.ndim in _ONE_OF_THEM:
        array = array[np.newaxis]
    if array.ndim not in _AXES or array.dtype.kind != "f":
        raise invalid(field, f"expected floating-point latents {_LATENTS}, got {array.dtype} {array.shape}")
    return array_tensor(array)


def type_of(array: NDArray[Any]) -> DataType:
    """As what an array of unsigned or floating-point numbers is sent; floats as FLOAT32, except float16."""
    if array.dtype.kind == "u":
        return DataType.DATA_TYPE_UINT8 if array.dtype.itemsize == 1 else DataType.DATA_TYPE_UINT16
    half = array.dtype.itemsize == np.dtype(np.float16).itemsize
    return DataType.DATA_TYPE_FLOAT16 if half else DataType.DATA_TYPE_FLOAT32


def array_tensor(array: NDArray[Any]) -> Tensor:
    """An array of unsigned or floating-point numbers to a message."""
    kind = type_of(array)
    return Tensor(data_type=kind, shape=array.shape, data=array.astype(DTYPES[kind], copy=False).tobytes())


def to_array(tensor: Tensor) -> NDArray[Any]:
    """A writable array of the tensor's own type and shape."""
    kind = DTYPES.get(tensor.data_type)
    shape = tuple(tensor.shape)
    data = tensor.data
    if kind is None or min(shape, default=1) < 0 or len(data) != kind.itemsize * prod(shape):
        raise InternalError(
            grpc.StatusCode.INTERNAL,
            f"the server sent a tensor of type {tensor.data_type}, shape {shape} and {len(data)} bytes, "
            "which do not fit together",
        )
    return np.frombuffer(data, kind).reshape(shape).astype(kind.newbyteorder("="))
