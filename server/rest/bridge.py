"""Bridge between the HTTP server's event loop and the endpoint: one call per request, as from a transport."""

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
from server.transport.event_loop import Drain, LoopReplies, Pending, resolve


@dataclass(frozen=True)
class Body:
    """The body of a request."""

    read: Callable[[], Message]
    """Makes the request's message, or raises the error in it."""
    size_bytes: int = 0
    bytes_to_parse: int = 0
    """Of these, the JSON."""


@dataclass(frozen=True)
class IncomingRequest:
    """An HTTP request, with a body that is not read yet."""

    receive: Callable[[], Awaitable[Body]]
    """Reads the body, or raises why it cannot be read; called only if the caller is authorised."""
    metadata: Metadata
    peer: str
    disconnected: Callable[[], Awaitable[None]]
    """Returns when the client has disconnected."""


class StatusError(Exception):
    """A call ended with a status other than OK."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class Bridge:
    """Calls unary methods for HTTP requests."""

    def __init__(self, endpoint: Endpoint, body_seconds: float) -> None:
        """Call an endpoint; a body must arrive within `body_seconds`."""
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

    def methods(self, service: str) -> list[str]:
        """Names of the unary methods of a service."""
        return [method.name for path, method in self._endpoint.methods.items() if path.startswith(f"/{service}/")]

    async def call(self, service: str, method: str, request: IncomingRequest) -> bytes:
        """The serialised response of a method.

        Raises:
            StatusError: the call failed.
        """
        path = f"/{service}/{method}"
        # Checked before the body is read, so that an unauthorised call costs no memory.
        refusal = self._endpoint.refusal(path, request.metadata)
        body: Body | None = None
        if refusal is None:
            try:
                body = await self._receive(request)
            except ServingError as error:
                # Its traceback holds this frame, which holds it: only the garbage collector would free both.
                refusal = error.with_traceback(None)
        token: Pending = asyncio.get_running_loop().create_future()
        # As over gRPC, a call begins when its message has arrived.
        call = self._endpoint.open(method, None, request.metadata, request.peer, self, token)
        # The server may have begun to stop in the meantime.
        refusal = refusal or self._endpoint.refusal(path, request.metadata)
        if body is None or refusal is not None:
            assert refusal is not None  # noqa: S101 (otherwise there is a body)
            call.fail(refusal)
        else:
            serve = partial(_serve, self._endpoint.methods[path], body.read)
            self._endpoint.accept_parsed(call, serve, body.size_bytes, body.bytes_to_parse)
            self._drain.add_call()
        return await _outcome(call, token, request)

    async def _receive(self, request: IncomingRequest) -> Body:
        try:
            async with asyncio.timeout(self._body_seconds):
                return await request.receive()
        except TimeoutError:
            raise DeadlineError(f"The body did not arrive within {self._body_seconds:g} s.") from None

    def send_all(self, answers: Sequence[tuple[Pending, bytes]]) -> None:
        """Pass on answers, from any thread."""
        self._replies.put(answers)

    def fail(self, token: Pending, status: Status) -> None:
        """Pass on a failure, from any thread."""
        self._replies.put([(token, status)])


async def _outcome(call: Call, token: Pending, request: IncomingRequest) -> bytes:
    """The response; the call ends early if the client disconnects or the HTTP server stops."""
    disconnecting = asyncio.ensure_future(request.disconnected())
    try:
        await asyncio.wait((token, disconnecting), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        # The HTTP server is stopping, with time left to send an error.
        call.stop()
        raise StatusError(UnavailableError("The server is stopping: try another one.").status()) from None
    finally:
        disconnecting.cancel()
    if not token.done():
        call.cancel(StatusCode.CANCELLED)
        raise StatusError(Status(StatusCode.CANCELLED, "The client disconnected."))
    result = token.result()
    if isinstance(result, Status):
        raise StatusError(result)
    return result


def _serve(method: Method, read: Callable[[], Message], call: Call) -> None:
    method.serve(call, read())
