"""A storm of calls over ever new connections, as a program: ADDRESS KIND CALLS_OF_EACH CONNECTIONS."""

import socket
import struct
import sys

from tests.server.raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
    header_block,
    message,
)

PATHS = {
    "reset": "/autoencoder.v1.AutoencoderService/Encode",
    "closed": "/autoencoder.v1.AutoencoderService/Encode",
    "health": "/grpc.health.v1.Health/Check",
    "unknown": "/no.Such/Method",
}
# Another address than that of honest callers.
STRANGER = "127.0.0.2"
TIMEOUT_SECONDS = 5


def storm(address: str, kind: str, calls: int, connections: int) -> int:
    """Connect, make calls, close, again; returns how many calls were sent."""
    reset, block = kind == "reset", header_block(PATHS[kind])
    frames = [
        frame(HEADERS, END_HEADERS, stream, block)
        + frame(DATA, 0 if reset else END_STREAM, stream, message(b""))
        + (frame(RST_STREAM, 0, stream, struct.pack(">I", 8)) if reset else b"")
        for stream in range(1, 2 * calls, 2)
    ]
    data = PREFACE + frame(SETTINGS, 0, 0) + b"".join(frames)
    sent = 0
    for _ in range(connections):
        try:
            with connect(address) as connection:
                connection.sendall(data)
                sent += calls
        except OSError:
            continue
    return sent


def connect(address: str) -> socket.socket:
    """Connect to HOST:PORT or unix:PATH."""
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(address.removeprefix("unix:"))
        return connection
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), TIMEOUT_SECONDS, (STRANGER, 0))


if __name__ == "__main__":
    sys.stdout.write(str(storm(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
