"""Every bad request, on both transports, unary and on a stream: its status, its words, counted once, nobody harmed."""

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from inference.open_inference_pb2_grpc import GRPCInferenceServiceStub

from tests.server.conftest import Served, pixels
from tests.server.services.open_inference.conftest import failure, request
from tests.server.services.open_inference.refusals import REFUSALS
from tests.server.test_statuses import added, counts

PATH = "/inference.GRPCInferenceService/ModelInfer"


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_request_is_refused(server: Served, stub: GRPCInferenceServiceStub, case: str) -> None:
    bad, code, words = REFUSALS[case]
    before = counts(server, "ModelInfer")
    error = failure(stub.ModelInfer, bad)
    assert error.code().name == code
    assert words in error.details()
    assert added(server, "ModelInfer", before) == {code: 1}
    assert stub.ModelInfer(request("vae.encode", pixels(1)), timeout=30).raw_output_contents
    if code == "INVALID_ARGUMENT":
        assert violations(error)


def violations(error: grpc.RpcError) -> list[str]:
    """Fields that the answer's details name."""
    packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
    bad = BadRequest()
    assert Status.FromString(packed).details[0].Unpack(bad)
    return [violation.field for violation in bad.field_violations]


@pytest.mark.parametrize("case", REFUSALS)
def test_on_a_stream_it_fails_alone(server: Served, stub: GRPCInferenceServiceStub, case: str) -> None:
    """Good requests around it are answered."""
    bad, code, words = REFUSALS[case]
    copy = type(bad).FromString(bad.SerializeToString())
    copy.id = "bad"
    sent = [request("vae.encode", pixels(1), id="first"), copy, request("vae.encode", pixels(1), id="last")]
    before = counts(server, "ModelStreamInfer")
    answers = {answer.infer_response.id: answer for answer in stub.ModelStreamInfer(iter(sent), timeout=60)}
    message = answers.pop("bad").error_message
    assert message.startswith(f"{code}: ")
    assert words in message
    assert set(answers) == {"first", "last"}
    assert all(answer.infer_response.raw_output_contents and not answer.error_message for answer in answers.values())
    assert added(server, "ModelStreamInfer", before) == {code: 1, "OK": 2}


def test_garbage_is_refused(server: Served) -> None:
    error = failure(server.channel.unary_unary(PATH), b"\xff\xff")
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_large_message_is_refused_without_a_hint(server: Served) -> None:
    error = failure(server.channel.unary_unary(PATH), bytes(64 * 2**20 + 1))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "grpc-status-details-bin" not in dict(error.trailing_metadata())


@pytest.mark.parametrize("method", ["SystemSharedMemoryStatus", "TraceSetting", "LogSettings"])
def test_what_is_not_spoken_is_unimplemented(server: Served, method: str) -> None:
    error = failure(server.channel.unary_unary(f"/inference.GRPCInferenceService/{method}"), b"")
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED


def test_damaged_messages_are_answered_and_never_with_a_fault(server: Served) -> None:
    call = server.channel.unary_unary(PATH)
    whole = request("vae.encode", pixels(2), id="damage").SerializeToString()
    noise = np.random.default_rng(0)
    seen = set()
    for _ in range(400):
        damaged = bytearray(whole)
        for place in noise.integers(0, len(damaged), noise.integers(1, 6)):
            damaged[place] = noise.integers(0, 256)
        cut = int(noise.integers(1, len(damaged))) if noise.random() < 0.2 else len(damaged)
        try:
            call(bytes(damaged[:cut]), timeout=30)
        except grpc.RpcError as error:
            seen.add(error.code().name)
        else:
            seen.add("OK")
    assert {"OK", "INVALID_ARGUMENT"} <= seen <= {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
