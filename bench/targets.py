"""Benchmark requests: one prepared message per workload and protocol, and how to read its answer."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.model_pb2 import DataType
from numpy.typing import NDArray

from bench import open_inference

SERVICE = "/autoencoder.v1.AutoencoderService"
ECHO = "/bench.Echo/Echo"
FRAME_BYTES = 5  # gRPC's prefix of each message: a flag and the length


@dataclass(frozen=True)
class Work:
    """A workload: a graph of a model, its input and the output of onnxruntime."""

    name: str
    model: str
    signature: str
    inputs: NDArray[np.uint8] | NDArray[np.float32]
    expected: NDArray[np.float32]

    @property
    def rows(self) -> int:
        """Images in a request."""
        return len(self.inputs)


GRPC = "application/grpc"


@dataclass(frozen=True)
class Target:
    """A request for a workload: a gRPC method or an HTTP path, the bytes to send, and how to read the answer."""

    path: str
    body: bytes
    read: Callable[[bytes], NDArray[np.float32]]
    least_bytes: int
    """Size of a correct answer: a smaller one is a failure."""
    content_type: str = GRPC
    """Anything but gRPC is sent over HTTP/1.1."""
    stream: bool = False
    """Whether the messages are sent on streams, one per connection."""
    certificate: Path | None = None
    """File of the server's certificate, if it speaks TLS."""


def hourglass(work: Work) -> Target:
    """The typed method."""
    tensor = pb.Tensor(
        data_type=DataType.DATA_TYPE_UINT8 if work.inputs.dtype == np.uint8 else DataType.DATA_TYPE_FLOAT32,
        shape=work.inputs.shape,
        data=work.inputs.tobytes(),
    )
    images = pb.Images(tensor=tensor)
    if work.signature == "encode":
        request = pb.EncodeRequest(model_name=work.model, images=images)
        return Target(f"{SERVICE}/Encode", request.SerializeToString(), _read_latents, work.expected.nbytes)
    request = pb.DenoiseRequest(model_name=work.model, images=images, image_format=pb.IMAGE_FORMAT_FLOAT32)
    return Target(f"{SERVICE}/Denoise", request.SerializeToString(), _read_images, work.expected.nbytes)


def stream(work: Work) -> Target:
    """The typed method, by messages on a stream."""
    alone = hourglass(work)
    request = pb.StreamRequest(id="0", encode=pb.EncodeRequest.FromString(alone.body))

    def read(answer: bytes) -> NDArray[np.float32]:
        response = pb.StreamResponse.FromString(answer)
        if response.HasField("error"):
            raise ConnectionError(response.error.message)
        return _array(response.encode.latents)

    return Target(f"{SERVICE}/Stream", request.SerializeToString(), read, alone.least_bytes, stream=True)


def model_infer(work: Work, model_name: str) -> Target:
    """ModelInfer of the Open Inference Protocol, raw contents."""
    request = open_inference.ModelInferRequest(model_name=model_name)
    kind = "UINT8" if work.inputs.dtype == np.uint8 else "FP32"
    request.inputs.add(name="images", datatype=kind, shape=work.inputs.shape)
    request.raw_input_contents.append(work.inputs.tobytes())
    shape = work.expected.shape

    def read(answer: bytes) -> NDArray[np.float32]:
        contents = open_inference.ModelInferResponse.FromString(answer).raw_output_contents[0]
        return np.frombuffer(contents, "<f4").reshape(shape)

    return Target(open_inference.METHOD, request.SerializeToString(), read, work.expected.nbytes)


def echo(work: Work) -> Target:
    """The request's bytes, returned unchanged."""
    body = work.inputs.tobytes()

    def read(answer: bytes) -> NDArray[np.float32]:
        if answer != body:
            raise ValueError("the echo differs from what was sent")
        return work.expected

    return Target(ECHO, body, read, len(body))


def raw_http(work: Work, path: str) -> Target:
    """The input's bytes by HTTP/1.1, the output's bytes back."""
    shape = work.expected.shape

    def read(answer: bytes) -> NDArray[np.float32]:
        return np.frombuffer(answer, "<f4").reshape(shape)

    return Target(path, work.inputs.tobytes(), read, work.expected.nbytes, content_type="application/octet-stream")


def base64_http(work: Work, path: str, wrap: Callable[[str], object], unwrap: Callable[[Any], str]) -> Target:
    """The input's bytes in JSON by HTTP/1.1, the output's bytes back."""
    body = json.dumps(wrap(b64encode(work.inputs.tobytes()).decode())).encode()
    shape = work.expected.shape

    def read(answer: bytes) -> NDArray[np.float32]:
        return np.frombuffer(b64decode(unwrap(json.loads(answer))), "<f4").reshape(shape)

    return Target(path, body, read, work.expected.nbytes, content_type="application/json")


def _read_latents(answer: bytes) -> NDArray[np.float32]:
    return _array(pb.EncodeResponse.FromString(answer).latents)


def _read_images(answer: bytes) -> NDArray[np.float32]:
    return _array(pb.DenoiseResponse.FromString(answer).images.tensor)


def _array(tensor: pb.Tensor) -> NDArray[np.float32]:
    return np.frombuffer(tensor.data, "<f4").reshape(tuple(tensor.shape))
