"""Handlers of grpc.aio: find the method of a call, check its rights before its message is read, and pass bytes."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import grpc
from grpc import aio

from server.calls.streaming import StreamMethod
from server.endpoint import Endpoint, Method
from server.errors import ServingError
from server.transport.connections.begun_calls import BegunCalls

_Context: TypeAlias = "aio.ServicerContext[bytes, bytes]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Handlers(grpc.GenericRpcHandler):
    """Finds the handler of a path; passes messages as bytes."""

    def __init__(
        self,
        unary: Callable[[Method, _Context], Awaitable[bytes]],
        stream: Callable[[StreamMethod, _Context], Awaitable[None]],
        refused: Callable[[str, ServingError, _Context], Awaitable[bytes]],
        endpoint: Endpoint,
    ) -> None:
        self._refused = refused
        self.begun = BegunCalls()
        self._endpoint = endpoint
        self._expected: dict[str, Callable[[], None]] = {}
        self._known: dict[str, Handler] = {
            path: self._unary_handler(unary, method) for path, method in endpoint.methods.items()
        }
        for path, method in endpoint.streams.items():
            self._known[path] = self._stream_handler(partial(stream, method))

    def expect(self, path: str, came: Callable[[], None]) -> None:
        """Call `came` when a call of this path comes."""
        self._expected[path] = came

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        """Handler for a call."""
        path = handler_call_details.method
        metadata: Any = handler_call_details.invocation_metadata or ()
        # Checked before the message is read, so that an unauthorised call costs no memory.
        refusal = self._endpoint.refusal(path, metadata)
        if refusal is None:
            return self._known[path]
        if path in self._expected:
            self._expected[path]()
            return None
        return self._stream_handler(partial(self._refused, path, refusal))

    def _unary_handler(self, unary: Callable[[Method, _Context], Awaitable[bytes]], method: Method) -> Handler:
        """Handler of a unary method, which reads its message itself: grpc would not answer a call without one."""

        async def handle(_: object, context: _Context) -> bytes:
            if self.begun.counting:
                self.begun.add(context.peer())
            return await unary(method, context)

        return grpc.stream_unary_rpc_method_handler(handle)  # pyright: ignore[reportArgumentType] (aio takes coroutines)

    def _stream_handler(self, serve: Callable[[_Context], Awaitable[object]]) -> Handler:
        """Handler of a bidirectional stream; also used for refusals, because it can end calls of any kind."""

        async def handle(_: object, context: _Context) -> None:
            if self.begun.counting:
                self.begun.add(context.peer())
            await serve(context)

        return grpc.stream_stream_rpc_method_handler(handle)  # pyright: ignore[reportArgumentType] (as above)
