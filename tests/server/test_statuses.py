"""Error statuses on both transports and on streams: code, field and message, counted once."""

from collections import Counter

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status

from tests.server.conftest import Served
from tests.server.invalid import GOOD, INVALID, RIGHT

NUMBERS = {code.value[0]: code.name for code in grpc.StatusCode}


def detail(error: grpc.RpcError, kind: type[Message]) -> Message:
    (packed,) = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    status = Status.FromString(packed)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    message = kind()
    assert status.details[0].Unpack(message)
    return message


def counts(server: Served, method: str) -> Counter[str]:
    """Requests of a method so far, by code, as they are scraped."""
    found: Counter[str] = Counter()
    for family in server.app.metrics.collect():
        if family.name == "autoencoder_requests":
            for sample in family.samples:
                if sample.labels["method"] == method and sample.name.endswith("_total"):
                    found[sample.labels["code"]] += int(sample.value)
    return found


def added(server: Served, method: str, before: Counter[str]) -> Counter[str]:
    """What has been counted since."""
    return counts(server, method) - before


@pytest.mark.parametrize("case", INVALID)
def test_invalid_arguments(server: Served, case: str) -> None:
    method, request, field, words = INVALID[case]
    before = counts(server, method)
    with pytest.raises(grpc.RpcError) as failed:
        getattr(server.stub, method)(request, timeout=30)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT, failed.value.details()
    (violation,) = detail(failed.value, BadRequest).field_violations
    assert violation.field == field
    assert words in violation.description
    assert added(server, method, before) == {"INVALID_ARGUMENT": 1}
    assert server.stub.Encode(pb.EncodeRequest(**RIGHT["Encode"]), timeout=30).latents.data


@pytest.mark.parametrize("case", [case for case in INVALID if INVALID[case][0] in RIGHT])
def test_invalid_arguments_on_a_stream(server: Served, case: str) -> None:
    """Between right requests, which are answered."""
    method, request, field, words = INVALID[case]
    right = pb.EncodeRequest(**RIGHT["Encode"])
    sent = [
        pb.StreamRequest(id="first", encode=right),
        pb.StreamRequest(id="bad", **{method.lower(): request}),
        pb.StreamRequest(id="last", encode=right),
    ]
    before = counts(server, "Stream")
    answers = {answer.id: answer for answer in server.stub.Stream(iter(sent), timeout=30)}
    assert {name: answer.WhichOneof("response") for name, answer in answers.items()} == {
        "first": "encode",
        "bad": "error",
        "last": "encode",
    }
    error = answers["bad"].error
    assert NUMBERS[error.code] == "INVALID_ARGUMENT"
    violations = BadRequest()
    assert error.details[0].Unpack(violations)
    (violation,) = violations.field_violations
    assert violation.field == field
    assert words in violation.description
    assert added(server, "Stream", before) == {"INVALID_ARGUMENT": 1, "OK": 2}


@pytest.mark.parametrize("method", [*RIGHT, "GetModel"])
@pytest.mark.parametrize("payload", [b"\xff\xff\xff", b"\x0a\x02\xff\xff", b"\x1a\x7f"])
def test_undecodable_messages(server: Served, method: str, payload: bytes) -> None:
    before = counts(server, method)
    call = server.channel.unary_unary(f"/autoencoder.v1.AutoencoderService/{method}")
    with pytest.raises(grpc.RpcError) as failed:
        call(payload, timeout=30)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert detail(failed.value, BadRequest).field_violations[0].field == "request"
    assert added(server, method, before) == {"INVALID_ARGUMENT": 1}


@pytest.mark.parametrize(("name", "version"), [("nobody", ""), ("vae", "2"), ("vae", "stable"), ("vae", "-1")])
def test_unknown_models(server: Served, name: str, version: str) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        server.stub.GetModel(pb.GetModelRequest(model_name=name, model_version=version), timeout=10)
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    assert "vae (1)" in failed.value.details()


def test_a_method_that_the_model_lacks(server: Served) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        server.stub.Encode(pb.EncodeRequest(model_name="denoiser", images=GOOD), timeout=10)
    assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "it serves Denoise" in failed.value.details()
