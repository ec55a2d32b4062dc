"""gRPC server reflection, so that generic clients need no .proto files."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeAlias

import grpc
from grpc import aio
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from server.calls.waiting import WaitingCalls
from server.endpoint import Endpoint
from server.errors import OverloadedError, Status
from server.services.autoencoder import service as autoencoder
from server.services.open_inference import service as open_inference

_PREFIX = "/grpc.reflection."
_PATH = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "aio.ServicerContext[Any, Any]"


def add_reflection(server: aio.Server, endpoint: Endpoint, waiting: WaitingCalls, attached: Sequence[str]) -> None:
    """Serve reflection of every service, those of `attached` names too, to callers with the inference right."""
    server.add_generic_rpc_handlers([_Reflection(endpoint, waiting, attached)])


class _Reflection(grpc.GenericRpcHandler):
    """grpc's own service, which checks no tokens and waits for messages without a limit."""

    def __init__(self, endpoint: Endpoint, waiting: WaitingCalls, attached: Sequence[str]) -> None:
        names = (autoencoder.SERVICE, open_inference.SERVICE, reflection.SERVICE_NAME, *attached)
        self._servicer: Any = reflection.aio.ReflectionServicer(names)
        self._endpoint = endpoint
        self._waiting = waiting

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        """Handler that serves or refuses the call; None passes the call to the next handler."""
        metadata: Any = handler_call_details.invocation_metadata or ()
        path = handler_call_details.method
        if not path.startswith(_PREFIX):
            return None
        refusal = self._endpoint.unauthorised("inference", metadata)
        if refusal is not None:
            return _refusing(refusal.status())
        if path != _PATH:
            return None
        return grpc.stream_stream_rpc_method_handler(
            self._serve,  # pyright: ignore[reportArgumentType] (aio takes coroutines)
            request_deserializer=ServerReflectionRequest.FromString,
            response_serializer=ServerReflectionResponse.SerializeToString,
        )

    async def _serve(self, _: object, context: Context) -> None:
        try:
            async for answer in self._servicer.ServerReflectionInfo(self._requests(context), context):
                await context.write(answer)
        except OverloadedError as error:
            await context.abort(error.code, error.message)

    async def _requests(self, context: Context) -> AsyncIterator[ServerReflectionRequest]:
        while (request := await self._waiting.read_next(context, context.peer())) is not None:
            yield request


def _refusing(status: Status) -> Handler:
    async def handle(_: object, context: Context) -> None:
        await context.abort(status.code, status.message)

    return grpc.stream_stream_rpc_method_handler(handle)  # pyright: ignore[reportArgumentType] (aio takes coroutines)
