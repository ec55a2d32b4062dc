"""ModelStreamInfer: ModelInfer, many at a time on one stream."""

from functools import partial

from inference import open_inference_pb2 as pb

from server.calls.call import Call
from server.calls.streaming import LazyMessage, StreamMethod
from server.codec.prescan import Prescan
from server.codec.protobuf_wire import length_delimited
from server.endpoint import Method
from server.errors import Status

_RESPONSE = pb.ModelStreamInferResponse.DESCRIPTOR.fields_by_name["infer_response"].number


def method(service: str, infer: Method, prescan: Prescan) -> StreamMethod:
    """Make the RPC, over the unary one, with the prescan of its requests."""
    return StreamMethod("ModelStreamInfer", f"/{service}/ModelStreamInfer", partial(_Item, infer, prescan))


class _Item:
    """One ModelInferRequest."""

    __slots__ = ("_infer", "_message", "bytes_to_parse", "size_bytes")

    def __init__(self, infer: Method, prescan: Prescan, payload: bytes) -> None:
        self._infer = infer
        self._message = LazyMessage(pb.ModelInferRequest, prescan, payload)
        self.size_bytes, self.bytes_to_parse = self._message.size_bytes, self._message.bytes_to_parse

    def serve(self, call: Call) -> None:
        """Run the graph."""
        self._infer.serve(call, self._message.get())

    def answer(self, response: bytes) -> bytes:
        """A ModelStreamInferResponse around a response that is serialised already."""
        return length_delimited(_RESPONSE, response)

    def fail(self, status: Status) -> bytes:
        """The message has no field for a status code, so that the sentence begins with it."""
        request = self._message.first_fields()
        response = pb.ModelInferResponse(model_name=request.model_name[:100], id=request.id)
        sentence = f"{status.code.name}: {status.message}"
        return pb.ModelStreamInferResponse(error_message=sentence, infer_response=response).SerializeToString()
