"""Tensor data types of graphs: one row per type, with its names in ONNX and ONNX Runtime.

NumPy's are in `autoencoder.v1.shapes`.
"""

from typing import NamedTuple

from autoencoder.v1.model_pb2 import (
    DATA_TYPE_FLOAT16,
    DATA_TYPE_FLOAT32,
    DATA_TYPE_INT64,
    DATA_TYPE_UINT8,
    DATA_TYPE_UINT16,
    DataType,
)


class _Row(NamedTuple):
    onnx: int
    runtime: str


_ROWS: dict[DataType, _Row] = {
    DATA_TYPE_UINT8: _Row(2, "tensor(uint8)"),
    DATA_TYPE_UINT16: _Row(4, "tensor(uint16)"),
    DATA_TYPE_FLOAT16: _Row(10, "tensor(float16)"),
    DATA_TYPE_FLOAT32: _Row(1, "tensor(float)"),
    DATA_TYPE_INT64: _Row(7, "tensor(int64)"),
}

ONNX_TYPES: dict[int, int] = {kind: row.onnx for kind, row in _ROWS.items()}
"""TensorProto.DataType of onnx.proto."""
FROM_ONNX: dict[int, DataType] = {row.onnx: kind for kind, row in _ROWS.items()}
FROM_RUNTIME: dict[str, DataType] = {row.runtime: kind for kind, row in _ROWS.items()}
"""From the names that ONNX Runtime gives to a session's inputs and outputs."""
