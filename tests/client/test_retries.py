from time import monotonic

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from hourglass_client import Client, HourglassError, Retry, UnavailableError

from tests.client.conftest import Start
from tests.client.test_errors import status

BUSY = status(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "queue full",
    error_details_pb2.RetryInfo(retry_delay=Duration(nanos=200_000_000)),
)
TOO_LARGE = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "message too large")
UNAVAILABLE = status(grpc.StatusCode.UNAVAILABLE, "draining")
WRONG = status(grpc.StatusCode.INVALID_ARGUMENT, "no")
GOOD = pb.GetModelResponse()


def test_unavailable_is_tried_again(start: Start) -> None:
    server = start(UNAVAILABLE, UNAVAILABLE, GOOD)
    with Client(server.address, retry=Retry(first_delay_seconds=0.01)) as client:
        client.get_model()
    assert server.calls == 3


def test_retry_waits_as_long_as_a_busy_server_asks(start: Start) -> None:
    server = start(BUSY, GOOD)
    began = monotonic()
    with Client(server.address) as client:
        client.get_model()
    assert server.calls == 2
    assert monotonic() - began >= 0.2


@pytest.mark.parametrize("answer", [TOO_LARGE, WRONG], ids=["too large", "wrong"])
def test_what_would_fail_again_is_not_tried_again(start: Start, answer: status_pb2.Status) -> None:
    server = start(answer, GOOD)
    with Client(server.address) as client, pytest.raises(HourglassError):
        client.get_model()
    assert server.calls == 1


def test_gives_up_after_the_last_attempt(start: Start) -> None:
    server = start(UNAVAILABLE)
    retry = Retry(attempts=3, first_delay_seconds=0.001)
    with Client(server.address, retry=retry) as client, pytest.raises(UnavailableError, match="draining"):
        client.get_model()
    assert server.calls == 3


def test_no_retry_outlives_the_deadline(start: Start) -> None:
    server = start(BUSY)
    began = monotonic()
    with Client(server.address, timeout_seconds=0.15) as client, pytest.raises(HourglassError, match="queue full"):
        client.get_model()
    assert server.calls == 1
    assert monotonic() - began < 0.2


def test_backoff_grows_up_to_its_bound() -> None:
    retry = Retry(attempts=2_000, first_delay_seconds=0.1, max_delay_seconds=1.0)
    unavailable = UnavailableError(grpc.StatusCode.UNAVAILABLE, "away")
    ceilings = [
        max(retry.delay_seconds(unavailable, attempt) or 0 for _ in range(200)) for attempt in (1, 2, 3, 8, 1_999)
    ]
    assert ceilings == sorted(ceilings[:3]) + ceilings[3:]
    for ceiling, bound in zip(ceilings, (0.1, 0.2, 0.4, 1.0, 1.0), strict=True):
        assert 0.8 * bound < ceiling <= bound
