"""From the event loop of the HTTP server to the endpoint and back: one call per request, as from a transport."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from google.protobuf.message import Message
from grpc import StatusCode

from server.call import Call, Metadata
from server.endpoint import Endpoint, Method
from server.errors import Status
from server.services.open_inference import SERVICE

_Settled: TypeAlias = "asyncio.Future[bytes | Status]"


@dataclass(frozen=True)
class Sent:
    """What a caller has sent."""

    read: Callable[[], Message]
    """Makes the request's message, or raises what is wrong with it."""
    size_bytes: int
    metadata: Metadata
    gone: Callable[[], Awaitable[None]]
    """Returns when the caller has left."""


class StatusError(Exception):
    """A call ended with another status than OK."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class Core:
    """Calls methods of the protocol's service on behalf of HTTP callers."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.max_message_bytes = endpoint.max_message_bytes
        self._endpoint = endpoint
        self._drain_scheduled = False

    async def ask(self, method: str, sent: Sent) -> bytes:
        """The serialised response of a method.

        Raises:
            StatusError: the call failed.
        """
        loop = asyncio.get_running_loop()
        token: _Settled = loop.create_future()
        path = f"/{SERVICE}/{method}"
        call = self._endpoint.open(method, None, sent.metadata, self, token)
        refusal = self._endpoint.refusal(path, sent.metadata)
        if refusal is not None:
            call.fail(refusal)
        else:
            serve = partial(_serve, self._endpoint.methods[path], sent.read)
            self._endpoint.accept_parsed(call, serve, sent.size_bytes)
            self._schedule_drain(loop)
        leaving = asyncio.ensure_future(sent.gone())
        await asyncio.wait((token, leaving), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not token.done():
            call.cancel(StatusCode.CANCELLED)
            raise StatusError(Status(StatusCode.CANCELLED, "The caller has gone."))
        result = token.result()
        if isinstance(result, Status):
            raise StatusError(result)
        return result

    def send(self, token: _Settled, payload: bytes) -> None:
        """Take an answer, from any thread."""
        self._settle(token, payload)

    def fail(self, token: _Settled, status: Status) -> None:
        """Take a failure, from any thread."""
        self._settle(token, status)

    def _settle(self, token: _Settled, result: bytes | Status) -> None:
        token.get_loop().call_soon_threadsafe(_resolve, token, result)

    def _schedule_drain(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._drain_scheduled:
            self._drain_scheduled = True
            loop.call_soon(self._drain, loop)

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        self._drain_scheduled = False
        if self._endpoint.run_ready():
            self._schedule_drain(loop)


def _serve(method: Method, read: Callable[[], Message], call: Call) -> None:
    method.serve(call, read())


def _resolve(token: _Settled, result: bytes | Status) -> None:
    if not token.done():
        token.set_result(result)
