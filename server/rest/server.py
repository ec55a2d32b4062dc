"""HTTP server of the REST API: uvicorn on its own thread."""

import asyncio
import errno
import logging
import socket
import threading
from functools import partial
from typing import Any

import uvicorn

from server.config import Config
from server.endpoint import Endpoint
from server.rest.app import application
from server.rest.bridge import Bridge
from server.rest.limits import UnreadAnswers, limited_protocol, refuse_ambiguous
from server.rest.views import Views
from server.transport import BindError
from server.transport.tls import Certificates

_LOGGER = logging.getLogger(__name__)
_BACKLOG = 1024
_NO_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_LINE_SECONDS = 1.0
_CLOSE_SECONDS = 1
_CERTIFICATE_CHECK_SECONDS = 1.0


class LoopErrors:
    """Logs errors of an event loop: one line a second if no file is left to accept a connection, others in full."""

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error; asyncio reports each connection of the backlog that it could not accept."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _NO_RESOURCES):
            loop.default_exception_handler(context)
        elif loop.time() >= self._quiet_until:
            self._quiet_until = loop.time() + _LINE_SECONDS
            _LOGGER.error("the HTTP port cannot accept connections: %s; raise the limit of open files", error.strerror)


class Loop(asyncio.SelectorEventLoop):
    """An event loop with a timeout for TLS handshakes; the default is a minute, which uvicorn cannot change."""

    def __init__(self, handshake_seconds: float) -> None:
        super().__init__()
        self._handshake_seconds = handshake_seconds

    async def create_server(self, *args: Any, **kwargs: Any) -> asyncio.Server:  # noqa: ANN401 (asyncio's signature)
        """Listen."""
        seconds = self._handshake_seconds if kwargs.get("ssl") else None
        return await super().create_server(*args, **kwargs, ssl_handshake_timeout=seconds)


class RestServer:
    """Serves HTTP, with the endpoint and certificates of the gRPC port."""

    def __init__(self, config: Config, endpoint: Endpoint, certificates: Certificates | None, views: Views) -> None:
        self._config = config
        self._views = views
        self._certificates = certificates
        self._bridge = Bridge(endpoint, config.rest_body_seconds)
        self._server: uvicorn.Server
        self._socket: socket.socket
        self._thread = threading.Thread(target=self._run, name="rest")

    def start(self) -> int:
        """Listen, and return the port.

        Raises:
            BindError: the address is in use or does not belong to this machine.
        """
        config = self._config
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        # With its protocol named, asyncio sets TCP_NODELAY on its connections: else an answer on one that is kept open
        # waits 40 ms for an acknowledgement.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((config.host, config.rest_port or 0))
        except OSError as error:
            self._socket.close()
            raise BindError(f"cannot listen on {config.host}:{config.rest_port}: {error.strerror}") from error
        self._socket.listen(_BACKLOG)
        self._server = uvicorn.Server(self._uvicorn_config())
        self._thread.start()
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Stop listening and end the calls that are left."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=partial(Loop, self._config.rest_head_seconds)) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._bridge.start()
        asyncio.get_running_loop().set_exception_handler(LoopErrors())
        reloading = asyncio.create_task(self._reload_certificates())
        try:
            await self._server.serve([self._socket])
        finally:
            reloading.cancel()

    async def _reload_certificates(self) -> None:
        """Reload changed certificates: unlike gRPC, asyncio does not check before a handshake."""
        if self._certificates is None:
            return
        watch = self._certificates.watch()
        while True:
            await asyncio.sleep(_CERTIFICATE_CHECK_SECONDS)
            if self._server.config.ssl is not None:
                self._certificates.renew(self._server.config.ssl, watch)

    def _uvicorn_config(self) -> uvicorn.Config:
        config = self._config
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        return uvicorn.Config(
            refuse_ambiguous(application(self._bridge, config, self._views), config.max_header_bytes),
            loop="asyncio",
            http=limited_protocol(
                config.rest_head_seconds,
                config.max_connections,
                UnreadAnswers(config.rest_write_seconds, config.rest_unread_bytes),
            ),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # By default uvicorn believes x-forwarded-for of any caller on this machine; here --trusted-proxies decides.
            proxy_headers=False,
            timeout_graceful_shutdown=_CLOSE_SECONDS,
            h11_max_incomplete_event_size=config.max_header_bytes,
            ssl_certfile=config.tls_certificate,
            ssl_keyfile=str(config.tls_key) if config.tls_key else None,
            ssl_ca_certs=str(config.tls_client_ca) if config.tls_client_ca else None,
            ssl_cert_reqs=_client_certificates(config),
        )


def _client_certificates(config: Config) -> int:
    import ssl  # noqa: PLC0415 (needed only with TLS)

    return ssl.CERT_REQUIRED if config.tls_client_ca else ssl.CERT_NONE
