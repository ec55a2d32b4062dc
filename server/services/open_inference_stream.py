"""ModelStreamInfer: ModelInfer, many at a time on one stream."""

from functools import partial

from google.protobuf.message import DecodeError
from inference import open_inference_pb2 as pb

from server.call import Call
from server.errors import InvalidArgumentError, ServingError, Status
from server.services.open_inference_infer import Inference
from server.streams import Item, StreamMethod, field

_RESPONSE = pb.ModelStreamInferResponse.DESCRIPTOR.fields_by_name["infer_response"].number


def method(service: str, inference: Inference) -> StreamMethod:
    """The RPC."""
    return StreamMethod("ModelStreamInfer", f"/{service}/ModelStreamInfer", partial(_read, inference))


def _read(inference: Inference, payload: bytes) -> Item:
    try:
        request = pb.ModelInferRequest.FromString(payload)
    except DecodeError as error:
        wrong = InvalidArgumentError("request", f"wanted a ModelInferRequest: {error}")
        return Item(len(payload), partial(_refuse, wrong), bytes, partial(_fail, "", ""))
    return Item(
        len(payload),
        partial(_serve, inference, request),
        partial(field, _RESPONSE),
        partial(_fail, request.model_name[:100], request.id),
    )


def _serve(inference: Inference, request: pb.ModelInferRequest, call: Call) -> None:
    inference.infer(call, request)


def _refuse(error: ServingError, call: Call) -> None:
    call.fail(error)


def _fail(name: str, request_id: str, status: Status) -> bytes:
    """The message has no field for a status code, so that the sentence begins with it."""
    return pb.ModelStreamInferResponse(
        error_message=f"{status.code.name}: {status.message}",
        infer_response=pb.ModelInferResponse(model_name=name, id=request_id),
    ).SerializeToString()
