"""Responses in protobuf JSON against what protobuf's own writer makes of them."""

import json

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import model_pb2
from google.protobuf.json_format import MessageToJson, Parse
from google.protobuf.message import Message

from bundle import layout
from server.rest.protobuf_json_writer import write
from tests.server.conftest import GOLDEN

TENSOR = pb.Tensor(data_type=model_pb2.DATA_TYPE_UINT8, shape=[5, 0, -1], data=bytes(range(256)) * 1200)
INFO = pb.ServingInfo(model_name='a "quoted" näme\n', queue_microseconds=2**62, batch_size=-3, exact=True)
FLOATS = np.float32([0.1, 1e-30, 3.4e38, 1e20, -0.0, 16777216, 1 / 3]).tolist()
MESSAGES: dict[str, Message] = {
    "empty": pb.EncodeResponse(),
    "nothing inside": pb.EncodeResponse(latents=pb.Tensor(), info=pb.ServingInfo()),
    "a seed of 0": pb.EncodeResponse(seed=0, latents=TENSOR, info=INFO),
    "the largest seed": pb.SampleResponse(seed=2**64 - 1),
    "files": pb.DecodeResponse(images=pb.Images(encoded=pb.EncodedImages(files=[b"", b"a", b"ab" * 300_000]))),
    "regions": pb.DetectResponse(
        regions=[pb.Region(image=index, score=score) for index, score in enumerate(FLOATS)],
        anomalous=[True, False],
        threshold=0.1,
    ),
    "not finite": pb.DetectResponse(threshold=float("nan"), map_threshold=float("-inf")),
    "an unknown number": pb.EncodeResponse(latents=pb.Tensor(data_type=77)),
    "models": pb.ListModelsResponse(models=[layout.read_model(GOLDEN / name / "1") for name in ("vae", "multitask")]),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_it_is_what_protobuf_writes(case: str) -> None:
    message = MESSAGES[case]
    text = write(message)
    expected = MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
    )
    assert json.loads(text) == json.loads(expected)
    if case != "not finite":
        assert Parse(text, type(message)()) == message
