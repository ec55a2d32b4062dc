"""A flood of Denoise calls at a given rate, from a program of its own that takes little of the server's cores.

A gRPC client would take more than the server does to refuse it. This one sends the same frames again and again, waits
for nothing, and sees of an answer only that it has come.
"""

import itertools
import json
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from autoencoder.v1 import autoencoder_pb2 as pb

from tests.server.conftest import images, pixels
from tests.server.raw_http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    header_block,
    message,
)

PATH = "/autoencoder.v1.AutoencoderService/Denoise"
CONNECTIONS = 10
# Calls that wait at a time, at most: more than any server's queue is to hold here.
MOST_OPEN = 100
FRAME_BYTES = 16_384
LATE_SECONDS = 0.1
FIRST_WINDOW = 65_535
NO_WINDOW = 0x7FFF_FFFF
INITIAL_WINDOW_SIZE = 4


class Connection:
    """One of the flood's connections; calls whose bytes find no window wait here."""

    def __init__(self, address: str, headers: bytes, body: bytes) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.open: set[int] = set()
        self._headers = headers
        self._body = body
        self._window = FIRST_WINDOW
        self._streams = itertools.count(1, 2)
        self._received = b""
        # Answers are never to wait for a window.
        settings = frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, NO_WINDOW))
        self.socket.sendall(
            PREFACE + settings + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", NO_WINDOW - FIRST_WINDOW))
        )

    def call(self) -> bool:
        """Make a call, if there is room for it."""
        if len(self.open) >= MOST_OPEN or self._window < len(self._body):
            return False
        stream = next(self._streams)
        pieces = [self._body[first : first + FRAME_BYTES] for first in range(0, len(self._body), FRAME_BYTES)]
        frames = [frame(DATA, END_STREAM * (piece is pieces[-1]), stream, piece) for piece in pieces]
        self.socket.sendall(frame(HEADERS, END_HEADERS, stream, self._headers) + b"".join(frames))
        self.open.add(stream)
        self._window -= len(self._body)
        return True

    def read(self) -> None:
        """Take in what has come."""
        data = self._received + self.socket.recv(1 << 20)
        start = 0
        while len(data) >= start + 9:
            length = int.from_bytes(data[start : start + 3], "big")
            stop = start + 9 + length
            if len(data) < stop:
                break
            kind, flags = data[start + 3], data[start + 4]
            self._take(kind, flags, int.from_bytes(data[start + 5 : start + 9], "big"), data[start + 9 : stop])
            start = stop
        self._received = data[start:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if (kind in {HEADERS, DATA} and flags & END_STREAM) or kind == RST_STREAM:
            self.open.discard(stream)
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind in {SETTINGS, PING} and not flags & ACK:
            self.socket.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))


def flood(address: str, token: str, rows: int, timeout_seconds: float | None, rate: float) -> None:
    """Call at a rate until a line comes in, and wait for what is open; says how many, in how long, at which cost."""
    headers = {"authorization": f"Bearer {token}"}
    if timeout_seconds is not None:
        headers["grpc-timeout"] = f"{round(timeout_seconds * 1000)}m"
    request = pb.DenoiseRequest(images=images(pixels(rows, (32, 32, 1))), image_format=pb.IMAGE_FORMAT_NONE)
    block, body = header_block(PATH, headers), message(request.SerializeToString())
    connections = [Connection(address, block, body) for _ in range(CONNECTIONS)]
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ, None)
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        turn = itertools.cycle(connections)
        sent, missed = 0, 0.0
        started, busy = time.monotonic(), time.process_time()
        ended: float | None = None
        while ended is None or any(each.open for each in connections):
            for key, _ in selector.select(0.001):
                if key.data is None:
                    ended, busy = time.monotonic() - started, time.process_time() - busy
                    selector.unregister(sys.stdin)
                else:
                    key.data.read()
            due = rate * (time.monotonic() - started) - missed
            while ended is None and sent < due and next(turn).call():
                sent += 1
            # What could not be sent soon after it was due is not made up for.
            missed += max(due - sent - rate * LATE_SECONDS, 0)
    sys.stdout.write(json.dumps([sent, ended, busy]))


class Flood:
    """A flood from a separate process, until it is stopped."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.calls = 0
        self.rate = 0.0
        """Calls a second."""
        self.cores = 0.0
        """What making them took."""
        self._process = process

    def end(self) -> None:
        """Make no more calls, and wait until none is open."""
        calls, seconds, busy = json.loads(self._process.communicate("enough\n", timeout=120)[0])
        self.calls, self.rate, self.cores = calls, calls / seconds, busy / seconds


@contextmanager
def flooding(address: str, token: str, rows: int, timeout_seconds: float | None, rate: float) -> Iterator[Flood]:
    """Let a flood come."""
    arguments = [address, token, str(rows), json.dumps(timeout_seconds), str(rate)]
    command = [sys.executable, "-m", __name__, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Flood(process)
        finally:
            process.kill()


if __name__ == "__main__":
    flood(sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]), float(sys.argv[5]))
