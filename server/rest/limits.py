"""Limits of the HTTP port: connections, time to receive a head, header bytes, answers that clients do not read."""

import array
import asyncio
import fcntl
import termios
from typing import Any, ClassVar

import h11
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_BAD_REQUEST = 400
_TOO_LARGE = 431
_TIMEOUT = 408


class UnreadAnswers:
    """The connections whose clients have not read what was sent to them (slow-read protection).

    A connection holds one answer, and the next one if requests are pipelined.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        """Allow `seconds` without a byte read on a connection, and `max_bytes` unread on all of them together."""
        self.seconds = seconds
        self._max_bytes = max_bytes
        # In the order in which they began to wait.
        self._waiting: dict[LimitedProtocol, None] = {}

    def add(self, connection: "LimitedProtocol") -> None:
        """Note that a client does not read; end the connections that have waited longest if too much is unread."""
        self._waiting[connection] = None
        unread = sum(each.unread_bytes for each in self._waiting)
        for each in list(self._waiting):
            if unread <= self._max_bytes:
                break
            unread -= each.unread_bytes
            each.transport.abort()
            self.remove(each)

    def remove(self, connection: "LimitedProtocol") -> None:
        """Note that a client has read, or that its connection has ended."""
        self._waiting.pop(connection, None)


def limited_protocol(head_seconds: float, max_connections: int, unread: UnreadAnswers) -> type[H11Protocol]:
    """The protocol class that uvicorn instantiates for each connection.

    Args:
        head_seconds: time limit for receiving the head of a request. Uvicorn itself limits only how long a connection
            may be idle after an answer.
        max_connections: open connections at a time; further ones are closed at once.
        unread: limits of what clients do not read.
    """
    return type(
        "ConfiguredProtocol",
        (LimitedProtocol,),
        {"head_seconds": head_seconds, "max_connections": max_connections, "unread": unread},
    )


class LimitedProtocol(H11Protocol):
    """Uvicorn's HTTP protocol with a connection limit and timeouts for request heads and for reading answers."""

    head_seconds: ClassVar[float]
    max_connections: ClassVar[int]
    unread: ClassVar[UnreadAnswers]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (uvicorn's own)
        super().__init__(*args, **kwargs)
        self._timeout: asyncio.TimerHandle | None = None
        self._read_check: asyncio.TimerHandle | None = None

    @property
    def unread_bytes(self) -> int:
        """Bytes of answers that wait for the client."""
        return self.transport.get_write_buffer_size()

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

    def pause_writing(self) -> None:
        """Start to watch a client that does not read."""
        super().pause_writing()
        self._watch_reading()
        self.unread.add(self)

    def resume_writing(self) -> None:
        """Stop to watch a client that has read."""
        super().resume_writing()
        self._stop_watching()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeouts."""
        self._stop_timeout()
        self._stop_watching()
        super().connection_lost(exc)

    def _update_timeout(self) -> None:
        """Start the timeout unless it runs already; stop it while a request is being served."""
        # None before the first request, despite uvicorn's types.
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._stop_timeout()
        elif self._timeout is None:
            self._timeout = self.loop.call_later(self.head_seconds, self._end_late_head)

    def _stop_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def _end_late_head(self) -> None:
        """Close the connection, with an answer if part of a head has arrived."""
        arrived, _ = self.conn.trailing_data
        if not arrived or self.conn.our_state is not h11.IDLE:
            self.transport.abort()
            return
        headers = [("content-type", "application/json"), ("connection", "close")]
        body = b'{"error":"The head did not arrive within %g s."}' % self.head_seconds
        for event in (
            h11.Response(
                status_code=_TIMEOUT, headers=[*headers, ("content-length", str(len(body)))], reason=b"Request Timeout"
            ),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch_reading(self) -> None:
        left = self.unread_bytes + _kernel_bytes(self.transport)
        self._read_check = self.loop.call_later(self.unread.seconds, self._check_reading, left)

    def _check_reading(self, before: int) -> None:
        """End the connection if its client has read nothing since there were `before` bytes."""
        if self.unread_bytes + _kernel_bytes(self.transport) >= before:
            self.transport.abort()
        else:
            self._watch_reading()

    def _stop_watching(self) -> None:
        self.unread.remove(self)
        if self._read_check is not None:
            self._read_check.cancel()
            self._read_check = None


def _kernel_bytes(transport: asyncio.Transport) -> int:
    """Bytes in the socket's own buffer, of megabytes: it takes more only when a third of it is free."""
    size = array.array("i", [0])
    fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, size)
    return size[0]


def refuse_ambiguous(application: ASGIApp, max_header_bytes: int) -> ASGIApp:
    """Refuse requests with larger headers, and those whose end is given in two ways, and close their connections.

    The parser checks the size only of heads that arrive in several pieces, and of two ways prefers one; a proxy that
    prefers the other takes the body's end for another request (RFC 9112, 6.1: request smuggling).
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        size = sum(len(name) + len(value) for name, value in headers)
        if size > max_header_bytes:
            status, refusal = _TOO_LARGE, f"expected headers of at most {max_header_bytes} bytes, got {size}"
        elif {name for name, _ in headers} >= {b"content-length", b"transfer-encoding"}:
            status, refusal = _BAD_REQUEST, "expected either Content-Length or Transfer-Encoding, got both"
        else:
            await application(scope, receive, send)
            return
        # The body is not read: the rest of it must not be parsed as another request.
        await JSONResponse({"error": refusal}, status, {"connection": "close"})(scope, receive, send)

    return serve
