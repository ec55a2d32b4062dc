"""RPCs with a stream both ways: many requests, answers in any order, each on its own."""

from collections.abc import Callable
from dataclasses import dataclass

from server.call import Call
from server.errors import Status
from server.security import Right


@dataclass(frozen=True, eq=False)
class Item:
    """One request on a stream, and how its outcome is written on the stream."""

    size_bytes: int
    serve: Callable[[Call], None]
    """Answers the call with the serialised response of the unary method, now or later, or raises."""
    answer: Callable[[bytes], bytes]
    """From that response to a message of the stream."""
    fail: Callable[[Status], bytes]
    """From a failure to a message of the stream."""


@dataclass(frozen=True)
class StreamMethod:
    """One RPC with streams both ways: how a message becomes a request."""

    name: str
    path: str
    read: Callable[[bytes], Item]
    right: Right | None = "inference"


def field(number: int, content: bytes) -> bytes:
    """A field of a message, with bytes, text or a serialised message in it, as it stands on the wire.

    Protocol Buffers, "Encoding": https://protobuf.dev/programming-guides/encoding/
    """
    return b"".join((_varint(number << 3 | 2), _varint(len(content)), content))


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:  # noqa: PLR2004 (seven bits a byte)
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
