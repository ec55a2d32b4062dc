"""Flow control of both transports (RFC 9113, sections 5.2 and 6.9): nothing is sent or taken beyond a window."""

from collections.abc import Iterator

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb

from tests.server.conftest import GOLDEN, TRANSPORTS, Served, images, pixels, serving
from tests.server.raw_http2 import DATA, END_HEADERS, END_STREAM, HEADERS, frame, header_block, message
from tests.server.transport.conformance.http2 import (
    DEFAULT_FRAME,
    DEFAULT_WINDOW,
    ENCODE,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    SAMPLE,
    Connection,
    settings_frame,
    window_update,
)

# 1024 images of 8 x 8 floats.
LARGE = message(
    pb.SampleRequest(model_name="vae", count=1024, seed=1, image_format=pb.IMAGE_FORMAT_FLOAT32).SerializeToString()
)
SMALL = message(pb.SampleRequest(model_name="vae", count=1, seed=1).SerializeToString())
LARGE_BYTES = 1024 * 64 * 4


@pytest.fixture(scope="module", params=TRANSPORTS)
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serving(GOLDEN, transport=request.param, poll_seconds=0) as served:
        yield served


def stalls(connection: Connection, stream: int, size: int) -> None:
    """So much of the answer comes, and no more while pings are answered."""
    assert connection.waited(lambda: len(connection.of(stream).data) >= size)
    assert connection.ping(b"anymore?")
    assert len(connection.of(stream).data) == size
    assert not connection.of(stream).ended


def test_no_data_come_through_a_window_of_zero(server: Served) -> None:
    with Connection(server, {INITIAL_WINDOW_SIZE: 0}) as connection:
        connection.request(1, SAMPLE, SMALL)
        assert connection.waited(lambda: connection.of(1).headers.get(":status") == "200")
        stalls(connection, 1, 0)
        connection.send(window_update(1, 1))
        stalls(connection, 1, 1)
        connection.send(window_update(1, 7))
        stalls(connection, 1, 8)
        connection.send(window_update(1, 1000))
        assert connection.answer(1).status == "0"
        assert pb.SampleResponse.FromString(connection.of(1).message).seed == 1


def test_an_answer_stops_at_the_window_of_its_stream_and_others_pass(server: Served) -> None:
    with Connection(server) as connection:
        connection.send(window_update(0, 2**30))
        connection.request(1, SAMPLE, LARGE)
        stalls(connection, 1, DEFAULT_WINDOW)
        assert connection.call(3, SAMPLE, SMALL).status == "0"
        connection.send(window_update(1, LARGE_BYTES * 2))
        assert connection.answer(1).status == "0"
        assert len(connection.of(1).message) > LARGE_BYTES
        assert connection.of(1).largest <= DEFAULT_FRAME


def test_all_answers_stop_at_the_window_of_the_connection(server: Served) -> None:
    with Connection(server, {INITIAL_WINDOW_SIZE: 2**20}) as connection:
        connection.request(1, SAMPLE, LARGE)
        stalls(connection, 1, DEFAULT_WINDOW)
        connection.request(3, SAMPLE, SMALL)
        assert connection.ping(b"nothing?")
        assert connection.of(3).data == b""
        connection.send(window_update(0, 2**20))
        assert connection.answer(1).status == connection.answer(3).status == "0"


def test_settings_change_the_windows_of_open_streams(server: Served) -> None:
    """RFC 9113, section 6.9.2: by the difference, below zero too."""
    with Connection(server, {INITIAL_WINDOW_SIZE: 1000}) as connection:
        connection.send(window_update(0, 2**20))
        connection.request(1, SAMPLE, LARGE)
        stalls(connection, 1, 1000)
        connection.send(settings_frame({INITIAL_WINDOW_SIZE: 3000}))
        stalls(connection, 1, 3000)
        connection.send(settings_frame({INITIAL_WINDOW_SIZE: 500}), window_update(1, 2500))
        # 2500 below zero, and so 0.
        stalls(connection, 1, 3000)
        connection.send(window_update(1, 10))
        stalls(connection, 1, 3010)
        connection.send(settings_frame({INITIAL_WINDOW_SIZE: 2**20}))
        assert connection.answer(1).status == "0"


def test_frames_grow_only_when_the_client_allows_it(server: Served) -> None:
    with Connection(server, {INITIAL_WINDOW_SIZE: 2**20, MAX_FRAME_SIZE: 2**18}) as connection:
        connection.send(window_update(0, 2**20))
        assert connection.call(1, SAMPLE, LARGE).status == "0"
        assert DEFAULT_FRAME <= connection.of(1).largest <= 2**18


def test_the_server_opens_its_windows_for_a_large_request(server: Served) -> None:
    floats = pixels(1024).astype(np.float32) / 255
    body = message(pb.EncodeRequest(model_name="vae", images=images(floats)).SerializeToString())
    with Connection(server) as connection:
        connection.send(frame(HEADERS, END_HEADERS, 1, header_block(ENCODE)))
        sent = 0
        while sent < len(body):
            # At least its settings have come, whatever it allows then.
            assert connection.waited(lambda: bool(connection.settings))
            first = connection.settings.get(INITIAL_WINDOW_SIZE, DEFAULT_WINDOW)
            assert connection.waited(lambda sent=sent, first=first: _room(connection, first) > sent)
            piece = body[sent : sent + min(DEFAULT_FRAME, _room(connection, first) - sent)]
            sent += len(piece)
            connection.send(frame(DATA, END_STREAM if sent == len(body) else 0, 1, piece))
        answer = connection.answer(1)
    assert answer.status == "0"
    assert pb.EncodeResponse.FromString(answer.message).latents.shape[0] == 1024


def _room(connection: Connection, first: int) -> int:
    """Bytes that may have been sent in all, on the stream and on the connection."""
    granted = connection.granted
    return min(first + granted.get(1, 0), DEFAULT_WINDOW + granted.get(0, 0))
