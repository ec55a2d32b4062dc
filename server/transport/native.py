"""Native gRPC transport: pygrpc-native does HTTP/2 and gRPC outside the GIL and delivers calls in batches."""

import logging
import threading
import time
from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

from grpc import StatusCode
from pygrpc_native import EVENT_CALL, NativeGrpcFront

from server.batching.gather import GatherPolicy
from server.config import Config
from server.endpoint import LOAD_REPORT_KEY, Endpoint, Method
from server.errors import Status
from server.runtime.cpu import cores
from server.runtime.scheduling import DeferredWakeUps
from server.transport import BindError
from server.transport.grpcio import GrpcioTransport
from server.transport.unix_socket import unix_socket

if TYPE_CHECKING:
    from pygrpc_native._native import DetailedEvent

    from server.calls.call import Call

_LOGGER = logging.getLogger(__name__)
_MAX_EVENTS = 256
_GATHER = GatherPolicy()
# The native side measures the remaining time of a deadline slightly earlier than this module.
_CLOCK_SLACK_SECONDS = 0.005
_KEEPALIVE_TIMEOUT_MS = 20_000
# Answers handed to the native side are sent a little later.
_FLUSH_SECONDS = 0.1
# With fewer answers, that the first is sent early matters more than that all are sent together.
_MANY_ANSWERS = 8
IO_THREADS = "grpc-native-io"
"""Name that the native side gives its I/O threads."""


class NativeTransport:
    """Serves unary methods itself; forwards streams, health and reflection to a grpcio server."""

    name = "native"

    def __init__(self, endpoint: Endpoint, fallback: GrpcioTransport, address: str, config: Config) -> None:
        self._endpoint = endpoint
        self._load_report = endpoint.load_report
        self._fallback = fallback
        self._address = address
        self._socket = unix_socket(address)
        self._config = config
        self._methods: list[Method] = list(endpoint.methods.values())
        self._calls: dict[int, Call] = {}
        self._answers: list[tuple[int, bytes]] = []
        self._dispatch_thread = 0
        # On one core spinning would block the threads it waits for.
        self._spin_seconds = config.spin_microseconds / 1e6 if cores() > 1 else 0.0
        self._front: NativeGrpcFront
        self._thread = threading.Thread(target=self._dispatch, name="dispatch")

    def start(self) -> int:
        """Listen, and return the port."""
        if self._socket is not None:
            self._socket.claim()
        try:
            self._front = NativeGrpcFront(
                self._address,
                [(method.path, False) for method in self._methods],
                io_threads=self._config.io_threads or _default_io_threads(),
                call_details=True,
                keepalive_timeout_ms=_KEEPALIVE_TIMEOUT_MS,
                max_concurrent_streams=self._config.max_concurrent_streams,
                max_metadata_size=self._config.max_header_bytes,
            )
        except OSError as error:
            raise BindError(f"cannot listen on {self._address}: {error}") from error
        try:
            self._fallback.start()
        except BaseException:
            self._front.close()
            raise
        self._front.set_fallback(self._fallback.socket_path)
        self._front.start()
        self._thread.start()
        return self._front.bound_port

    def close(self) -> None:
        """Stop listening and end the calls that are left."""
        # Streams run through the front, so they end first.
        self._fallback.close()
        for call in list(self._calls.values()):
            call.stop()
        # Also of calls that have just ended: they count as answered before their answers are handed over.
        time.sleep(_FLUSH_SECONDS)
        self._front.close()
        self._thread.join()
        if self._socket is not None:
            self._socket.remove()

    def send_all(self, answers: Sequence[tuple[int, bytes]]) -> None:
        """Answer calls."""
        if threading.get_ident() == self._dispatch_thread:
            # The answers of a round are sent together: this wakes the I/O threads once, and fills their packets.
            self._answers += answers
        else:
            self._respond(answers)

    def fail(self, token: int, status: Status) -> None:
        """End a call with a status."""
        self._calls.pop(token, None)
        trailers = None if status.details is None else [("grpc-status-details-bin", status.details)]
        self._front.fail(token, status.number, status.message, trailers)

    def _dispatch(self) -> None:
        self._dispatch_thread = threading.get_ident()
        more = False
        while (events := self._front.recv_batch_details(_MAX_EVENTS, 0) if more else self._wait()) is not None:
            self._take_all(events)
            for _ in range(_GATHER.extra_receives):
                self._take_all(self._front.recv_batch_details(_MAX_EVENTS, 0) or [])
            more = self._endpoint.run_ready()
            self._respond_all()

    @cached_property
    def _deferred(self) -> DeferredWakeUps:
        """Those of the I/O threads, which by the time of many answers have all started and named themselves."""
        return DeferredWakeUps(IO_THREADS)

    def _wait(self) -> "list[DetailedEvent] | None":
        """The next events, or None at the end. Polls before it sleeps, because waking up takes longer (spin-wait)."""
        receive, until = self._front.recv_batch_details, time.monotonic() + self._spin_seconds
        while time.monotonic() < until:
            if events := receive(_MAX_EVENTS, 0):
                return events
        return receive(_MAX_EVENTS, None)

    def _take_all(self, events: "list[DetailedEvent]") -> None:
        now = time.monotonic()
        for event in events:
            try:
                self._take(event, now)
            except Exception as error:
                # No error may end this thread: there is no other.
                _LOGGER.exception("an event of the native transport failed")
                self._fail_call(event[1], error)
        # Otherwise the events, of any size, would be kept in memory until the next call.
        events.clear()

    def _respond_all(self) -> None:
        answers, self._answers = self._answers, []
        if len(answers) < _MANY_ANSWERS:
            self._respond(answers)
            return
        # The first answer wakes an I/O thread, which would stop this thread to send that answer alone.
        with self._deferred:
            self._respond(answers)

    def _fail_call(self, token: int, error: Exception) -> None:
        call = self._calls.get(token)
        if call is not None:
            call.fail(error)

    def _respond(self, answers: Sequence[tuple[int, bytes]]) -> None:
        calls, respond = self._calls, self._front.respond
        if self._load_report is not None:
            respond = partial(respond, trailing_metadata=[(LOAD_REPORT_KEY, self._load_report())])
        for token, payload in answers:
            calls.pop(token, None)
            try:
                respond(token, payload)
            except Exception:
                _LOGGER.exception("failed to send an answer")

    def _take(self, event: "DetailedEvent", now: float) -> None:
        kind, token, method_id, payload, _, details = event
        if kind != EVENT_CALL or payload is None or details is None:
            self._cancel(token)
            return
        metadata, peer, seconds_left = details
        method = self._methods[method_id]
        # Added before it is answered, because answering removes it.
        call = self._calls[token] = self._endpoint.open(method.name, seconds_left, metadata, peer, self, token, now)
        refusal = self._endpoint.refusal(method.path, metadata)
        if refusal is None:
            self._endpoint.accept(call, method, payload)
        else:
            call.fail(refusal)

    def _cancel(self, token: int) -> None:
        call = self._calls.pop(token, None)
        if call is not None:
            late = time.monotonic() >= call.deadline - _CLOCK_SLACK_SECONDS
            call.cancel(StatusCode.DEADLINE_EXCEEDED if late else StatusCode.CANCELLED)


def _default_io_threads() -> int:
    """Half the cores, because graphs and clients need the rest; 4 at most, because one thread takes all calls."""
    return min(max(cores() // 2, 1), 4)
