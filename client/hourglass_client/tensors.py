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
    return float_tensor(array)


def float_tensor(array: NDArray[Any]) -> Tensor:
    """A floating-point array to FLOAT32, or FLOAT16 where it is float16."""
    if array.dtype.itemsize == np.dtype(np.float16).itemsize:
        return _tensor(DataType.DATA_TYPE_FLOAT16, array)
    return _tensor(DataType.DATA_TYPE_FLOAT32, array)


def word_tensor(array: NDArray[np.uint16]) -> Tensor:
    """A uint16 array to UINT16."""
    return _tensor(DataType.DATA_TYPE_UINT16, array)


def byte_tensor(array: NDArray[np.uint8]) -> Tensor:
    """A uint8 array to UINT8."""
    return _tensor(DataType.DATA_TYPE_UINT8, array)


def _tensor(data_type: DataType, array: NDArray[Any]) -> Tensor:
    data = array.astype(DTYPES[data_type], copy=False).tobytes()
    return Tensor(data_type=data_type, shape=array.shape, data=data)


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
