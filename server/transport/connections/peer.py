"""What is known of a client before its connection is served (peeking): who it is, whether it has gone, what it sent."""

import select
import socket
import struct

from server.addresses import network_of

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# RFC 9113, section 4.1: three bytes of length, kind, flags, stream.
_FRAME_HEAD_BYTES = 9
_HEADERS = 1
_PEEKED_BYTES = 65_536
# What clients begin before they know the server's limit: 100 in nghttp2, Go, Java, .NET and hyper, none in grpc core.
_MOST_EARLY_CALLS = 100
# Of process, user and group, written as three ints (Linux).
_CREDENTIALS = struct.Struct("3i")
# TCP_INFO begins with the state: in CLOSE and CLOSE_WAIT the client has closed its end (Linux).
_GONE = frozenset({7, 8})


def caller_of(connection: socket.socket, host: str) -> str:
    """Who shares turns and limits: an IPv4 address, an IPv6 network, or a process of this machine."""
    if connection.family == socket.AF_UNIX:
        return _process(connection)
    return network_of(host)


def _process(connection: socket.socket) -> str:
    if not hasattr(socket, "SO_PEERCRED"):
        return "unix"
    process, user, _ = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return f"user {user}, process {process}"


def has_gone(connection: socket.socket) -> bool:
    """Whether the client has closed its end; unknown, thus false, if what it sent before does not fit the buffer."""
    try:
        if connection.family == socket.AF_UNIX:
            poll = select.poll()
            poll.register(connection, 0)
            return bool(poll.poll(0))
        return hasattr(socket, "TCP_INFO") and connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _GONE
    except OSError:
        return True


def begins_storm(connection: socket.socket) -> bool:
    """Whether a client has begun more calls than any does before it is served; False under TLS, where none can be."""
    try:
        sent = connection.recv(_PEEKED_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return False
    if not sent.startswith(_PREFACE):
        return False
    calls, at = 0, len(_PREFACE)
    while calls <= _MOST_EARLY_CALLS and at + _FRAME_HEAD_BYTES <= len(sent):
        calls += sent[at + 3] == _HEADERS
        at += _FRAME_HEAD_BYTES + int.from_bytes(sent[at : at + 3], "big")
    return calls > _MOST_EARLY_CALLS
