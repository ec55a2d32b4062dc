"""Requests of the Open Inference Protocol."""

from typing import Any

import grpc
import numpy as np
import pytest
from inference import open_inference_pb2 as pb
from inference.open_inference_pb2_grpc import GRPCInferenceServiceStub

from tests.server.conftest import Served

NAMES = {"uint8": "UINT8", "float32": "FP32", "float16": "FP16", "float64": "FP64", "int64": "INT64"}


@pytest.fixture
def stub(server: Served) -> GRPCInferenceServiceStub:
    return GRPCInferenceServiceStub(server.channel)


def request(model: str, array: np.ndarray, name: str = "images", **fields: Any) -> pb.ModelInferRequest:
    """A request with one input in raw form."""
    given = pb.ModelInferRequest.InferInputTensor(name=name, datatype=NAMES[array.dtype.name], shape=array.shape)
    raw = [array.tobytes()]
    return pb.ModelInferRequest(**{"model_name": model, "inputs": [given], "raw_input_contents": raw, **fields})


def typed(model: str, array: np.ndarray, name: str = "images", **fields: Any) -> pb.ModelInferRequest:
    """The same with its elements in the field of their type."""
    made = request(model, array, name, raw_input_contents=(), **fields)
    contents = made.inputs[0].contents
    (contents.uint_contents if array.dtype == np.uint8 else contents.fp32_contents).extend(array.ravel().tolist())
    return made


def arrays(response: pb.ModelInferResponse) -> dict[str, np.ndarray]:
    """Outputs by name, from either form."""
    found: dict[str, np.ndarray] = {}
    for index, output in enumerate(response.outputs):
        assert output.datatype == "FP32"
        if response.raw_output_contents:
            flat = np.frombuffer(response.raw_output_contents[index], np.float32)
        else:
            flat = np.array(output.contents.fp32_contents, np.float32)
        found[output.name] = flat.reshape(tuple(output.shape))
    return found


def failure(call: Any, message: Any) -> grpc.RpcError:
    """The error that a call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=30)
    return caught.value
