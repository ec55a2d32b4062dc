"""Untrusted clients that exceed each limit of a transport; a well-behaved client is served afterwards."""

import os
import re
import resource
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from examples.local_server import running
from server.metrics_server import MAX_CONNECTIONS
from tests.server.conftest import GOLDEN, TRANSPORTS, Served, images, metric, pixels, serving
from tests.server.invalid import encode, files, png
from tests.server.models.test_manager import eventually
from tests.server.raw_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    MAX_CONCURRENT_STREAMS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    RawConnection,
    frame,
    header_block,
    message,
    settings,
)
from tests.server.runtime.test_malloc import memory_of
from tests.server.test_load import wait_until_settled

PATH = "/autoencoder.v1.AutoencoderService/Encode"
LIMITS = {
    "max_concurrent_streams": 3,
    "max_header_bytes": 4096,
    "max_connections": 6,
    "max_address_connections": 6,
    "max_message_bytes": 100_000,
}


@pytest.fixture(scope="module", params=TRANSPORTS)
def servers(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serving(GOLDEN, transport=request.param, poll_seconds=0, **LIMITS) as served:
        yield served


@pytest.fixture
def small_grpcio() -> Iterator[Served]:
    """What the native transport has no limits for, and says so."""
    with serving(GOLDEN, transport="grpcio", poll_seconds=0, **LIMITS) as served:
        yield from honest(served)


@pytest.fixture
def small(servers: Served) -> Iterator[Served]:
    yield from honest(servers)


def honest(served: Served) -> Iterator[Served]:
    """Served before and after, and nothing is left open."""
    assert listed(served)
    yield served
    assert listed(served)
    wait_until_settled(served)


def listed(served: Served, *metadata: tuple[str, str]) -> int:
    return len(served.stub.ListModels(pb.ListModelsRequest(), metadata=metadata, timeout=20).models)


def is_native(served: Served) -> bool:
    return metric(served, "autoencoder_build_info", transport="native") == 1


def test_calls_beyond_the_limit_are_refused_and_the_others_stay(small: Served) -> None:
    with RawConnection(small.address) as connection:
        for stream in (1, 3, 5, 7, 9):
            connection.open(stream, PATH)
        seen = list(connection.frames(1))
    announced = [settings(payload) for kind, flags, _, payload in seen if kind == SETTINGS and not flags]
    assert announced[0][MAX_CONCURRENT_STREAMS] == 3
    assert [stream for kind, _, stream, _ in seen if kind == RST_STREAM] == [7, 9]


def test_metadata_beyond_the_limit_is_refused(small: Served) -> None:
    assert listed(small, ("x-much", "a" * 3000))
    for size in (5000, 200_000):
        with pytest.raises(grpc.RpcError) as refused:
            listed(small, ("x-much", "a" * size))
        # The native transport answers with HTTP's own status, or ends the connection.
        codes = {"UNKNOWN", "UNAVAILABLE"} if is_native(small) else {"RESOURCE_EXHAUSTED"}
        assert refused.value.code().name in codes


def test_headers_in_endless_pieces_are_not_kept(small: Served) -> None:
    piece = frame(CONTINUATION, 0, 1, (b"\x00\x01a\x7f\x80\x01" + b"a" * 255) * 50)
    before = memory_of()
    for _ in range(30):
        with RawConnection(small.address) as connection:
            try:
                connection.socket.sendall(frame(HEADERS, 0, 1, header_block(PATH)) + 500 * piece)
                connection.socket.sendall(frame(CONTINUATION, END_HEADERS, 1) + frame(DATA, END_STREAM, 1, bytes(5)))
            except OSError:
                assert is_native(small)
            if is_native(small):
                assert connection.closed(5)
                continue
            answers = (payload for kind, flags, _, payload in connection.frames(20) if kind == HEADERS and flags & 1)
            # RESOURCE_EXHAUSTED; or grpcio has thrown them away, by chance, and the empty message is INVALID_ARGUMENT.
            assert re.search(rb"grpc-status\x01[83]", next(answers))
    # The allocator's arenas fill at first; after ten it is done with that.
    assert memory_of() - before < 30 * 500 * len(piece) / 2


def test_connections_beyond_the_limit_are_closed(small_grpcio: Served) -> None:
    connections = [RawConnection(small_grpcio.address) for _ in range(20)]
    try:
        # The honest caller has one of the six.
        assert sum(not connection.closed(0.3) for connection in connections) == 5
        assert listed(small_grpcio)
    finally:
        for connection in connections:
            connection.socket.close()
    # Those that have gone count no more.
    end = time.monotonic() + 20
    while True:
        with RawConnection(small_grpcio.address) as connection:
            if not connection.closed(0.3):
                break
        assert time.monotonic() < end


def test_pings_beyond_the_limit_end_the_connection(small_grpcio: Served) -> None:
    with RawConnection(small_grpcio.address) as connection:
        connection.socket.sendall(frame(PING, 0, 0, bytes(8)) * 30)
        goaways = [payload for kind, _, _, payload in connection.frames(5) if kind == GOAWAY]
        assert struct.unpack(">I", goaways[0][4:8])[0] == ENHANCE_YOUR_CALM
        assert connection.closed(5)


def test_pings_within_the_limit_are_answered(repository: Path) -> None:
    with (
        serving(repository, transport="grpcio", min_ping_seconds=0.001) as served,
        RawConnection(served.address) as connection,
    ):
        for _ in range(10):
            time.sleep(0.01)
            connection.socket.sendall(frame(PING, 0, 0, bytes(8)))
        kinds = [kind for kind, *_ in connection.frames(1)]
        assert kinds.count(PING) == 10
        assert GOAWAY not in kinds


def test_a_storm_of_resets_is_survived(small: Served) -> None:
    """Rapid reset, CVE-2023-44487."""
    before = metric(small, "autoencoder_requests_total")
    with RawConnection(small.address) as connection:
        cancel = struct.pack(">I", 8)
        try:
            for stream in range(1, 20_001, 2):
                call = frame(HEADERS, END_HEADERS, stream, header_block(PATH))
                connection.socket.sendall(call + frame(RST_STREAM, 0, stream, cancel))
        except OSError:
            # The native transport has had enough after a few dozen.
            assert is_native(small)
        started = time.monotonic()
        assert listed(small)
        assert time.monotonic() - started < 10
    wait_until_settled(small)
    # No call that sent no message has reached a handler.
    assert metric(small, "autoencoder_requests_total") == before + 1


@pytest.mark.parametrize("path", [PATH, "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"])
@pytest.mark.parametrize("body", [b"", b"\0\0", message(b"\x0a\x02va")[:-2]])
def test_a_call_that_ends_without_a_whole_message_is_answered(small: Served, path: str, body: bytes) -> None:
    with RawConnection(small.address) as connection:
        connection.open(1, path)
        connection.socket.sendall(frame(DATA, END_STREAM, 1, body))
        last = next(payload for kind, flags, _, payload in connection.frames(20) if kind == HEADERS and flags & 1)
    # INVALID_ARGUMENT; the native transport compresses its headers, so that only the end is seen here.
    assert is_native(small) or b"grpc-status\x013" in last


def test_items_of_a_stream_have_the_limit_of_messages(small: Served) -> None:
    item = pb.StreamRequest(encode=pb.EncodeRequest(model_name="vae", images=images(pixels(2000))))
    with pytest.raises(grpc.RpcError) as refused:
        list(small.stub.Stream(iter([item]), timeout=20))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in refused.value.details()


@hypothesis_settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from([b"", b"GET / HTTP/1.1\r\n\r\n", PREFACE, PREFACE + frame(SETTINGS, 0, 0)]),
    garbage=st.binary(max_size=300)
    | st.builds(frame, st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=64)),
)
def test_garbage_is_survived(small: Served, start: bytes, garbage: bytes) -> None:
    host, _, port = small.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(start + garbage)
    assert listed(small)


@pytest.mark.parametrize("limit", ["max_connection_age_seconds", "max_connection_idle_seconds"])
def test_connections_are_asked_to_go_after_their_time(repository: Path, limit: str) -> None:
    with (
        serving(repository, transport="grpcio", **{limit: 0.5}) as served,
        RawConnection(served.address) as connection,
    ):
        started = time.monotonic()
        assert any(kind == GOAWAY for kind, *_ in connection.frames(10))
        assert time.monotonic() - started > 0.3


def test_who_says_nothing_is_let_go(repository: Path) -> None:
    """Slowloris; the native transport waits for two minutes, which no test does."""
    with serving(repository, transport="grpcio") as served:
        host, _, port = served.address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=60) as silent,
            socket.create_connection((host, int(port)), timeout=60) as slow,
        ):
            started = time.monotonic()
            slow.sendall(PREFACE[:10])
            for connection in (silent, slow):
                while connection.recv(1000):
                    pass
            assert 5 < time.monotonic() - started < 60


def test_the_metrics_port_answers_while_others_hold_connections(repository: Path) -> None:
    with ExitStack() as strangers, serving(repository) as served:
        host, _, port = served.metrics_address.rpartition(":")
        threads = threading.active_count()
        silent = [
            strangers.enter_context(socket.create_connection((host, int(port)), timeout=20))
            for _ in range(3 * MAX_CONNECTIONS)
        ]
        # Some of a request, so that its thread waits for more.
        for stranger in silent[-MAX_CONNECTIONS:]:
            stranger.sendall(b"GET /livez HTTP/1.1\r\nX-Slow: ")
        with urllib.request.urlopen(f"http://{served.metrics_address}/livez", timeout=10) as answer:
            assert answer.read() == b"live\n"
        # The oldest have been closed.
        assert all(stranger.recv(1) == b"" for stranger in silent[: 2 * MAX_CONNECTIONS])
        eventually(lambda: threading.active_count() <= threads + MAX_CONNECTIONS + 1)


def test_the_metrics_port_rests_when_no_file_is_left(tmp_path: Path) -> None:
    with running(GOLDEN, tmp_path / "log") as server:
        host, _, port = server.metrics_address.rpartition(":")
        pid = server.process.pid
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        with socket.create_connection((host, int(port)), timeout=20) as waiting:
            before = cpu_seconds(pid)
            time.sleep(2)
            assert cpu_seconds(pid) - before < 0.3
            resource.prlimit(pid, resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
            waiting.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            assert waiting.recv(100).startswith(b"HTTP/1.1 200")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def test_all_pixels_of_a_request_have_a_limit(transport: str) -> None:
    with serving(GOLDEN, transport=transport, max_request_pixels=200) as served:
        for count, code in ((3, "OK"), (4, "INVALID_ARGUMENT")):
            call = served.stub.Encode.future(encode(files(*[png(8, 8)] * count)), timeout=20)
            assert call.code().name == code
        assert "at most 200 pixels" in call.details()
