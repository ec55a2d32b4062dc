"""Uploads over HTTP that come to a halt: they fill the room for bodies, and lose it to those that come on."""

import json
import logging
import os
import socket
import time
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import pytest

from examples.local_server import running
from tests.reliability.resources import MIB, Holding, listening_port
from tests.server.conftest import GOLDEN, pixels
from tests.server.rest.conftest import document

_LOGGER = logging.getLogger(__name__)
SCALE = int(os.environ.get("TEST_SCALE", "1"))
# In the long form those of the default settings.
BODY_BYTES = (64 if SCALE > 1 else 4) * MIB
ROOM_BYTES = (8 if SCALE > 1 else 4) * BODY_BYTES
UPLOADS = 80 if SCALE > 1 else 16
PATH = "/v2/models/vae.encode/infer"
HONEST = json.dumps(document(pixels(1), parameters={"x": "y" * 500_000})).encode()


@pytest.mark.parametrize("source", ["127.0.0.2", "127.0.0.1"] if SCALE > 1 else ["127.0.0.2"])
def test_uploads_that_halt_lose_their_room_to_others(tmp_path: Path, source: str) -> None:
    flags = ("--rest-port", "0", "--max-message-bytes", str(BODY_BYTES), "--max-heavy-bytes", str(ROOM_BYTES))
    with running(GOLDEN, tmp_path / "server.log", *flags) as server, ExitStack() as stack:
        port = listening_port(server)
        assert post(port) == 200
        before = Holding.of(server.process.pid).rss_bytes
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY_BYTES}\r\n\r\n".encode()
        for _ in range(UPLOADS):
            stranger = stack.enter_context(
                socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))
            )
            stranger.sendall(head)
            # All but the last byte; an upload that ends for another one may be cut off.
            try:
                stranger.sendall(bytes(BODY_BYTES - 1))
            except ConnectionError:
                continue
        statuses: list[int] = []
        waits: list[float] = []
        # Those of the same address lose their room a second after they have come to a halt.
        while not statuses or (source == "127.0.0.1" and len(waits) < 40 and statuses[-1] != 200):
            asked = time.monotonic()
            statuses.append(post(port))
            waits.append(time.monotonic() - asked)
        held = Holding.of(server.process.pid).rss_bytes - before
        _LOGGER.info(
            "%d halted uploads of %d MiB from %s: +%d MiB, honest uploads %s after at most %.2f s",
            UPLOADS,
            BODY_BYTES // MIB,
            source,
            held // MIB,
            statuses,
            max(waits),
        )
        assert statuses[-1] == 200
        # And not the bytes of those that ended as well.
        assert held < 0.75 * UPLOADS * BODY_BYTES


def post(port: int) -> int:
    """Status of an honest upload of half a MiB."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", PATH, HONEST)
        return connection.getresponse().status
    finally:
        connection.close()
