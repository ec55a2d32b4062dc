"""Calls that wait for a message: limits of time and number, and who is not affected by them."""

import queue
from collections.abc import Iterator

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from google.protobuf.message import Message
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from tests.server.conftest import GOLDEN, Served, images, metric, pixels, serving
from tests.server.models.test_manager import eventually
from tests.server.raw_http2 import DATA, RawConnection, frame, message

ENCODE = "/autoencoder.v1.AutoencoderService/Encode"
STREAM = "/autoencoder.v1.AutoencoderService/Stream"
HEALTH = "/grpc.health.v1.Health/"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
LATE, EXHAUSTED = b"grpc-status\x014", b"grpc-status\x018"


class Requests:
    """Requests of a stream that are sent when a test says so."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.send, self.end = self._waiting.put, lambda: self._waiting.put(None)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._waiting.get, None)


def item() -> pb.StreamRequest:
    return pb.StreamRequest(encode=pb.EncodeRequest(model_name="vae", images=images(pixels(1))))


def ended(served: Served, code: str) -> float:
    return metric(served, "autoencoder_requests_total", method="Encode", code=code)


@pytest.fixture(scope="module")
def impatient() -> Iterator[Served]:
    with serving(GOLDEN, transport="grpcio", poll_seconds=0, first_message_seconds=0.2) as served:
        yield served


@pytest.mark.parametrize(
    ("path", "part"),
    [(ENCODE, b""), (ENCODE, message(b"\x0a\x02va")[:-2]), (f"{HEALTH}Check", b""), (f"{HEALTH}Watch", b"")],
)
def test_a_call_whose_message_does_not_come_ends(impatient: Served, path: str, part: bytes) -> None:
    before = ended(impatient, "DEADLINE_EXCEEDED")
    with RawConnection(impatient.address) as connection:
        connection.open(1, path)
        connection.socket.sendall(frame(DATA, 0, 1, part))
        assert LATE in connection.end_of(1)
    assert ended(impatient, "DEADLINE_EXCEEDED") - before == (path == ENCODE)
    assert metric(impatient, "autoencoder_requests_in_flight") == 0


def test_streams_may_say_nothing_as_long_as_they_like(impatient: Served) -> None:
    requests, asked = Requests(), Requests()
    answers = impatient.stub.Stream(iter(requests), timeout=60)
    described = ServerReflectionStub(impatient.channel).ServerReflectionInfo(iter(asked), timeout=60)
    watch = HealthStub(impatient.channel).Watch(HealthCheckRequest(), timeout=60)
    assert next(watch).status == HealthCheckResponse.SERVING
    for _ in range(2):
        # Longer than the limit: a call that began later has reached it.
        with RawConnection(impatient.address) as connection:
            connection.open(1, ENCODE)
            assert LATE in connection.end_of(1)
        requests.send(item())
        assert next(answers).encode.latents.data
        asked.send(ServerReflectionRequest(list_services=""))
        assert next(described).list_services_response.service
    requests.end()
    asked.end()
    assert list(answers) == list(described) == []
    assert watch.is_active()
    watch.cancel()


def test_a_stopping_server_sends_callers_to_another_one() -> None:
    with serving(GOLDEN, transport="grpcio", poll_seconds=0) as served, RawConnection(served.address) as connection:
        connection.open(1, ENCODE)
        waits = served.app._transport._waiting._waits
        eventually(lambda: bool(waits))
        served.app.stop()
        served.app.stop = lambda: True  # it has stopped already
        assert b"grpc-status\x0214" in connection.end_of(1)


@pytest.fixture
def crowded() -> Iterator[Served]:
    with serving(GOLDEN, transport="grpcio", poll_seconds=0, max_waiting_calls=4) as served:
        yield served


@pytest.mark.parametrize("path", [ENCODE, STREAM, f"{HEALTH}Watch", REFLECTION])
def test_the_oldest_calls_without_a_message_end_for_new_ones(crowded: Served, path: str) -> None:
    with RawConnection(crowded.address) as connection:
        for call in range(6):
            connection.open(1 + 2 * call, path)
        assert EXHAUSTED in connection.end_of(1)
        assert connection.end_of(3)
        assert ended(crowded, "RESOURCE_EXHAUSTED") == 2 * (path == ENCODE)
        # A caller who sends its message is answered, at the cost of one more.
        assert crowded.stub.ListModels(pb.ListModelsRequest(), timeout=20).models
        assert connection.end_of(5)


def test_an_address_with_many_calls_loses_its_own_alone(crowded: Served) -> None:
    requests = Requests()
    answers = crowded.stub.Stream(iter(requests), timeout=60)
    requests.send(item())
    assert next(answers).encode.latents.data
    with RawConnection(crowded.address, "127.0.0.2") as stranger:
        for call in range(40):
            stranger.open(1 + 2 * call, ENCODE)
        eventually(lambda: ended(crowded, "RESOURCE_EXHAUSTED") == 37)
        requests.send(item())
        assert next(answers).encode.latents.data
    requests.end()
    assert list(answers) == []


def test_calls_of_the_native_transport_have_the_limits_where_grpcio_serves_them() -> None:
    limits = {"first_message_seconds": 0.2, "max_waiting_calls": 1}
    requests = Requests()
    with serving(GOLDEN, transport="native", poll_seconds=0, **limits) as served:
        check = served.channel.stream_unary(f"{HEALTH}Check")
        with pytest.raises(grpc.RpcError) as late:
            check(iter(requests), timeout=60)
        assert late.value.code() is StatusCode.DEADLINE_EXCEEDED
        assert "did not arrive within 0.2 s" in late.value.details()
        first, _ = (served.stub.Stream(iter(requests), timeout=60) for _ in range(2))
        assert first.code() is StatusCode.RESOURCE_EXHAUSTED
        assert "More than 1 calls wait for a message" in first.details()
        for _ in range(3):
            requests.end()
