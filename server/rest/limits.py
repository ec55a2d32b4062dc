"""Limits of the HTTP port: connections, time to receive a request head, header bytes."""

import asyncio
from typing import Any, ClassVar

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_TOO_LARGE = 431


def bounded(head_seconds: float, max_connections: int) -> type[H11Protocol]:
    """The protocol class that uvicorn makes one of for each connection.

    Args:
        head_seconds: time in which the head of a request must have come. Uvicorn itself limits only how long a
            connection may be silent after an answer.
        max_connections: connections at a time; those beyond are closed at once.
    """
    return type("Configured", (Bounded,), {"head_seconds": head_seconds, "max_connections": max_connections})


class Bounded(H11Protocol):
    """Uvicorn's, within limits."""

    head_seconds: ClassVar[float]
    max_connections: ClassVar[int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (uvicorn's own)
        super().__init__(*args, **kwargs)
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] (as in uvicorn)
        """Refuse the caller, or wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.abort()
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the caller."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        """Have the caller's time run, unless it does already or a request is being served."""
        # There is none before the first request, whatever uvicorn's types say.
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._wait_no_more()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


def within(application: ASGIApp, limit_bytes: int) -> ASGIApp:
    """Reject requests with larger headers: the parser checks only heads that arrive in several pieces."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if size <= limit_bytes:
            await application(scope, receive, send)
            return
        refusal = {"error": f"expected headers of {limit_bytes} bytes at most, got {size}: send less"}
        # The body is not read: what comes of it must not be taken for another request.
        await JSONResponse(refusal, _TOO_LARGE, {"connection": "close"})(scope, receive, send)

    return serve
