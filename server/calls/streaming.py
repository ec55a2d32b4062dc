"""Bidirectional streaming: many requests on one stream, answered independently and in any order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from server.calls.auth import Right
from server.calls.call import Call
from server.errors import InvalidArgumentError, Status

M = TypeVar("M", bound=Message)


class StreamItem(Protocol):
    """One request of a stream, and how its outcome is written to the stream."""

    size_bytes: int

    def serve(self, call: Call) -> None:
        """Answer the call with the serialised response of the unary method, now or later, or raise."""
        ...

    def answer(self, response: bytes) -> bytes:
        """Wrap that response in a message of the stream."""
        ...

    def fail(self, status: Status) -> bytes:
        """Make a message of the stream from a failure."""
        ...


@dataclass(frozen=True)
class StreamMethod:
    """One bidirectional RPC: how a message of its stream becomes a request."""

    name: str
    path: str
    read: Callable[[bytes], StreamItem]
    right: Right | None = "inference"


class LazyMessage(Generic[M]):
    """A message of a stream, parsed on first use: a large one is then not parsed on the streams' own thread."""

    __slots__ = ("_content", "_kind")

    def __init__(self, kind: type[M], payload: bytes) -> None:
        self._kind = kind
        self._content: bytes | M | DecodeError = payload

    def get(self) -> M:
        """The message.

        Raises:
            InvalidArgumentError: the bytes are not such a message.
        """
        got = self._parsed()
        if isinstance(got, DecodeError):
            raise InvalidArgumentError("request", f"expected a {self._kind.DESCRIPTOR.name}: {got}")
        return got

    def get_or_empty(self) -> M:
        """The message; an empty one if the bytes are not such a message."""
        got = self._parsed()
        return self._kind() if isinstance(got, DecodeError) else got

    def _parsed(self) -> M | DecodeError:
        got = self._content
        if isinstance(got, bytes):
            try:
                got = self._kind.FromString(got)
            except DecodeError as error:
                got = error
            self._content = got
        return got
