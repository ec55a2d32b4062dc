"""From bytes to a service and back: counts calls, parses requests, refuses what cannot be served now."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from server.batching.executor import Dispatcher
from server.calls.auth import Gate, Right
from server.calls.call import FOREVER, Call, Metadata, Replies, Token
from server.calls.observer import CallObserver
from server.calls.streaming import StreamMethod
from server.errors import (
    InvalidArgumentError,
    OverloadedError,
    PermissionDeniedError,
    ServingError,
    TooLargeError,
    UnavailableError,
    UnimplementedError,
)
from server.parse_cache import Layouts

# Parsing and checking this much takes about as long as a small batch; more goes to another thread.
_HEAVY_BYTES = 512 * 1024
_STOPPING = "The server is stopping: try another one, or this one again later."


@dataclass(frozen=True)
class Method:
    """One unary RPC: how its request is parsed and who serves it.

    `serve` answers the call now or later, from any thread, or raises.
    """

    name: str
    path: str
    parse: Callable[[bytes], Any]
    serve: Callable[[Call, Any], None]
    right: Right | None = "inference"
    """What the caller's token must allow; None for methods that tell health."""
    layouts: Layouts | None = None
    """What is known of its requests, where they carry rows of a graph as they are."""


class Endpoint:
    """Everything between the transports and the services."""

    def __init__(
        self,
        methods: Iterable[Method | StreamMethod],
        declared: Iterable[str],
        dispatcher: Dispatcher,
        observer: CallObserver,
        gate: Gate,
        max_message_bytes: int,
        *,
        model_control: bool,
    ) -> None:
        every = list(methods)
        self.methods = {method.path: method for method in every if isinstance(method, Method)}
        self.streams = {method.path: method for method in every if isinstance(method, StreamMethod)}
        self.max_message_bytes = max_message_bytes
        self._dispatcher = dispatcher
        self._observer = observer
        self._finished = observer.finished
        self._gate = gate
        self._model_control = model_control
        self._draining = False
        self._declared = frozenset(declared)
        # Paths of which nobody asks anything.
        self._free = frozenset[str]() if gate.closed else frozenset(m.path for m in every if m.right != "admin")

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
        """Begin a call of a `peer`, scheme:host:port: from here on it is counted, and it must end."""
        if now is None:
            now = time.monotonic()
        deadline = FOREVER if seconds_left is None else now + seconds_left
        call = Call(method, now, deadline, metadata, replies, token, self._finished)
        call.peer = peer
        if self._gate.closed:
            call.bearer = self._gate.bearer(metadata)
        self._observer.started(call)
        return call

    def refusal(self, path: str, metadata: Metadata) -> ServingError | None:
        """Why a call cannot be served whatever its request says; None when it can."""
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
        """Why a caller may not do something; None when it may."""
        try:
            self._gate.check(metadata, right)
        except ServingError as error:
            return error
        return None

    def accept(self, call: Call, method: Method, payload: bytes) -> None:
        """Serve a call that `refusal` has let in; whoever calls this calls `run_ready` soon after."""
        size = len(payload)
        if size > self.max_message_bytes:
            call.fail(TooLargeError(size, self.max_message_bytes))
        elif size > _HEAVY_BYTES:
            self._offload(call, partial(self._serve, call, method, payload), size)
        else:
            self._serve(call, method, payload)

    def accept_parsed(self, call: Call, serve: Callable[[Call], None], size_bytes: int) -> None:
        """As `accept`, for a request of `size_bytes` that is not parsed here."""
        if size_bytes > _HEAVY_BYTES:
            self._offload(call, partial(_guarded, serve, call), size_bytes)
        else:
            _guarded(serve, call)

    def label(self, path: str) -> str:
        """Name of a path in the metrics: what anybody may ask for must not become a label."""
        method = path.rpartition("/")[2]
        return method if path in self._declared else "unknown"

    def run_ready(self) -> bool:
        """Run what the accepted calls have left to run on this thread; true when there is more."""
        return self._dispatcher.run_ready()

    def drain(self) -> None:
        """Refuse calls from now on."""
        self._free = frozenset[str]()
        self._draining = True

    def _offload(self, call: Call, job: Callable[[], None], size_bytes: int) -> None:
        try:
            self._dispatcher.offload(job, size_bytes, call.caller)
        except OverloadedError as error:
            call.fail(error)

    def _serve(self, call: Call, method: Method, payload: bytes) -> None:
        layouts = method.layouts
        try:
            if layouts is not None:
                if layouts.run(call, payload):
                    return
                call.learn = partial(layouts.learn, payload)
            method.serve(call, method.parse(payload))
            # It holds the message, which nobody needs any more.
            call.learn = None
        except DecodeError as error:
            call.fail(InvalidArgumentError("request", f"expected the message of {method.name}: {error}"))
        except Exception as error:  # noqa: BLE001 (it becomes the call's status)
            call.fail(error)


def _guarded(serve: Callable[[Call], None], call: Call) -> None:
    try:
        serve(call)
    except Exception as error:  # noqa: BLE001 (it becomes the call's status)
        call.fail(error)
