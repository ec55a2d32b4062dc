"""Tensor data types: one row per type of the wire, with its names in NumPy, ONNX and ONNX Runtime."""

from typing import Any, NamedTuple

import numpy as np
from autoencoder.v1.model_pb2 import (
    DATA_TYPE_FLOAT16,
    DATA_TYPE_FLOAT32,
    DATA_TYPE_INT64,
    DATA_TYPE_UINT8,
    DataType,
)


class _Row(NamedTuple):
    dtype: np.dtype[Any]
    onnx: int
    runtime: str


_ROWS: dict[DataType, _Row] = {
    DATA_TYPE_UINT8: _Row(np.dtype("u1"), 2, "tensor(uint8)"),
    DATA_TYPE_FLOAT16: _Row(np.dtype("<f2"), 10, "tensor(float16)"),
    DATA_TYPE_FLOAT32: _Row(np.dtype("<f4"), 1, "tensor(float)"),
    DATA_TYPE_INT64: _Row(np.dtype("<i8"), 7, "tensor(int64)"),
}

DTYPES: dict[int, np.dtype[Any]] = {kind: row.dtype for kind, row in _ROWS.items()}
"""NumPy's types, little-endian as on the wire."""
ONNX_TYPES: dict[int, int] = {kind: row.onnx for kind, row in _ROWS.items()}
"""TensorProto.DataType of onnx.proto."""
FROM_ONNX: dict[int, DataType] = {row.onnx: kind for kind, row in _ROWS.items()}
FROM_RUNTIME: dict[str, DataType] = {row.runtime: kind for kind, row in _ROWS.items()}
"""From the names that ONNX Runtime gives to a session's inputs and outputs."""
