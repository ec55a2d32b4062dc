"""Limits of the HTTP port: connections, time to receive a request head, header bytes."""

import asyncio
from typing import Any, ClassVar

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_TOO_LARGE = 431


def limited_protocol(head_seconds: float, max_connections: int) -> type[H11Protocol]:
    """The protocol class that uvicorn instantiates for each connection.

    Args:
        head_seconds: time limit for receiving the head of a request. Uvicorn itself limits only how long a connection
            may be idle after an answer.
        max_connections: open connections at a time; further ones are closed at once.
    """
    return type(
        "ConfiguredProtocol", (LimitedProtocol,), {"head_seconds": head_seconds, "max_connections": max_connections}
    )


class LimitedProtocol(H11Protocol):
    """Uvicorn's HTTP protocol with a connection limit and a timeout for request heads."""

    head_seconds: ClassVar[float]
    max_connections: ClassVar[int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (uvicorn's own)
        super().__init__(*args, **kwargs)
        self._timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] (as in uvicorn)
        """Close the connection if there are too many, otherwise start the timeout."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.abort()
        else:
            self._update_timeout()

    def data_received(self, data: bytes) -> None:
        """Receive a part of a request."""
        super().data_received(data)
        self._update_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout."""
        self._stop_timeout()
        super().connection_lost(exc)

    def _update_timeout(self) -> None:
        """Start the timeout unless it runs already; stop it while a request is being served."""
        # None before the first request, despite uvicorn's types.
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._stop_timeout()
        elif self._timeout is None:
            self._timeout = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _stop_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None


def limit_headers(application: ASGIApp, max_bytes: int) -> ASGIApp:
    """Reject requests with larger headers, because the parser checks only heads that arrive in several pieces."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if size <= max_bytes:
            await application(scope, receive, send)
            return
        refusal = {"error": f"expected headers of at most {max_bytes} bytes, got {size}"}
        # The body is not read: the rest of it must not be parsed as another request.
        await JSONResponse(refusal, _TOO_LARGE, {"connection": "close"})(scope, receive, send)

    return serve
