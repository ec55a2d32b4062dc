import numpy as np
from autoencoder.v1.model_pb2 import DataType
from autoencoder.v1.shapes import DTYPES
from onnx import TensorProto, helper

from bundle.tensor_types import FROM_ONNX, FROM_RUNTIME, ONNX_TYPES


def test_every_row_is_what_onnx_and_numpy_say() -> None:
    assert DTYPES.keys() == ONNX_TYPES.keys() == set(DataType.values()) - {0}
    for kind, dtype in DTYPES.items():
        assert dtype == helper.tensor_dtype_to_np_dtype(ONNX_TYPES[kind])
        assert FROM_ONNX[ONNX_TYPES[kind]] == kind
        name = TensorProto.DataType.Name(ONNX_TYPES[kind]).lower()
        assert FROM_RUNTIME[f"tensor({name})"] == kind
        assert DataType.Name(kind).removeprefix("DATA_TYPE_").lower() == np.dtype(dtype).name
