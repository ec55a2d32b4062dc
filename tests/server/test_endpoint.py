"""Which requests the transport's thread parses itself: those that wait for the pool cannot hold up the others."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from inference import open_inference_pb2 as oip

from tests.server.conftest import GOLDEN, Served, images, pixels, serving, tensor
from tests.server.rest.conftest import Rest, document, eventually

TYPED, OPEN = "/autoencoder.v1.AutoencoderService/", "/inference.GRPCInferenceService/"
SHIFT = pb.AttributeShift(attribute="brightness", amount=0.001)
LATENTS = np.zeros((300, 3), np.float32)


def edit(shifts: int) -> pb.EditRequest:
    return pb.EditRequest(model_name="vae", images=images(pixels(1)), shifts=[SHIFT] * shifts)


def infer(typed: int = 0) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="vae.encode", id="7")
    given = request.inputs.add(name="images", datatype="UINT8", shape=(max(typed, 500), 8, 8, 1))
    if typed:
        given.contents.uint_contents.extend([5] * typed * 64)
    else:
        request.raw_input_contents.append(bytes(500 * 64))
    return request


LIGHT = {
    "a row": (f"{TYPED}Decode", pb.DecodeRequest(model_name="vae", latents=tensor(LATENTS[:1]))),
    "a hundred rows": (f"{TYPED}Encode", pb.EncodeRequest(model_name="vae", images=images(pixels(300)))),
    "latents": (f"{TYPED}Decode", pb.DecodeRequest(model_name="vae", latents=tensor(LATENTS))),
    "raw contents": (f"{OPEN}ModelInfer", infer()),
    "some shifts": (f"{TYPED}Edit", edit(100)),
}
HEAVY = {
    "many shifts": (f"{TYPED}Edit", edit(1000)),
    "typed contents": (f"{OPEN}ModelInfer", infer(typed=500)),
    "a long name": (f"{TYPED}Encode", pb.EncodeRequest(model_name="v" * 5000)),
    "a long shape": (f"{TYPED}Encode", pb.EncodeRequest(images=pb.Images(tensor=pb.Tensor(shape=[1] * 5000)))),
}


@contextmanager
def occupied(served: Served) -> Iterator[None]:
    """The only place of the pool is taken."""
    release, pool = threading.Event(), served.app._executor._offload_pool
    eventually(lambda: not pool._jobs)
    served.app._executor.offload(release.wait)
    try:
        yield
    finally:
        release.set()
        eventually(lambda: not pool._jobs)


@pytest.fixture(scope="module", params=["native", "grpcio"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A server whose pool has one thread and no queue."""
    small = {"heavy_threads": 1, "max_heavy_jobs": 1}
    with serving(GOLDEN, transport=request.param, poll_seconds=0, rest_port=0, **small) as started:
        yield started


def code_of(served: Served, path: str, payload: bytes) -> str:
    try:
        served.channel.unary_unary(path)(payload, timeout=30)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


@pytest.mark.parametrize("name", LIGHT)
def test_a_small_request_does_not_wait_for_the_pool(served: Served, name: str) -> None:
    path, message = LIGHT[name]
    with occupied(served):
        assert code_of(served, path, message.SerializeToString()) == "OK"


@pytest.mark.parametrize("name", HEAVY)
def test_a_costly_request_waits_for_the_pool_unparsed(served: Served, name: str) -> None:
    path, message = HEAVY[name]
    payload = message.SerializeToString()
    with occupied(served):
        assert code_of(served, path, payload) == "RESOURCE_EXHAUSTED"
        # No message at all: parsing would say INVALID_ARGUMENT.
        assert code_of(served, path, payload + b"\x07") == "RESOURCE_EXHAUSTED"
    assert code_of(served, path, payload + b"\x07") == "INVALID_ARGUMENT"


def test_a_costly_item_of_a_stream_waits_too_and_is_answered_with_its_id(served: Served) -> None:
    items = [
        pb.StreamRequest(id="costly", edit=edit(1000)),
        pb.StreamRequest(id="small", decode=pb.DecodeRequest(model_name="vae", latents=tensor(LATENTS[:1]))),
    ]
    with occupied(served):
        answers = {answer.id: answer for answer in served.stub.Stream(iter(items), timeout=30)}
    assert answers["costly"].error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert answers["small"].HasField("decode")
    (answer,) = served.stub.Stream(iter(items[:1]), timeout=30)
    assert answer.HasField("edit")


def test_a_costly_item_of_an_inference_stream_is_answered_with_its_id(served: Served) -> None:
    call = served.channel.stream_stream(
        f"{OPEN}ModelStreamInfer",
        oip.ModelInferRequest.SerializeToString,
        oip.ModelStreamInferResponse.FromString,
    )
    with occupied(served):
        (answer,) = call(iter([infer(typed=500)]), timeout=30)
    assert answer.error_message.startswith("RESOURCE_EXHAUSTED")
    assert answer.infer_response.id == "7"


def test_a_long_document_waits_for_the_pool(served: Served) -> None:
    rest = Rest(served, f"127.0.0.1:{served.app.rest_port}")
    path = "/v2/models/vae.encode/infer"
    with occupied(served):
        assert rest.post(path, document(pixels(4))).status == 200
        assert rest.post(path, document(pixels(400))).status == 429
        given = {"name": "images", "datatype": "UINT8", "shape": [400, 8, 8, 1]}
        head = json.dumps({"inputs": [given | {"parameters": {"binary_data_size": 400 * 64}}]}).encode()
        size = {"Inference_Header_Content_Length": str(len(head))}
        assert rest.post(path, head + bytes(400 * 64), **size).status == 200


def test_shifts_have_a_limit(served: Served) -> None:
    assert code_of(served, f"{TYPED}Edit", edit(1024).SerializeToString()) == "OK"
    with pytest.raises(grpc.RpcError, match=r"expected 1 to 1024 shifts, along .*brightness.*, got 1025"):
        served.stub.Edit(edit(1025), timeout=30)


@pytest.mark.parametrize("sizes", [65, 100_000])
def test_shapes_have_a_limit(served: Served, sizes: int) -> None:
    bad = pb.Tensor(data_type=1, shape=[1] * sizes, data=b"1")
    with pytest.raises(grpc.RpcError, match="expected at most 64 sizes"):
        served.stub.Encode(pb.EncodeRequest(model_name="vae", images=pb.Images(tensor=bad)), timeout=30)
    with pytest.raises(grpc.RpcError, match="expected at most 64 sizes"):
        served.stub.Decode(pb.DecodeRequest(model_name="vae", latents=bad), timeout=30)
