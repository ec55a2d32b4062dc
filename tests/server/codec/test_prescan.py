"""Prescan: the cost of a message is found out without parsing it, whatever its bytes are."""

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st
from inference import open_inference_pb2 as oip

from server.codec import protobuf_wire
from server.codec.prescan import LIGHT_BYTES, Prescan
from server.errors import InvalidArgumentError
from tests.reliability.mutation import FUZZED, damaged
from tests.server.conftest import images, pixels, tensor

MANY = 50_000
ENCODE = Prescan(pb.EncodeRequest, 1024)
STREAM = Prescan(pb.StreamRequest, 1024)
INFER = Prescan(oip.ModelInferRequest, 1024)
BATCH = pixels(256)
RAW = oip.ModelInferRequest(model_name="vae.encode", id="x", raw_input_contents=[BATCH.tobytes()])
RAW.inputs.add(name="images", datatype="UINT8", shape=BATCH.shape)


def files(count: int, size: int) -> pb.EncodeRequest:
    return pb.EncodeRequest(images=pb.Images(encoded=pb.EncodedImages(files=[bytes(size)] * count)))


def typed(**contents: list[float]) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest()
    request.inputs.add().contents.MergeFrom(oip.InferTensorContents(**contents))
    return request


def parameters(count: int) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest()
    given_input = request.inputs.add()
    for number in range(count):
        given_input.parameters[str(number)].bool_param = True
    return request


@pytest.mark.parametrize(
    ("prescan", "message", "most"),
    [
        (ENCODE, pb.EncodeRequest(model_name="vae", images=images(BATCH)), 50),
        (ENCODE, files(3, 5000), 50),
        (STREAM, pb.StreamRequest(id="7", decode=pb.DecodeRequest(latents=tensor(np.ones((999, 3), "<f4")))), 50),
        (INFER, RAW, 60),
        (ENCODE, pb.EncodeRequest(model_name="v" * LIGHT_BYTES), 2 * LIGHT_BYTES),
    ],
    ids=["tensor", "files", "stream", "raw contents", "no bytes"],
)
def test_bytes_of_rows_cost_nothing(prescan: Prescan, message: pb.EncodeRequest, most: int) -> None:
    payload = message.SerializeToString()
    assert len(payload) > LIGHT_BYTES
    assert prescan.bytes_to_parse(payload) <= most
    prescan.check(payload)


@pytest.mark.parametrize(
    ("prescan", "message"),
    [
        (ENCODE, pb.EncodeRequest(images=pb.Images(tensor=pb.Tensor(shape=[1] * MANY)))),
        (ENCODE, files(MANY, 0)),
        (STREAM, pb.StreamRequest(edit=pb.EditRequest(shifts=[pb.AttributeShift()] * MANY))),
        (INFER, oip.ModelInferRequest(raw_input_contents=[b""] * MANY)),
        (INFER, typed(fp32_contents=[0.5] * MANY)),
        (INFER, parameters(MANY)),
    ],
    ids=["shape", "files", "shifts", "raw contents", "typed contents", "parameters"],
)
def test_anything_else_costs_its_size(prescan: Prescan, message: pb.EncodeRequest) -> None:
    payload = message.SerializeToString()
    assert prescan.bytes_to_parse(payload) == len(payload)


@pytest.mark.parametrize(
    ("prescan", "message"),
    [
        (ENCODE, files(MANY, 0)),
        (STREAM, pb.StreamRequest(edit=pb.EditRequest(shifts=[pb.AttributeShift()] * MANY))),
        (INFER, oip.ModelInferRequest(raw_input_contents=[b""] * MANY)),
        (INFER, parameters(MANY)),
    ],
    ids=["files", "shifts", "raw contents", "parameters"],
)
def test_more_fields_than_a_request_has_are_refused(prescan: Prescan, message: pb.EncodeRequest) -> None:
    with pytest.raises(InvalidArgumentError, match="request: expected at most 5120 fields, got more"):
        prescan.check(message.SerializeToString())


@pytest.mark.parametrize("size", [1, -1])
def test_long_shapes_are_refused(size: int) -> None:
    ENCODE.check(pb.EncodeRequest(images=pb.Images(tensor=pb.Tensor(shape=[size] * 64))).SerializeToString())
    with pytest.raises(InvalidArgumentError, match=r"64 sizes in a shape, which take up to 640 bytes, got 6410? bytes"):
        ENCODE.check(pb.EncodeRequest(images=pb.Images(tensor=pb.Tensor(shape=[size] * 641))).SerializeToString())
    request = oip.ModelInferRequest()
    request.inputs.add(shape=[size] * 641)
    with pytest.raises(InvalidArgumentError, match=r"64 sizes in a shape, which take up to 640 bytes, got 6410? bytes"):
        INFER.check(request.SerializeToString())


def test_numbers_may_have_a_field_each_up_to_a_limit() -> None:
    # Field 5, inputs, holds field 5, contents, which holds field 4, uint_contents.
    element = b"\x20\x05"
    for count, refused in ((2**16, False), (2**17, True)):
        contents = b"\x2a" + varint(2 * count) + count * element
        payload = b"\x2a" + varint(len(contents)) + contents
        assert len(oip.ModelInferRequest.FromString(payload).inputs[0].contents.uint_contents) == count
        if refused:
            with pytest.raises(InvalidArgumentError, match="expected packed numbers"):
                INFER.check(payload)
        else:
            INFER.check(payload)


def varint(number: int) -> bytes:
    return protobuf_wire.field_header(1, number)[1:]


@FUZZED
@given(damaged(RAW.SerializeToString()))
def test_any_bytes_are_walked_over(payload: bytes) -> None:
    assert 0 <= INFER.bytes_to_parse(payload) <= len(payload)
    INFER.check(payload)


@FUZZED
@given(st.binary(max_size=3 * LIGHT_BYTES))
def test_whole_fields_are_left_of_a_beginning(payload: bytes) -> None:
    beginning = STREAM.beginning(payload)
    assert payload.startswith(beginning)
    assert len(beginning) <= LIGHT_BYTES


def test_the_id_is_in_the_beginning() -> None:
    request = pb.StreamRequest(id="seven", edit=pb.EditRequest(shifts=[pb.AttributeShift()] * MANY))
    assert pb.StreamRequest.FromString(STREAM.beginning(request.SerializeToString())).id == "seven"
