"""Every request and answer of the Stream RPC has its place in the client."""

from typing import get_args

from autoencoder.v1 import autoencoder_pb2 as pb
from hourglass_client import answers, requests, streams


def test_every_request_travels_in_a_field_of_its_own() -> None:
    kinds = get_args(requests.Request)
    fields = [streams.to_message("7", kind()).WhichOneof("request") for kind in kinds]
    assert fields == [field.name for field in pb.StreamRequest.DESCRIPTOR.oneofs_by_name["request"].fields]
    assert streams.to_message("7", pb.EncodeRequest(model_name="vae")).encode.model_name == "vae"


def test_every_answer_is_read_from_a_field_of_its_own() -> None:
    fields = {field.name for field in pb.StreamResponse.DESCRIPTOR.oneofs_by_name["response"].fields} - {"error"}
    assert answers.FROM_STREAM.keys() == fields
    assert {read.__self__ for read in answers.FROM_STREAM.values()} == set(get_args(answers.Answer))
