"""Responses written in parts are the messages that protobuf itself would serialise."""

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from inference import open_inference_pb2 as oip

from server.batching.entry import Entry
from server.calls.call import Call
from server.services.response_writer import ResponseWriter, info_field, raw_field, tensor_field
from tests.server.conftest import array


class Replies:
    """Keeps answers by token."""

    def __init__(self) -> None:
        self.answers: dict[int, bytes] = {}
        self.sent = 0

    def send_all(self, answers: list[tuple[int, bytes]]) -> None:
        self.answers |= dict(answers)
        self.sent += 1


class Version:
    """In place of a model version."""

    name = "vae"
    version = "3"


def entries(replies: Replies, *counts: int) -> list[Entry]:
    made, first = [], 0
    for token, count in enumerate(counts):
        call = Call("Encode", 0, 0, (), replies, token, lambda *_: None)
        call.served = Version()
        call.note_run(token / 1000, 0.002, sum(counts))
        entry = Entry(call, b"", count, lambda *_: None)
        entry.first = first
        first += count
        made.append(entry)
    return made


def test_tensors_with_the_info_of_each_call() -> None:
    replies = Replies()
    latents = np.arange(12, dtype=np.float32).reshape(6, 2)
    fields = [tensor_field(pb.EncodeResponse, "latents", 0), tensor_field(pb.EncodeResponse, "log_variances", 1)]
    ResponseWriter(fields, info=info_field(pb.EncodeResponse))(entries(replies, 1, 1, 3, 1), [latents])
    assert replies.sent == 1
    for token, rows in enumerate((slice(0, 1), slice(1, 2), slice(2, 5), slice(5, 6))):
        response = pb.EncodeResponse.FromString(replies.answers[token])
        np.testing.assert_array_equal(array(response.latents), latents[rows])
        # The graph has no second output.
        assert not response.HasField("log_variances")
        info = pb.ServingInfo(
            model_name="vae",
            model_version="3",
            queue_microseconds=token * 1000,
            run_microseconds=2000,
            batch_size=6,
            exact=True,
        )
        assert response.info == info


def test_pixels_with_a_head_for_each_number_of_rows() -> None:
    replies, heads = Replies(), []
    images = np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 1, 2, 1)

    def head(version: Version, count: int, outputs: list[np.ndarray]) -> bytes:
        heads.append((version.name, count, len(outputs)))
        return pb.DecodeResponse(info=pb.ServingInfo(batch_size=count)).SerializeToString()

    ResponseWriter([tensor_field(pb.DecodeResponse, "images.tensor", 0, pb.IMAGE_FORMAT_UINT8)], head)(
        entries(replies, 1, 2), [images]
    )
    assert heads == [("vae", 1, 1), ("vae", 2, 1)]
    second = pb.DecodeResponse.FromString(replies.answers[1])
    assert second.info.batch_size == 2
    assert array(second.images.tensor).ravel().tolist() == [102, 153, 204, 255]


def test_raw_contents_with_what_each_call_echoes() -> None:
    replies = Replies()
    made = entries(replies, 1, 1)
    for number, entry in enumerate(made):
        entry.call.echo = oip.ModelInferResponse(id=f"r{number}").SerializeToString()
    number = oip.ModelInferResponse.DESCRIPTOR.fields_by_name["raw_output_contents"].number
    values = np.array([[1.5], [2.5]], np.float32)
    ResponseWriter([raw_field(number, 0)])(made, [values])
    for token, entry in enumerate(made):
        response = oip.ModelInferResponse.FromString(replies.answers[token])
        assert response.id == f"r{token}"
        assert response.raw_output_contents[0] == values[entry.first].tobytes()
