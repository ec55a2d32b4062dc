"""Arrays to `Tensor` messages and back."""

from typing import Any

import grpc
import numpy as np
from autoencoder.v1.autoencoder_pb2 import Tensor
from autoencoder.v1.model_pb2 import DataType
from numpy.typing import ArrayLike, NDArray

from hourglass_client.errors import InternalError, invalid

FloatArray = NDArray[np.float32]

# On the wire everything is little-endian.
_ARRAY_TYPES: dict[DataType, np.dtype[Any]] = {
    DataType.DATA_TYPE_UINT8: np.dtype("u1"),
    DataType.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    DataType.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    DataType.DATA_TYPE_INT64: np.dtype("<i8"),
}


def latents_tensor(field: str, latents: ArrayLike) -> Tensor:
    """(N, D) or (D,) floating-point latents to a FLOAT32 (N, D), or FLOAT16 where they are float16."""
    array = np.asarray(latents)
    if array.ndim == 1:
        array = array[np.newaxis]
    if array.ndim != 2 or array.dtype.kind != "f":  # noqa: PLR2004 (N, D) are two axes
        raise invalid(field, f"expected floating-point latents (N, D) or (D,), got {array.dtype} {array.shape}")
    return float_tensor(array)


def float_tensor(array: NDArray[Any]) -> Tensor:
    """A floating-point array to FLOAT32, or FLOAT16 where it is float16."""
    if array.dtype.itemsize == np.dtype(np.float16).itemsize:
        return _tensor(DataType.DATA_TYPE_FLOAT16, array)
    return _tensor(DataType.DATA_TYPE_FLOAT32, array)


def byte_tensor(array: NDArray[np.uint8]) -> Tensor:
    """A uint8 array to UINT8."""
    return _tensor(DataType.DATA_TYPE_UINT8, array)


def _tensor(data_type: DataType, array: NDArray[Any]) -> Tensor:
    data = array.astype(_ARRAY_TYPES[data_type], copy=False).tobytes()
    return Tensor(data_type=data_type, shape=array.shape, data=data)


def to_array(tensor: Tensor) -> NDArray[Any]:
    """A writable array of the tensor's own type and shape."""
    kind = _ARRAY_TYPES.get(tensor.data_type)
    shape = tuple(tensor.shape)
    if kind is None or min(shape, default=1) < 0 or len(tensor.data) != kind.itemsize * int(np.prod(shape)):
        raise InternalError(
            grpc.StatusCode.INTERNAL,
            f"the server sent a tensor of type {tensor.data_type}, shape {shape} and {len(tensor.data)} bytes, "
            "which do not fit together",
        )
    return np.frombuffer(tensor.data, kind).reshape(shape).astype(kind.newbyteorder("="))
