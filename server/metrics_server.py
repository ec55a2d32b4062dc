"""Metrics server: HTTP server of /metrics for Prometheus, /livez and /readyz for probes."""

import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6, SHUT_RDWR, socket
from socketserver import TCPServer
from typing import Any

from prometheus_client import CollectorRegistry

from server.metrics.page import MetricsPage
from server.models.readiness import ReadinessCheck
from server.transport import BindError

_LOGGER = logging.getLogger(__name__)
_POLL_SECONDS = 0.1
_PLAIN = "text/plain; charset=utf-8"
MAX_CONNECTIONS = 64
"""Each connection has a thread; only a few scrapers and probes are expected."""
_NO_FILES_SECONDS = 0.1


class MetricsServer:
    """A small HTTP server on its own threads."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, readiness: ReadinessCheck) -> None:
        self._address = (host, port)
        self._page = MetricsPage(registry)
        self._readiness = readiness
        self._server: ThreadingHTTPServer

    def start(self) -> int:
        """Listen, and return the port.

        Raises:
            BindError: the address is in use or does not belong to this machine.
        """
        host, port = self._address
        try:
            self._server = (_HttpServer6 if ":" in host else _HttpServer)(self._address, _handler(self.respond))
        except OSError as error:
            raise BindError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        # `close` waits for a poll; the default is half a second.
        threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,), name="metrics", daemon=True).start()
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def respond(self, path: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, content type and body for a path."""
        if path == "/metrics":
            return HTTPStatus.OK, *self._page.write(accept)
        if path == "/livez":
            return HTTPStatus.OK, _PLAIN, b"live\n"
        if path == "/readyz":
            answer = self._readiness.check()
            status = HTTPStatus.OK if answer.ready else HTTPStatus.SERVICE_UNAVAILABLE
            return status, _PLAIN, f"{answer.reason}\n".encode()
        return HTTPStatus.NOT_FOUND, _PLAIN, b"try /metrics, /livez or /readyz\n"


def _handler(respond: Callable[[str, str], tuple[HTTPStatus, str, bytes]]) -> type[BaseHTTPRequestHandler]:
    """A handler class for http.server that calls one function."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # A silent client must not hold a thread forever.
        timeout = 30

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            try:
                status, content_type, body = respond(path, self.headers.get("Accept", ""))
            except Exception:
                # The log must hold the reason for a failed probe.
                _LOGGER.exception("failed to answer %s", path)
                status, content_type, body = HTTPStatus.INTERNAL_SERVER_ERROR, _PLAIN, b"internal error: see the log\n"
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 (http.server's name)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
            """Do not log probes and scrapes."""

    return Handler


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    # Fail if the port is in use.
    allow_reuse_port = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._lock = threading.Lock()
        # Open connections, oldest first.
        self._open: dict[Any, None] = {}

    def get_request(self) -> tuple[socket, Any]:
        """Accept a connection; pause after a failure such as no free file descriptor, which would repeat at once."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_NO_FILES_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 (socketserver's types)
        """Serve a connection; above the limit, close the oldest one, so that a probe always gets through."""
        with self._lock:
            self._open[request] = None
            oldest = next(iter(self._open)) if len(self._open) > MAX_CONNECTIONS else None
            self._open.pop(oldest, None)
        if oldest is not None:
            # Its thread then reads the end of the stream and closes the connection.
            with suppress(OSError):
                oldest.shutdown(SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 (as above)
        """Close a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log failures at debug level, because most are scrapers that disconnected; the default prints them."""
        del request
        _LOGGER.debug("a request of %s to the metrics port failed", client_address, exc_info=sys.exc_info())

    def server_bind(self) -> None:
        # HTTPServer.server_bind would look up the host name in DNS.
        TCPServer.server_bind(self)


class _HttpServer6(_HttpServer):
    address_family = AF_INET6
