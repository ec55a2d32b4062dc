"""grpc.health.v1: the empty service, each service, and each model by name."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeAlias

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

Context: TypeAlias = "aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]"


class HealthService(health_pb2_grpc.HealthServicer):
    """Check and Watch over statuses that another thread sets.

    grpc_health's own asyncio servicer drops all watchers of a service as soon as one of them disconnects.
    """

    def __init__(self) -> None:
        self._serving: Mapping[str, bool] = {"": False}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: asyncio.Event

    async def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve on this event loop."""
        self._loop = loop
        self._changed = asyncio.Event()

    def detach(self) -> None:
        """End the watchers, on the loop: the server would cut them off, and call that an error."""
        self._loop = None
        self._wake()

    def update(self, serving: Mapping[str, bool]) -> None:
        """Replace all statuses, from any thread."""
        self._serving = serving
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    async def Check(  # noqa: N802 (the RPC's name)
        self, request: HealthCheckRequest, context: Context
    ) -> HealthCheckResponse:
        """Status of one service or model."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no service or model {request.service!r}.")
        return HealthCheckResponse(status=self._status(request.service))

    async def Watch(  # noqa: N802 (the RPC's name)
        self, request: HealthCheckRequest, context: Context
    ) -> None:
        """Status of one service or model, now and whenever it changes, until the server closes."""
        sent = None
        while self._loop is not None:
            changed = self._changed
            status = self._status(request.service)
            if status != sent:
                await context.write(HealthCheckResponse(status=status))
                sent = status
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
