"""gRPC server reflection, so that generic clients need no .proto files."""

from typing import Any, TypeAlias

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from server.endpoint import Endpoint
from server.errors import Status
from server.services.autoencoder import service as autoencoder
from server.services.open_inference import service as open_inference

_PREFIX = "/grpc.reflection."
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "aio.ServicerContext[bytes, bytes]"


def add_reflection(server: aio.Server, endpoint: Endpoint) -> None:
    """Serve reflection of every service to callers with the inference right."""
    server.add_generic_rpc_handlers([_ReflectionAuth(endpoint)])
    health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    names = (autoencoder.SERVICE, open_inference.SERVICE, health, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)


class _ReflectionAuth(grpc.GenericRpcHandler):
    """Authorises reflection calls, because the reflection service does not check tokens."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        """Handler that refuses the call; None passes the call to the next handler."""
        metadata: Any = handler_call_details.invocation_metadata or ()
        if not handler_call_details.method.startswith(_PREFIX):
            return None
        refusal = self._endpoint.unauthorised("inference", metadata)
        return None if refusal is None else _refusing(refusal.status())


def _refusing(status: Status) -> Handler:
    async def handle(_: object, context: Context) -> None:
        await context.abort(status.code, status.message)

    return grpc.stream_stream_rpc_method_handler(handle)  # pyright: ignore[reportArgumentType] (aio takes coroutines)
