"""Calls on both transports, as PROTOCOL-HTTP2.md of gRPC describes them: answers, errors, metadata, deadlines, ends."""

import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from google.rpc import error_details_pb2, status_pb2
from hpack import Encoder

from tests.server.conftest import GOLDEN, TRANSPORTS, Served, images, metric, pixels, serving, write_slow_denoiser
from tests.server.models.test_manager import eventually
from tests.server.raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    frame,
    header_block,
    message,
)
from tests.server.transport.conformance.http2 import (
    CANCEL,
    ENCODE,
    HEADER_TABLE_SIZE,
    HEALTH,
    LIST,
    Connection,
    settings_frame,
    window_update,
)

DENOISE = LIST.replace("ListModels", "Denoise")


@pytest.fixture(scope="module", params=TRANSPORTS)
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serving(GOLDEN, transport=request.param, poll_seconds=0) as served:
        yield served


def encode(model: str, count: int = 1) -> bytes:
    return message(pb.EncodeRequest(model_name=model, images=images(pixels(count))).SerializeToString())


@pytest.mark.parametrize("path", [LIST, HEALTH])
def test_an_answer_is_headers_a_message_and_trailers(server: Served, path: str) -> None:
    with Connection(server) as connection:
        answer = connection.call(1, path)
    assert answer.blocks == 2
    assert answer.headers[":status"] == "200"
    assert answer.headers["content-type"].startswith("application/grpc")
    assert answer.headers["grpc-status"] == "0"
    assert answer.message
    # RFC 9113, section 8.1: only for the rest of the request.
    assert answer.reset in {None, 0}


@pytest.mark.parametrize("text", ["no-such", "ä %\n\x7f", "100%25", "日本"])
def test_the_text_of_an_error_is_percent_encoded(server: Served, text: str) -> None:
    with Connection(server) as connection:
        answer = connection.call(1, ENCODE, encode(text))
    # "Trailers-Only is permitted"; grpc.aio sends headers and an empty message before them, which clients drop.
    assert (answer.blocks, answer.data) in {(1, b""), (2, message(b""))}
    assert answer.headers[":status"] == "200"
    assert answer.headers["content-type"].startswith("application/grpc")
    assert answer.status == "5"
    encoded = answer.headers["grpc-message"]
    assert all(" " <= character <= "~" for character in encoded)
    assert repr(text) in unquote(encoded) or text in unquote(encoded)


def test_details_are_binary_metadata(server: Served) -> None:
    with Connection(server) as connection:
        answer = connection.call(1, ENCODE, encode("vae", count=0))
    text = answer.headers["grpc-status-details-bin"]
    # Receivers take both, senders should not pad.
    assert not text.endswith("=")
    status = status_pb2.Status.FromString(base64.b64decode(text + "=" * (-len(text) % 4)))
    assert str(status.code) == answer.status == "3"
    assert any(detail.Is(error_details_pb2.BadRequest.DESCRIPTOR) for detail in status.details)


def test_headers_may_be_compressed_by_tables_and_huffman(server: Served) -> None:
    encoder, fields = Encoder(), header_fields()
    with Connection(server) as connection:
        sizes = []
        for stream in (1, 3, 5):
            block = encoder.encode(fields, huffman=True)
            sizes.append(len(block))
            connection.send(frame(HEADERS, END_HEADERS, stream, block))
            connection.send(frame(DATA, END_STREAM, stream, message(b"")))
            assert connection.answer(stream).status == "0"
    # All of the later ones is in the table.
    assert sizes[1] == sizes[2] < sizes[0] / 5


def header_fields() -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", LIST),
        (":authority", "x"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("x-much", "a" * 500),
    ]


def test_a_client_without_a_table_gets_headers_without_one(server: Served) -> None:
    """RFC 7541, section 4.2: the decoder, which allows none, would refuse an entry of its table."""
    with Connection(server, {HEADER_TABLE_SIZE: 0}, table=0) as connection:
        assert connection.waited(lambda: connection.acknowledged >= 2)
        assert [connection.call(stream).status for stream in (1, 3)] == ["0", "0"]


@pytest.mark.parametrize(("count", "size"), [(1, 14_000), (100, 100)])
def test_large_metadata_below_the_limit_is_taken(server: Served, count: int, size: int) -> None:
    fields = [*header_fields(), *((f"x-{index:03}", "v" * size) for index in range(count))]
    block = Encoder().encode(fields, huffman=False)
    with Connection(server) as connection:
        connection.send(frame(HEADERS, END_HEADERS, 1, block), frame(DATA, END_STREAM, 1, message(b"")))
        assert connection.answer(1).status == "0"


def test_calls_of_a_connection_may_be_interleaved(server: Served) -> None:
    body, streams = encode("vae", 8), range(1, 41, 2)
    with Connection(server) as connection:
        for stream in streams:
            connection.send(frame(HEADERS, END_HEADERS, stream, header_block(ENCODE)))
        for start in range(0, len(body), 100):
            last = END_STREAM if start + 100 >= len(body) else 0
            connection.send(*(frame(DATA, last, stream, body[start : start + 100]) for stream in streams))
        assert {connection.answer(stream).status for stream in streams} == {"0"}
        assert {pb.EncodeResponse.FromString(connection.of(stream).message).latents.shape[0] for stream in streams} == {
            8
        }


def test_frames_of_a_call_that_was_reset_are_ignored(server: Served) -> None:
    """RFC 9113, section 5.1: they may have been sent before."""
    with Connection(server) as connection:
        connection.call(1)
        connection.send(window_update(1, 5), frame(RST_STREAM, 0, 1, CANCEL.to_bytes(4)))
        connection.send(frame(HEADERS, END_HEADERS, 3, header_block(ENCODE)))
        connection.send(frame(RST_STREAM, 0, 3, CANCEL.to_bytes(4)), window_update(3, 5))
        assert connection.call(5).status == "0"
        assert connection.of(3).blocks == 0


def test_pings_are_answered_with_their_content_while_calls_run(server: Served) -> None:
    with Connection(server) as connection:
        connection.send(frame(HEADERS, END_HEADERS, 1, header_block(ENCODE)))
        assert connection.ping(b"12345678")
        connection.send(frame(DATA, END_STREAM, 1, encode("vae")))
        assert connection.answer(1).status == "0"


def test_settings_are_first_and_acknowledged(server: Served) -> None:
    """RFC 9113, sections 3.4 and 6.5.3."""
    with Connection(server) as connection:
        connection.send(settings_frame({HEADER_TABLE_SIZE: 100}), settings_frame({}))
        # With the one that every connection begins with.
        assert connection.waited(lambda: connection.acknowledged == 3)
    assert connection.kinds[0] == SETTINGS


@pytest.fixture(params=TRANSPORTS)
def slow(request: pytest.FixtureRequest, repository: Path) -> Iterator[Served]:
    """A graph that takes long enough to do something meanwhile."""
    write_slow_denoiser(repository)
    # Row by row: a quarter of a second for a request.
    slow = {"max_batch_rows": 1, "concurrent_runs": 1, "lame_duck_seconds": 0}
    with serving(repository, transport=request.param, poll_seconds=0, **slow) as served:
        yield served


def denoise(rows: int) -> bytes:
    noisy = images(pixels(rows, (32, 32, 1)))
    return message(pb.DenoiseRequest(model_name="slow", images=noisy).SerializeToString())


def test_ends_of_calls_reach_the_server(slow: Served) -> None:
    """A reset, a deadline, a client's GOAWAY, and the server's own when it stops."""
    body = denoise(60)
    with Connection(slow) as connection:
        connection.request(1, DENOISE, body)
        eventually(lambda: metric(slow, "autoencoder_requests_in_flight") > 0)
        connection.send(frame(RST_STREAM, 0, 1, CANCEL.to_bytes(4)))
        eventually(lambda: metric(slow, "autoencoder_requests_total", code="CANCELLED") == 1)
        connection.request(3, DENOISE, body, {"grpc-timeout": "5m"})
        assert connection.answer(3).status == "4"
        assert connection.goaway is None
        # RFC 9113, section 6.8: no new streams will come, those that are open go on.
        connection.request(5, DENOISE, body)
        connection.send(frame(GOAWAY, 0, 0, bytes(8)))
        assert connection.answer(5).status == "0"
    with Connection(slow) as connection:
        connection.request(1, DENOISE, body)
        eventually(lambda: metric(slow, "autoencoder_requests_in_flight") > 0)
        stopping = threading.Thread(target=slow.app.stop)
        # Not a second time when the fixture ends, also if an assertion fails meanwhile.
        slow.app.stop = lambda: True
        stopping.start()
        try:
            assert connection.answer(1, 60).status == "0"
            assert connection.waited(lambda: connection.goaway is not None)
        finally:
            stopping.join(60)
        assert not stopping.is_alive()
    assert connection.goaway == 0
