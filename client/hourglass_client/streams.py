"""The bidirectional Stream RPC: requests and answers of other methods under ids that the caller chooses."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
from autoencoder.v1 import autoencoder_pb2 as pb

from hourglass_client.answers import FROM_STREAM, Answer
from hourglass_client.errors import HourglassError, from_call, from_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator

    from hourglass_client.requests import Request

# The field of StreamRequest for each kind of request; the .proto file is the list.
_FIELDS = {
    kind.full_name: field.name
    for field in pb.StreamRequest.DESCRIPTOR.fields
    if (kind := field.message_type) is not None
}


def to_message(name: str, request: Request) -> pb.StreamRequest:
    """A request under its id."""
    message = pb.StreamRequest(id=name)
    getattr(message, _FIELDS[request.DESCRIPTOR.full_name]).CopyFrom(request)
    return message


def from_message(message: pb.StreamResponse) -> tuple[str, Answer | HourglassError]:
    """An answer, or the failure of this one request, under its id."""
    kind: str | None = message.WhichOneof("response")
    if kind in FROM_STREAM:
        return message.id, FROM_STREAM[kind](getattr(message, kind))
    return message.id, from_status(message.error)


@contextmanager
def failures(
    call: grpc.RpcContext | grpc.aio.RpcContext, sent: Outgoing | AsyncOutgoing, proxy_advice: str
) -> Generator[None]:
    """Raise what the items raised, or the error of the call; cancel the call at the end."""
    try:
        yield
    except grpc.RpcError as error:
        raise (sent.failure or from_call(error, proxy_advice)) from error
    except asyncio.CancelledError:
        # How grpc.aio reports that the items failed; a cancellation from outside is raised again.
        if sent.failure is not None:
            raise sent.failure from None
        raise
    finally:
        call.cancel()


class Outgoing:
    """The requests of a stream, taken by a thread of gRPC; what their iterator raises is kept for the caller."""

    def __init__(self, items: Iterable[tuple[str, Request]]) -> None:
        self._items = items
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[pb.StreamRequest]:
        try:
            for name, request in self._items:
                yield to_message(name, request)
        except Exception as error:
            self.failure = error
            raise


class AsyncOutgoing:
    """The same for asyncio, where a task of gRPC takes them."""

    def __init__(self, items: AsyncIterable[tuple[str, Request]]) -> None:
        self._items = items
        self.failure: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[pb.StreamRequest]:
        try:
            async for name, request in self._items:
                yield to_message(name, request)
        except Exception as error:
            self.failure = error
            raise
