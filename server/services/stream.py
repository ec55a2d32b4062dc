"""autoencoder.v1.AutoencoderService/Stream: the unary methods that run graphs, many at a time on one stream."""

from collections.abc import Iterable
from functools import partial

from autoencoder.v1 import autoencoder_pb2 as pb
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status as RpcStatus

from server.call import Call
from server.endpoint import Method
from server.errors import InvalidArgumentError, ServingError, Status
from server.streams import Item, StreamMethod, field

_ID = pb.StreamResponse.DESCRIPTOR.fields_by_name["id"].number
_ERROR = pb.StreamResponse.DESCRIPTOR.fields_by_name["error"].number
_RESPONSES = {field.name: field.number for field in pb.StreamResponse.DESCRIPTOR.oneofs_by_name["response"].fields}


def method(service: str, methods: Iterable[Method]) -> StreamMethod:
    """The RPC, over the unary ones of the same service."""
    served = {method.name.lower(): method for method in methods}
    chosen = {name: method for name, method in served.items() if name in _RESPONSES}
    return StreamMethod("Stream", f"/{service}/Stream", partial(_read, chosen))


def _read(methods: dict[str, Method], payload: bytes) -> Item:
    try:
        request = pb.StreamRequest.FromString(payload)
    except DecodeError as error:
        wrong = InvalidArgumentError("request", f"wanted a StreamRequest: {error}")
        return Item(len(payload), partial(_refuse, wrong), bytes, partial(_fail, b""))
    head = field(_ID, request.id.encode()) if request.id else b""
    kind: str | None = request.WhichOneof("request")
    if kind is None:
        wrong = InvalidArgumentError("request", f"wanted one of {', '.join(methods)}, got none")
        return Item(len(payload), partial(_refuse, wrong), bytes, partial(_fail, head))
    return Item(
        len(payload),
        partial(_serve, methods[kind], getattr(request, kind)),
        partial(_answer, head, _RESPONSES[kind]),
        partial(_fail, head),
    )


def _serve(method: Method, request: object, call: Call) -> None:
    method.serve(call, request)


def _refuse(error: ServingError, call: Call) -> None:
    call.fail(error)


def _answer(head: bytes, number: int, response: bytes) -> bytes:
    """A StreamResponse around a response that is serialised already."""
    return head + field(number, response)


def _fail(head: bytes, status: Status) -> bytes:
    details = status.details or RpcStatus(code=status.number, message=status.message).SerializeToString()
    return head + field(_ERROR, details)
