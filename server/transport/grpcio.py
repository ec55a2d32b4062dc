"""grpcio transport: grpc.aio on its own thread; also serves what the native transport cannot."""

import asyncio
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from grpc import aio

from server.batching.gather import GatherPolicy
from server.calls.call import Call
from server.calls.streaming import StreamMethod
from server.calls.waiting import WaitingCalls
from server.config import ConnectionConfig
from server.endpoint import LOAD_REPORT_KEY, Endpoint, Method
from server.errors import OverloadedError, ServingError, Status
from server.transport import AttachedService, BindError
from server.transport.connections.acceptor import Acceptor
from server.transport.connections.external import ExternalListener
from server.transport.connections.listeners import listen_at, port_of, release
from server.transport.connections.open_connections import OpenConnections
from server.transport.connections.probe import Probe
from server.transport.event_loop import Drain, LoopReplies, Pending, resolve
from server.transport.grpcio_handlers import Handlers
from server.transport.grpcio_options import options
from server.transport.grpcio_stream import StreamHandler
from server.transport.reflection import add_reflection
from server.transport.tls import Certificates
from server.transport.unix_socket import is_served, unix_socket
from server.transport.unsent import UnsentAnswers

_Context: TypeAlias = "aio.ServicerContext[bytes, bytes]"
_CLOSE_SECONDS = 1.0
# An open call takes about as much as a smaller answer, and the calls of a connection are limited by number.
_SMALL_BYTES = 4096
_GATHER = GatherPolicy()
_FOLDER_PREFIX = "hourglass-"
_SOCKET_NAME = "grpc.sock"
_STALE_SECONDS = 10.0


class GrpcioTransport:
    """Serves every method, health and reflection; without an address, on a Unix socket in a temporary folder."""

    name = "grpcio"

    def __init__(
        self,
        endpoint: Endpoint,
        attached: Sequence[AttachedService],
        address: str | None,
        limits: ConnectionConfig,
        certificates: Certificates | None,
        *,
        reflection: bool,
    ) -> None:
        self._endpoint = endpoint
        self._load_report = endpoint.load_report
        self._limits = limits
        self._certificates = certificates
        self._attached = attached
        self._address = address
        self._socket = unix_socket(address)
        self._reflection = reflection
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="grpcio")
        self._port: Future[int] = Future()
        # All callers of the native transport share one connection to this one, and those of a Unix socket one name.
        shared = address is None or self._socket is not None
        own = limits.max_unsent_bytes if shared else limits.max_connection_unsent_bytes
        most = limits.max_connections
        self._connections = OpenConnections(most, limits.max_address_connections or max(most * 3 // 4, 1))
        self._unsent = UnsentAnswers(own, limits.max_unsent_bytes, self._connections.end)
        self._waiting = WaitingCalls(limits.first_message_seconds, limits.max_waiting_calls)
        self._streams: set[StreamHandler] = set()
        self._calls: set[Call] = set()
        self._external = ExternalListener("connections")
        self._probes = ExternalListener("probes")
        self._acceptor: Acceptor | None = None
        # These exist once the loop runs.
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._replies: LoopReplies[Pending, bytes | Status]
        self._drain: Drain

    @property
    def socket_path(self) -> str:
        """The Unix socket, when it has no address."""
        assert self._folder is not None  # noqa: S101 (only called after start)
        return str(Path(self._folder.name) / _SOCKET_NAME)

    def start(self) -> int:
        """Listen, and return the port."""
        if self._address is None:
            self._folder = _make_folder()
        if self._socket is not None:
            self._socket.claim()
        self._thread.start()
        return self._port.result()

    def close(self) -> None:
        """Stop listening and end the calls that are left."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._folder is not None:
            self._folder.cleanup()
        if self._socket is not None:
            self._socket.remove()

    def send_all(self, answers: Sequence[tuple[Pending, bytes]]) -> None:
        """Answer calls."""
        self._replies.put(answers)

    def fail(self, token: Pending, status: Status) -> None:
        """End a call with a status."""
        self._replies.put([(token, status)])

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._replies = LoopReplies(resolve)
        self._drain = Drain(self._endpoint.run_ready, _GATHER)
        limits = options(self._limits, self._endpoint.max_message_bytes, lasting=self._address is None)
        limits += [self._external.option, self._probes.option]
        server = aio.server(options=limits)
        try:
            port = await self._listen(server)
        except Exception as error:  # noqa: BLE001 (start raises it)
            self._port.set_exception(error)
            return
        self._port.set_result(port)
        await self._stop.wait()
        for service in self._attached:
            service.detach()
        self._waiting.stop()
        for stream in self._streams:
            stream.stop()
        for call in list(self._calls):
            call.stop()
        if self._acceptor is not None:
            self._acceptor.close()
        await server.stop(_CLOSE_SECONDS)

    async def _listen(self, server: aio.Server) -> int:
        for service in self._attached:
            await service.attach(self._loop, server, self._waiting)
        if self._reflection:
            add_reflection(server, self._endpoint, self._waiting, [service.name for service in self._attached])
        # Added last, because it handles every path.
        handlers = Handlers(self._unary, self._stream, self._refused, self._endpoint)
        server.add_generic_rpc_handlers([handlers])
        if self._address is None:
            self._bind(server, f"unix:{self.socket_path}")
            await server.start()
            return 0
        listeners = listen_at(self._address)
        self._bind(server, self._external.address)
        server.add_insecure_port(self._probes.address)
        if not (self._external.usable() and self._probes.usable()):
            # Another build of grpc: it accepts connections itself, without the limits of the acceptor.
            address = release(listeners, self._address)
            port = self._bind(server, address)
            await server.start()
            return port
        await server.start()
        self._start_acceptor(listeners, handlers)
        return port_of(listeners[0])

    def _start_acceptor(self, listeners: Sequence[socket.socket], handlers: Handlers) -> None:
        probe = Probe(self._probes.give)
        self._acceptor = Acceptor(listeners, self._external.give, self._connections, probe, handlers.begun)
        handlers.expect(probe.path, self._acceptor.came_through)
        self._acceptor.start()

    def _bind(self, server: aio.Server, address: str) -> int:
        try:
            if self._certificates is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, self._certificates.credentials())
        except RuntimeError as error:
            raise BindError(f"cannot listen on {address}: {error}") from error

    async def _unary(self, method: Method, context: _Context) -> bytes:
        peer = context.peer()
        try:
            payload: bytes = await self._waiting.read_only(context, peer, method.name)
        except ServingError as error:
            return await self._refused(method.path, error, context)
        token: Pending = self._loop.create_future()
        call = self._open(method.name, context, token, peer)
        try:
            self._unsent.check(peer)
        except OverloadedError as error:
            call.fail(error)
        else:
            self._endpoint.accept(call, method, payload)
            self._drain.add_call()
        return await self._finish(call, token, context)

    async def _stream(self, method: StreamMethod, context: _Context) -> None:
        most = self._limits.max_stream_requests
        stream = StreamHandler(method, self._endpoint, context, self._drain, most, self._unsent, self._waiting)
        self._streams.add(stream)
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)

    async def _refused(self, path: str, error: ServingError, context: _Context) -> bytes:
        token: Pending = self._loop.create_future()
        call = self._open(self._endpoint.label(path), context, token, context.peer())
        call.fail(error)
        return await self._finish(call, token, context)

    def _open(self, method: str, context: _Context, token: Pending, peer: str) -> Call:
        metadata: Any = context.invocation_metadata() or ()
        call = self._endpoint.open(method, context.time_remaining(), metadata, peer, self, token)
        self._calls.add(call)
        return call

    async def _finish(self, call: Call, token: Pending, context: _Context) -> bytes:
        try:
            result = await token
        except asyncio.CancelledError:
            late = time.monotonic() >= call.deadline
            call.cancel(grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED)
            raise
        finally:
            self._calls.discard(call)
        if isinstance(result, bytes):
            refusal = self._hold(len(result), context)
            if refusal is None:
                if self._load_report is not None:
                    context.set_trailing_metadata(((LOAD_REPORT_KEY, self._load_report()),))
                return result
            result = refusal
        context.set_code(result.code)
        context.set_details(result.message)
        if result.details is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", result.details),))
        return b""

    def _hold(self, size_bytes: int, context: Any) -> Status | None:  # noqa: ANN401 (its stub asks for names)
        """Count an answer until it is sent; the status instead of it if too much is unsent."""
        if size_bytes < _SMALL_BYTES:
            return None
        # The connection, whoever has called through it.
        peer = context.peer()
        try:
            held = self._unsent.add(peer, size_bytes)
        except OverloadedError as error:
            return error.status()
        # The call ends once its answer is sent.
        context.add_done_callback(partial(self._sent, peer, held))
        return None

    def _sent(self, peer: str, size_bytes: int, _: object) -> None:
        self._unsent.remove(peer, size_bytes)


def _make_folder() -> "tempfile.TemporaryDirectory[str]":
    _remove_stale_folders()
    try:
        return tempfile.TemporaryDirectory(prefix=_FOLDER_PREFIX)
    except OSError as error:
        raise BindError(f"expected a writable directory for a socket in TMPDIR or /tmp: {error}") from error


def _remove_stale_folders() -> None:
    """Remove the folders of servers that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*/{_SOCKET_NAME}"):
        with suppress(OSError):
            # A new one may not listen yet.
            if time.time() - path.lstat().st_mtime > _STALE_SECONDS and not is_served(path):
                shutil.rmtree(path.parent)
