import asyncio
import copy
import os
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2
from hourglass_client import (
    AsyncClient,
    CancelledError,
    Client,
    HourglassError,
    InternalError,
    Retry,
    Violation,
    errors,
    requests,
)

from tests.client.conftest import Start


def status(code: grpc.StatusCode, message: str, *details: Message) -> status_pb2.Status:
    packed = [any_pb2.Any() for _ in details]
    for each, detail in zip(packed, details, strict=True):
        each.Pack(detail)
    return status_pb2.Status(code=code.value[0], message=message, details=packed)


def raised_by(start: Start, answer: status_pb2.Status) -> HourglassError:
    server = start(answer)
    with Client(server.address, retry=Retry(attempts=1)) as client, pytest.raises(HourglassError) as caught:
        client.get_model("vae")
    return caught.value


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_is_an_error_of_its_kind(start: Start, code: grpc.StatusCode) -> None:
    error = raised_by(start, status(code, "a sentence"))
    assert (error.code, error.message, str(error)) == (code, "a sentence", f"{code.name}: a sentence")
    expected = {
        "INVALID_ARGUMENT": ValueError,
        "NOT_FOUND": LookupError,
        "DEADLINE_EXCEEDED": TimeoutError,
        "CANCELLED": CancelledError,
        "INTERNAL": InternalError,
        "DATA_LOSS": InternalError,
    }
    assert isinstance(error, expected.get(code.name, HourglassError))


def test_details_are_kept(start: Start) -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="images", description="missing")
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    error = raised_by(start, status(grpc.StatusCode.INVALID_ARGUMENT, "no images", bad, retry, StringValue(value="?")))
    assert error.violations == (Violation("images", "missing"),)
    assert error.retry_after_seconds == 1.5
    assert [type(detail) for detail in error.details[:2]] == [type(bad), type(retry)]
    assert isinstance(error.details[2], any_pb2.Any)


def test_damaged_details_do_not_hide_the_error(start: Start) -> None:
    broken = any_pb2.Any(type_url="type.googleapis.com/google.rpc.BadRequest", value=b"\xff")
    answer = status_pb2.Status(code=grpc.StatusCode.NOT_FOUND.value[0], message="gone", details=[broken])
    error = raised_by(start, answer)
    assert (error.code, error.violations, error.details) == (grpc.StatusCode.NOT_FOUND, (), (broken,))


def test_error_of_a_stream_item_has_the_same_kind() -> None:
    error = errors.from_status(status(grpc.StatusCode.NOT_FOUND, "gone"))
    assert isinstance(error, LookupError)
    assert error.message == "gone"


def test_errors_can_be_pickled() -> None:
    error = errors.invalid("images", "expected some, got none")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    assert (type(again), str(again), again.code, again.message) == (type(error), str(error), error.code, error.message)
    assert again.violations == (Violation("images", "expected some, got none"),)


def test_a_client_cannot_be_pickled_or_copied(start: Start) -> None:
    async def make() -> AsyncClient:
        return AsyncClient(start().address)

    with Client(start().address) as client:
        for use in (
            lambda: pickle.dumps(client),
            lambda: copy.deepcopy(client),
            lambda: pickle.dumps(asyncio.run(make())),
        ):
            with pytest.raises(TypeError, match="cannot be pickled or copied"):
                use()


def test_a_call_that_a_fork_ended_is_tried_again(start: Start) -> None:
    server = start(status(grpc.StatusCode.CANCELLED, "Stream removed (Closed on fork)"), pb.GetModelResponse())
    with Client(server.address) as client:
        client.get_model()
    assert server.calls == 2


def test_a_client_that_a_fork_closed_says_so(start: Start) -> None:
    program = Path(__file__).with_name("forked_call.py")
    environment = os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "1"}
    arguments = [sys.executable, program, start().address]
    printed = subprocess.run(arguments, env=environment, check=True, capture_output=True, text=True).stdout
    assert printed.startswith("CancelledError: CANCELLED: this client was created before a fork")


def test_a_closed_client_says_so(start: Start) -> None:
    server = start()
    client = Client(server.address)
    assert client.get_model("vae") is not None
    client.close()
    for use in (lambda: client.get_model("vae"), lambda: next(client.stream([]))):
        with pytest.raises(CancelledError, match="this client is closed"):
            use()
    assert server.calls == 1


def test_a_closed_asyncio_client_says_so(start: Start) -> None:
    async def use(kind: str) -> None:
        async with AsyncClient(start().address) as client:
            pass
        await (client.get_model("vae") if kind == "call" else anext(client.stream(nothing())))

    async def nothing() -> AsyncIterator[tuple[str, requests.Request]]:
        for item in ():
            yield item

    for kind in ("call", "stream"):
        with pytest.raises(CancelledError, match="this client is closed"):
            asyncio.run(use(kind))
