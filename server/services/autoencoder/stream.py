"""autoencoder.v1.AutoencoderService/Stream: the unary methods that run graphs, many at a time on one stream."""

from collections.abc import Iterable, Mapping
from functools import partial

from autoencoder.v1 import autoencoder_pb2 as pb
from google.rpc.status_pb2 import Status as RpcStatus

from server.calls.call import Call
from server.calls.streaming import LazyMessage, StreamMethod
from server.codec.prescan import Prescan
from server.codec.protobuf_wire import length_delimited
from server.endpoint import Method
from server.errors import InvalidArgumentError, Status

_ID = pb.StreamResponse.DESCRIPTOR.fields_by_name["id"].number
_ERROR = pb.StreamResponse.DESCRIPTOR.fields_by_name["error"].number
_RESPONSES = {field.name: field.number for field in pb.StreamResponse.DESCRIPTOR.oneofs_by_name["response"].fields}


def method(service: str, methods: Iterable[Method], max_rows: int) -> StreamMethod:
    """The RPC, over the unary ones of the same service, whose requests have at most `max_rows`."""
    served = {method.name.lower(): method for method in methods}
    chosen = {name: method for name, method in served.items() if name in _RESPONSES}
    prescan = Prescan(pb.StreamRequest, max_rows)
    return StreamMethod("Stream", f"/{service}/Stream", partial(_Item, chosen, prescan))


class _Item:
    """One StreamRequest."""

    __slots__ = ("_message", "_methods", "bytes_to_parse", "size_bytes")

    def __init__(self, methods: Mapping[str, Method], prescan: Prescan, payload: bytes) -> None:
        self._methods = methods
        self._message = LazyMessage(pb.StreamRequest, prescan, payload)
        self.size_bytes, self.bytes_to_parse = self._message.size_bytes, self._message.bytes_to_parse

    def serve(self, call: Call) -> None:
        """Hand the request to its unary method."""
        request = self._message.get()
        kind = request.WhichOneof("request")
        if kind is None:
            raise InvalidArgumentError("request", f"expected one of {', '.join(self._methods)}, got none")
        self._methods[kind].serve(call, getattr(request, kind))

    def answer(self, response: bytes) -> bytes:
        """A StreamResponse around a response that is serialised already."""
        # A request without a kind is never answered with a response.
        kind = self._message.get().WhichOneof("request") or ""
        return self._head() + length_delimited(_RESPONSES[kind], response)

    def fail(self, status: Status) -> bytes:
        """A StreamResponse with an error."""
        details = status.details or RpcStatus(code=status.number, message=status.message).SerializeToString()
        return self._head() + length_delimited(_ERROR, details)

    def _head(self) -> bytes:
        name = self._message.first_fields().id
        return length_delimited(_ID, name.encode()) if name else b""
