"""Limits of connections: answers that are not read, requests whose end is ambiguous, no file left to accept one."""

import json
import re
import resource
import socket
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from examples.local_server import running
from tests.reliability.resources import listening_port
from tests.server.conftest import GOLDEN, write_slow_denoiser
from tests.server.rest.conftest import Rest, document, eventually, serving_rest

# The answer in JSON has six megabytes, more than the buffers of a socket hold.
ROWS = np.random.default_rng(0).random((300, 32, 32, 1), np.float32)
INPUT = {"name": "images", "datatype": "FP32", "shape": ROWS.shape, "parameters": {"binary_data_size": ROWS.nbytes}}
HEAD = json.dumps({"inputs": [INPUT]}).encode()


def connect(rest: Rest) -> socket.socket:
    host, port = rest.address.split(":")
    caller = socket.socket()
    # Before connecting, for it to bound the window.
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    caller.connect((host, int(port)))
    caller.settimeout(60)
    return caller


def request(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def read_all(caller: socket.socket) -> bytes:
    """What is left to read until the server ends the connection."""
    data = b""
    with suppress(ConnectionError):
        while piece := caller.recv(1 << 20):
            data += piece
    return data


INFER = request("/v2/models/slow/infer", HEAD + ROWS.tobytes(), f"Inference-Header-Content-Length: {len(HEAD)}")


def connections(rest: Rest) -> int:
    rest_server = rest.served.app._rest
    return len(rest_server._server.server_state.connections)


@pytest.fixture
def wide(repository: Path) -> Path:
    write_slow_denoiser(repository, layers=1)
    return repository


def test_a_client_that_does_not_read_is_disconnected(wide: Path) -> None:
    with serving_rest(wide, rest_write_seconds=0.3) as own:
        with connect(own) as caller:
            caller.sendall(INFER)
            eventually(lambda: connections(own) == 1)
            # Sooner than an idle connection is closed.
            eventually(lambda: connections(own) == 0)
            assert len(read_all(caller)) < len(HEAD) + 20 * ROWS.size
        assert own.post("/v2/models/slow/infer", document(ROWS[:1])).status == 200


def test_a_client_that_reads_slowly_gets_its_answer(wide: Path) -> None:
    with serving_rest(wide, rest_write_seconds=0.5) as own, connect(own) as caller:
        caller.sendall(INFER)
        data = b""
        # Longer than the time without a byte that is allowed.
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            time.sleep(0.1)
            data += caller.recv(2000)
        size = int(re.search(rb"content-length: (\d+)", data)[1])
        head = data.index(b"\r\n\r\n") + 4
        while len(data) < head + size and (piece := caller.recv(1 << 20)):
            data += piece
    assert len(json.loads(data[head:])["outputs"][0]["data"]) == ROWS.size


def test_connections_that_wait_longest_end_when_too_much_is_unread(wide: Path) -> None:
    with serving_rest(wide, rest_unread_bytes=5_000_000, rest_write_seconds=3600) as own:
        callers = [connect(own) for _ in range(6)]
        for caller in callers:
            caller.sendall(INFER)
        eventually(lambda: 0 < connections(own) < len(callers))
        assert own.post("/v2/models/slow/infer", document(ROWS[:1])).status == 200
        for caller in callers:
            caller.close()


@pytest.mark.parametrize("first", ["Transfer-Encoding: chunked", "transfer-encoding: Chunked"])
def test_a_request_whose_end_is_given_in_two_ways_is_refused_and_the_connection_closed(rest: Rest, first: str) -> None:
    hidden = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(rest) as caller:
        caller.sendall(request("/v2/models/vae.encode/infer", b"0\r\n\r\n" + hidden, first))
        answer = read_all(caller)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"400"]
    assert b"connection: close" in answer
    assert b"either Content-Length or Transfer-Encoding" in answer


def test_no_file_left_is_logged_in_one_line_a_second(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(GOLDEN, log, "--rest-port", "0") as server:
        port = listening_port(server)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (1, limits[1]))
        before = log.stat().st_size
        with socket.create_connection(("127.0.0.1", port), timeout=20) as waiting:
            eventually(lambda: "raise the limit of open files" in log.read_text())
            time.sleep(1)
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)
            waiting.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert waiting.recv(100).startswith(b"HTTP/1.1 200")
    written = log.read_text()[before:]
    assert "Traceback" not in written
    assert written.count("raise the limit of open files") < 20
