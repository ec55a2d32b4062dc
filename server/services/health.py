"""grpc.health.v1: the empty service, each service, and each model by name."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc import aio
from grpc_health.v1 import health, health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from server.calls.waiting import WaitingCalls
from server.errors import InvalidArgumentError, ServingError
from server.services.stream_limit import StreamLimit

Context: TypeAlias = "aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]"


class HealthService:
    """Check and Watch over statuses that another thread sets.

    grpc_health's own asyncio servicer drops all watchers of a service as soon as one of them disconnects, and a call
    without a message is never answered. Watches need no token, so their number is limited, in all and per connection.
    """

    name = health.SERVICE_NAME

    def __init__(self, max_watches: int, max_connection_watches: int) -> None:
        self._limit = StreamLimit(max_watches, max_connection_watches, "There are too many health watches: end some.")
        self._serving: Mapping[str, bool] = {"": False}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: asyncio.Event
        self._waiting: WaitingCalls

    async def attach(self, loop: asyncio.AbstractEventLoop, server: aio.Server, waiting: WaitingCalls) -> None:
        """Serve on this event loop, as a service of `server`, with its limits of calls that wait for a message."""
        self._loop = loop
        self._waiting = waiting
        self._changed = asyncio.Event()
        # Streams, because these read their message themselves.
        check: grpc.RpcMethodHandler[Any, Any] = grpc.stream_unary_rpc_method_handler(
            self._check,  # pyright: ignore[reportArgumentType] (aio takes coroutines)
            response_serializer=HealthCheckResponse.SerializeToString,
        )
        watch: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
            self._watch,  # pyright: ignore[reportArgumentType] (as above)
            response_serializer=HealthCheckResponse.SerializeToString,
        )
        methods = {"Check": check, "Watch": watch}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(health.SERVICE_NAME, methods)])

    def detach(self) -> None:
        """End the watchers, on the loop: the server would cut them off, and call that an error."""
        self._loop = None
        self._wake()

    def update(self, serving: Mapping[str, bool]) -> None:
        """Replace all statuses, from any thread."""
        self._serving = serving
        # `detach` may take it away meanwhile.
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._wake)

    async def _check(self, _: object, context: Context) -> HealthCheckResponse:
        """Status of one service or model."""
        request = await self._read(context, "Check")
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no service or model {request.service!r}.")
        return HealthCheckResponse(status=self._status(request.service))

    async def _watch(self, _: object, context: Context) -> None:
        """Status of one service or model, now and whenever it changes, until the server closes."""
        request = await self._read(context, "Watch")
        async with self._limit.counted(context):
            await self._send_changes(request.service, context)

    async def _read(self, context: Context, method: str) -> HealthCheckRequest:
        """The request of a call; a call without one is ended."""
        try:
            return _request(await self._waiting.read_only(context, context.peer(), method))
        except ServingError as error:
            await context.abort(error.code, error.message)

    async def _send_changes(self, service: str, context: Context) -> None:
        sent = None
        while True:
            changed = self._changed
            status = self._status(service)
            if status != sent:
                await context.write(HealthCheckResponse(status=status))
                sent = status
            # Not before: the last status is that the server stops serving.
            if self._loop is None:
                break
            await changed.wait()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "The server is stopping: watch another one.")

    def _status(self, service: str) -> HealthCheckResponse.ServingStatus:
        serving = self._serving.get(service)
        if serving is None:
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        return health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _request(payload: bytes) -> HealthCheckRequest:
    try:
        return HealthCheckRequest.FromString(payload)
    except DecodeError as error:
        raise InvalidArgumentError("request", f"expected a HealthCheckRequest: {error}") from error
