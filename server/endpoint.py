"""Between transports and services (middleware): counts calls, checks rights, deserialises requests, submits rows."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from server.addresses import TrustedProxies
from server.batching.executor import Executor
from server.calls.auth import Right, TokenAuth
from server.calls.call import FOREVER, Call, Metadata, Replies, Token
from server.calls.observer import CallObserver
from server.calls.streaming import StreamMethod
from server.codec.prescan import LIGHT_BYTES, Prescan
from server.errors import (
    InvalidArgumentError,
    OverloadedError,
    PermissionDeniedError,
    ServingError,
    TooLargeError,
    UnavailableError,
    UnimplementedError,
)
from server.parse_cache import ParseCache, Ready

# Copying and checking this much takes about as long as a small batch; larger messages go to another thread.
_HEAVY_BYTES = 512 * 1024
LOAD_REPORT_KEY = "endpoint-load-metrics-bin"
"""Metadata of an ORCA load report (gRFC A51)."""
_STOPPING = "The server is stopping: try another one, or this one again later."


@dataclass(frozen=True)
class Method:
    """One unary RPC: how its request is parsed and handled.

    `handle` returns a request that is ready to be submitted; or it answers the call now or later, from any thread, and
    returns None; or it raises.
    """

    name: str
    path: str
    parse: Callable[[bytes], Any]
    handle: Callable[[Call, Any], Ready | None]
    right: Right | None = "inference"
    """What the caller's token must grant; None for health checks, which need no token."""
    cache: ParseCache | None = None
    """For methods whose requests carry rows of a graph as bytes."""
    prescan: Prescan | None = None
    """For methods whose requests may be large."""

    def serve(self, call: Call, request: Any) -> None:  # noqa: ANN401 (the message of the method)
        """Serve a request that is parsed already: answer it, or submit its rows."""
        ready = self.handle(call, request)
        if ready is not None:
            prepared, served, data = ready
            prepared.submit(call, served, data, time.monotonic())


class Endpoint:
    """Everything between the transports and the services."""

    proxies: TrustedProxies | None = None
    """Whose word is taken for who calls."""
    load_report: Callable[[], bytes] | None = None
    """The load now, for the trailers of answers; None if they carry none."""

    def __init__(
        self,
        methods: Iterable[Method | StreamMethod],
        declared: Iterable[str],
        executor: Executor,
        observer: CallObserver,
        auth: TokenAuth,
        max_message_bytes: int,
        *,
        model_control: bool,
    ) -> None:
        every = list(methods)
        self.methods = {method.path: method for method in every if isinstance(method, Method)}
        self.streams = {method.path: method for method in every if isinstance(method, StreamMethod)}
        self.max_message_bytes = max_message_bytes
        self._executor = executor
        self._observer = observer
        self._finished = observer.finished
        self._auth = auth
        self._model_control = model_control
        self._draining = False
        self._declared = frozenset(declared)
        # Paths that need no check at all.
        self._free = frozenset[str]() if auth.required else frozenset(m.path for m in every if m.right != "admin")

    def open(
        self,
        method: str,
        seconds_left: float | None,
        metadata: Metadata,
        peer: str,
        replies: Replies,
        token: Token,
        now: float | None = None,
    ) -> Call:
        """Begin a call of a `peer`, scheme:host:port: from now on it is counted, and it must end."""
        if now is None:
            now = time.monotonic()
        deadline = FOREVER if seconds_left is None else now + seconds_left
        call = Call(method, now, deadline, metadata, replies, token, self._finished)
        call.peer = peer if self.proxies is None else self.proxies.peer(peer, metadata)
        if self._auth.required:
            call.bearer = self._auth.bearer(metadata)
        self._observer.started(call)
        return call

    def refusal(self, path: str, metadata: Metadata) -> ServingError | None:
        """Why a call cannot be served, whatever its request says; None if it can."""
        if path in self._free:
            return None
        method = self.methods.get(path) or self.streams.get(path)
        if method is None:
            return UnimplementedError(f"This server has no method {path}.")
        if method.right is None:
            return None
        return UnavailableError(_STOPPING) if self._draining else self._forbidden(method.right, metadata)

    def _forbidden(self, right: Right, metadata: Metadata) -> ServingError | None:
        refusal = self.unauthorised(right, metadata)
        if refusal is None and right == "admin" and not self._model_control:
            return PermissionDeniedError(
                "Models are not loaded and unloaded on request here: the server needs --admin-port or --model-control."
            )
        return refusal

    def unauthorised(self, right: Right, metadata: Metadata) -> ServingError | None:
        """Why a caller lacks a right; None if its token grants it."""
        try:
            self._auth.check(metadata, right)
        except ServingError as error:
            return error
        return None

    def accept(self, call: Call, method: Method, payload: bytes) -> None:
        """Serve a call that `refusal` did not refuse; the caller must call `run_ready` soon after."""
        size, cache = len(payload), method.cache
        if size > self.max_message_bytes:
            call.fail(TooLargeError(size, self.max_message_bytes))
            return
        known = None if cache is None else cache.find(call, payload)
        if known is not None:
            self._submit(call, known)
        elif size > LIGHT_BYTES and _is_heavy(size, _bytes_to_parse(method, payload)):
            self._offload(call, partial(self._parse_large, call, method, payload), size)
        else:
            self._parse(call, method, payload)

    def accept_parsed(self, call: Call, serve: Callable[[Call], None], size_bytes: int, bytes_to_parse: int) -> None:
        """As `accept`, for a request that `serve` parses itself: its size, and that without the bytes of rows."""
        if _is_heavy(size_bytes, bytes_to_parse):
            self._offload(call, partial(_guarded, serve, call), size_bytes)
        else:
            _guarded(serve, call)

    def label(self, path: str) -> str:
        """Name of a path in the metrics, "unknown" for undeclared ones: callers must not be able to create labels."""
        method = path.rpartition("/")[2]
        return method if path in self._declared else "unknown"

    def run_ready(self) -> bool:
        """Run the batches that accepted calls have queued for this thread; true when there are more."""
        return self._executor.run_ready()

    def drain(self) -> None:
        """Refuse calls from now on."""
        self._free = frozenset[str]()
        self._draining = True

    def _offload(self, call: Call, job: Callable[[], None], size_bytes: int) -> None:
        try:
            self._executor.offload(job, size_bytes, call.caller)
        except OverloadedError as error:
            call.fail(error)

    def _submit(self, call: Call, ready: Ready) -> None:
        """Queue the rows of a recognised request."""
        prepared, served, data = ready
        try:
            # It has just arrived: the calls of a round share that time, and their timings.
            prepared.submit(call, served, data, call.arrival)
        except Exception as error:  # noqa: BLE001 (it becomes the call's status)
            call.fail(error)

    def _parse(self, call: Call, method: Method, payload: bytes) -> None:
        cache = method.cache
        try:
            ready = method.handle(call, method.parse(payload))
            if ready is None:
                return
            prepared, served, data = ready
            prepared.submit(call, served, data, time.monotonic())
            if cache is not None:
                cache.learn(payload, prepared, data)
        except DecodeError as error:
            call.fail(InvalidArgumentError("request", f"expected the message of {method.name}: {error}"))
        except Exception as error:  # noqa: BLE001 (it becomes the call's status)
            call.fail(error)

    def _parse_large(self, call: Call, method: Method, payload: bytes) -> None:
        """Parse on another thread, unless the call has ended or the parser would hold up every thread."""
        try:
            call.check_wanted()
            if method.prescan is not None:
                method.prescan.check(payload)
        except ServingError as error:
            call.fail(error)
        else:
            self._parse(call, method, payload)


def _bytes_to_parse(method: Method, payload: bytes) -> int:
    return len(payload) if method.prescan is None else method.prescan.bytes_to_parse(payload)


def _is_heavy(size_bytes: int, bytes_to_parse: int) -> bool:
    """Whether reading a message takes longer than a small batch."""
    return bytes_to_parse > LIGHT_BYTES or size_bytes > _HEAVY_BYTES


def _guarded(serve: Callable[[Call], None], call: Call) -> None:
    try:
        serve(call)
    except Exception as error:  # noqa: BLE001 (it becomes the call's status)
        call.fail(error)
