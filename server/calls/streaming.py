"""RPCs with a stream both ways: many requests, answers in any order, each on its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from server.calls.auth import Right
from server.calls.call import Call
from server.errors import InvalidArgumentError, Status

M = TypeVar("M", bound=Message)


class Item(Protocol):
    """One request on a stream, and how its outcome is written on the stream."""

    size_bytes: int

    def serve(self, call: Call) -> None:
        """Answer the call with the serialised response of the unary method, now or later, or raise."""
        ...

    def answer(self, response: bytes) -> bytes:
        """From that response to a message of the stream."""
        ...

    def fail(self, status: Status) -> bytes:
        """From a failure to a message of the stream."""
        ...


@dataclass(frozen=True)
class StreamMethod:
    """One RPC with streams both ways: how a message becomes a request."""

    name: str
    path: str
    read: Callable[[bytes], Item]
    right: Right | None = "inference"


class LazyMessage(Generic[M]):
    """A message of a stream, parsed by whoever asks first: of a large one that is not the thread of all streams."""

    __slots__ = ("_came", "_kind")

    def __init__(self, kind: type[M], payload: bytes) -> None:
        self._kind = kind
        self._came: bytes | M | DecodeError = payload

    def get(self) -> M:
        """The message.

        Raises:
            InvalidArgumentError: the bytes are none.
        """
        got = self._parsed()
        if isinstance(got, DecodeError):
            raise InvalidArgumentError("request", f"expected a {self._kind.DESCRIPTOR.name}: {got}")
        return got

    def get_or_empty(self) -> M:
        """The message; an empty one where the bytes are none."""
        got = self._parsed()
        return self._kind() if isinstance(got, DecodeError) else got

    def _parsed(self) -> M | DecodeError:
        got = self._came
        if isinstance(got, bytes):
            try:
                got = self._kind.FromString(got)
            except DecodeError as error:
                got = error
            self._came = got
        return got
