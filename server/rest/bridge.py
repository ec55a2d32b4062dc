"""From the event loop of the HTTP server to the endpoint and back: one call per request, as from a transport."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from google.protobuf.message import Message
from grpc import StatusCode

from server.batching.gather import GatherPolicy
from server.calls.call import Call, Metadata
from server.endpoint import Endpoint, Method
from server.errors import DeadlineError, ServingError, Status, UnavailableError
from server.services.open_inference.service import SERVICE
from server.transport.event_loop import Drain, LoopReplies, Pending, resolve


@dataclass(frozen=True)
class Body:
    """What a caller has sent as the request itself."""

    read: Callable[[], Message]
    """Makes the request's message, or raises what is wrong with it."""
    size_bytes: int = 0


@dataclass(frozen=True)
class Sent:
    """What a caller sends."""

    receive: Callable[[], Awaitable[Body]]
    """Reads the body, or raises why that is not done; asked for only where the caller may call."""
    metadata: Metadata
    peer: str
    gone: Callable[[], Awaitable[None]]
    """Returns when the caller has left."""


class StatusError(Exception):
    """A call ended with another status than OK."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class Core:
    """Calls methods of the protocol's service on behalf of HTTP callers."""

    def __init__(self, endpoint: Endpoint, body_seconds: float) -> None:
        """Calls an endpoint; a body may take `body_seconds` to come."""
        self.max_message_bytes = endpoint.max_message_bytes
        self._endpoint = endpoint
        self._body_seconds = body_seconds
        # These exist once the loop runs.
        self._replies: LoopReplies[Pending, bytes | Status]
        self._drain: Drain

    def start(self) -> None:
        """Bind to the running event loop, which is that of the HTTP server."""
        self._replies = LoopReplies(resolve)
        self._drain = Drain(self._endpoint.run_ready, GatherPolicy())

    async def ask(self, method: str, sent: Sent) -> bytes:
        """The serialised response of a method.

        Raises:
            StatusError: the call failed.
        """
        path = f"/{SERVICE}/{method}"
        # Before the body is read: who may not call costs no memory.
        refusal = self._endpoint.refusal(path, sent.metadata)
        body: Body | None = None
        if refusal is None:
            try:
                body = await self._receive(sent)
            except ServingError as error:
                refusal = error
        token: Pending = asyncio.get_running_loop().create_future()
        # From here on as over gRPC, where a call begins when its message is there.
        call = self._endpoint.open(method, None, sent.metadata, sent.peer, self, token)
        # It may have begun to stop meanwhile.
        refusal = refusal or self._endpoint.refusal(path, sent.metadata)
        if body is None or refusal is not None:
            assert refusal is not None  # noqa: S101 (there is a body else)
            call.fail(refusal)
        else:
            serve = partial(_serve, self._endpoint.methods[path], body.read)
            self._endpoint.accept_parsed(call, serve, body.size_bytes)
            self._drain.add_call()
        return await _outcome(call, token, sent)

    async def _receive(self, sent: Sent) -> Body:
        try:
            async with asyncio.timeout(self._body_seconds):
                return await sent.receive()
        except TimeoutError:
            raise DeadlineError(f"The body has not come within {self._body_seconds:g} s.") from None

    def send_all(self, answers: Sequence[tuple[Pending, bytes]]) -> None:
        """Take answers, from any thread."""
        self._replies.put(answers)

    def fail(self, token: Pending, status: Status) -> None:
        """Take a failure, from any thread."""
        self._replies.put([(token, status)])


async def _outcome(call: Call, token: Pending, sent: Sent) -> bytes:
    """The response, unless the caller leaves or the HTTP server ends before it: then the call ends too."""
    leaving = asyncio.ensure_future(sent.gone())
    try:
        await asyncio.wait((token, leaving), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        # The HTTP server ends, and has time left for a sentence.
        call.stop()
        raise StatusError(UnavailableError("The server is stopping: try another one.").status()) from None
    finally:
        leaving.cancel()
    if not token.done():
        call.cancel(StatusCode.CANCELLED)
        raise StatusError(Status(StatusCode.CANCELLED, "The caller has gone."))
    result = token.result()
    if isinstance(result, Status):
        raise StatusError(result)
    return result


def _serve(method: Method, read: Callable[[], Message], call: Call) -> None:
    method.serve(call, read())
