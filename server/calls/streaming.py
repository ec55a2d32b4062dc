"""Bidirectional streaming: many requests on one stream, answered independently and in any order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from server.calls.auth import Right
from server.calls.call import Call
from server.codec.prescan import LIGHT_BYTES, Prescan
from server.errors import InvalidArgumentError, Status

M = TypeVar("M", bound=Message)


class StreamItem(Protocol):
    """One request of a stream, and how its outcome is written to the stream."""

    size_bytes: int
    bytes_to_parse: int
    """Of these, all but the bytes of rows."""

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

    __slots__ = ("_content", "_kind", "_prescan", "bytes_to_parse", "size_bytes")

    def __init__(self, kind: type[M], prescan: Prescan, payload: bytes) -> None:
        self.size_bytes = len(payload)
        self.bytes_to_parse = prescan.bytes_to_parse(payload)
        self._prescan = prescan
        self._kind = kind
        self._content: bytes | M | DecodeError = payload

    def get(self) -> M:
        """The message.

        Raises:
            InvalidArgumentError: the bytes are not such a message, or have too many fields.
        """
        content = self._content
        if isinstance(content, bytes) and self.bytes_to_parse > LIGHT_BYTES:
            self._prescan.check(content)
        got = self._parsed()
        if isinstance(got, DecodeError):
            raise InvalidArgumentError("request", f"expected a {self._kind.DESCRIPTOR.name}: {got}")
        return got

    def first_fields(self) -> M:
        """The message for what its answer repeats; if it is large and unparsed, only the fields that come first in it.

        An empty one, if the bytes are not such a message.
        """
        content = self._content
        if isinstance(content, bytes) and self.bytes_to_parse > LIGHT_BYTES:
            got = self._parse(self._prescan.beginning(content))
        else:
            got = self._parsed()
        return self._kind() if isinstance(got, DecodeError) else got

    def _parsed(self) -> M | DecodeError:
        got = self._content
        if isinstance(got, bytes):
            got = self._content = self._parse(got)
        return got

    def _parse(self, payload: bytes) -> M | DecodeError:
        try:
            return self._kind.FromString(payload)
        except DecodeError as error:
            return error
