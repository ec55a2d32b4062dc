"""A call to the server itself (heartbeat): Python takes it after the calls that core has queued before it."""

import secrets
import socket
import struct
from collections.abc import Callable

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS, _SETTINGS = 1, 4
_END_STREAM, _END_HEADERS = 1, 4
# Length in two parts, kind, flags, stream (RFC 9113, section 4.1).
_FRAME_HEAD = struct.Struct(">BHBBI")


class Probe:
    """Calls of a path that only this server knows, each on a connection of its own."""

    def __init__(self, give: Callable[[int], None]) -> None:
        self.path = f"/{secrets.token_hex(16)}"
        self._give = give
        self._socket: socket.socket | None = None
        headers = {":method": "POST", ":scheme": "http", ":path": self.path, ":authority": "probe", "te": "trailers"}
        headers["content-type"] = "application/grpc"
        block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())
        self._call = _PREFACE + _frame(_SETTINGS, 0, 0) + _frame(_HEADERS, _END_STREAM | _END_HEADERS, 1, block)

    def call(self) -> None:
        """Make the call."""
        self.end()
        self._socket, server_end = socket.socketpair()
        server_end.settimeout(0)
        # A few bytes fit into the buffer of a new socket.
        self._socket.sendall(self._call)
        self._give(server_end.detach())

    def end(self) -> None:
        """Close the connection; its answer does not matter."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return _FRAME_HEAD.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def _text(text: str) -> bytes:
    # A literal without Huffman coding (RFC 7541, section 5.2).
    return bytes([len(text)]) + text.encode()
