"""HTTP/2 frames by hand, for what no client library would send."""

import socket
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
ACK = 1
MAX_CONCURRENT_STREAMS = 3
ENHANCE_YOUR_CALM = 11


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """RFC 9113, section 4.1."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(path: str, more: Mapping[str, str] | None = None) -> bytes:
    """Headers of a gRPC call, literally and without Huffman's code: RFC 7541, section 6.2.2."""
    headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "te": "trailers"}
    headers |= {"content-type": "application/grpc", **(more or {})}
    return b"".join(
        b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )


def message(payload: bytes) -> bytes:
    """A message on a gRPC stream."""
    return b"\0" + struct.pack(">I", len(payload)) + payload


class RawConnection:
    """A connection that has said hello."""

    def __init__(self, address: str, source: str = "") -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=20, source_address=(source, 0))
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0))
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def open(self, stream: int, path: str) -> None:
        """Begin a call that sends nothing more."""
        self.socket.sendall(frame(HEADERS, END_HEADERS, stream, header_block(path)))

    def call(self, stream: int, path: str, request: bytes) -> None:
        """Make a unary call with a small request."""
        self.open(stream, path)
        self.socket.sendall(frame(DATA, END_STREAM, stream, message(request)))

    def frames(self, seconds: float) -> Iterator[tuple[int, int, int, bytes]]:
        """What comes, until the other side closes or the time is up: kind, flags, stream, payload."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            while len(self._buffer) >= 9 and len(self._buffer) >= 9 + self._length():
                length = self._length()
                kind, flags, stream = struct.unpack(">BBI", self._buffer[3:9])
                payload, self._buffer = self._buffer[9 : 9 + length], self._buffer[9 + length :]
                yield kind, flags, stream & 0x7FFFFFFF, payload
            self.socket.settimeout(max(end - time.monotonic(), 0.01))
            try:
                received = self.socket.recv(65536)
            except TimeoutError:
                return
            except ConnectionError:
                received = b""
            if not received:
                return
            self._buffer += received

    def end_of(self, stream: int, seconds: float = 20) -> bytes | None:
        """The headers that end a call, compressed but for names and values that are new; None if none come in time."""
        for kind, flags, number, payload in self.frames(seconds):
            if kind == HEADERS and flags & END_STREAM and number == stream:
                return payload
        return None

    def closed(self, seconds: float) -> bool:
        """Whether the other side closes the connection within this time."""
        for _ in self.frames(seconds):
            pass
        try:
            self.socket.settimeout(0.01)
            return self.socket.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    def _length(self) -> int:
        return int.from_bytes(self._buffer[:3], "big")


def settings(payload: bytes) -> dict[int, int]:
    """Content of a SETTINGS frame."""
    return dict(struct.iter_unpack(">HI", payload))
