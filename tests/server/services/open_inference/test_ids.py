"""Ids of the caller's choice: requests that differ in them and their rows alone are recognised, each gets its own."""

import uuid

import grpc
import numpy as np
import pytest
from inference import open_inference_pb2 as pb
from inference.open_inference_pb2_grpc import GRPCInferenceServiceStub

from server.parse_cache import ParseCache
from server.services.open_inference.infer import ID, raw_contents
from tests.server.conftest import Served, graph_run, pixels
from tests.server.services.open_inference.conftest import arrays, failure, request
from tests.server.test_parse_cache import Prepared

PATH = "/inference.GRPCInferenceService/ModelInfer"


class Caller:
    """In place of a call."""

    echo = b""


def message(name: str, seed: int = 0, model: str = "vae.encode") -> bytes:
    return request(model, pixels(1, seed=seed), id=name).SerializeToString()


def learnt(payload: bytes) -> tuple[ParseCache, Prepared]:
    cache, prepared = ParseCache(pb.ModelInferRequest.FromString, raw_contents, ID), Prepared()
    cache.learn(payload, prepared, pixels(1).tobytes())
    return cache, prepared


@pytest.mark.parametrize(
    ("first", "second"),
    [("r000001", "r000002"), ("a", "b"), ("b", "a"), ("images", "UINT8!"), ("vae.encode", "xyz.encode"), ("ö", "ab")],
)
def test_another_id_is_found_and_repeated(first: str, second: str) -> None:
    cache, prepared = learnt(message(first))
    caller = Caller()
    assert cache.find(caller, message(second, seed=1)) == (prepared, "served", pixels(1, seed=1).tobytes())
    assert pb.ModelInferResponse.FromString(caller.echo).id == second


@pytest.mark.parametrize(
    "other",
    [message(""), message("r0000010"), message("r000001", model="vae.encodf"), message("öööx")],
    ids=["none", "longer", "another model", "not ascii"],
)
def test_what_differs_in_more_is_parsed(other: bytes) -> None:
    cache, _ = learnt(message("r000001"))
    assert cache.find(Caller(), other) is None


def test_bytes_that_are_no_text_are_refused(server: Served, stub: GRPCInferenceServiceStub) -> None:
    for _ in range(3):
        assert stub.ModelInfer(request("vae.encode", pixels(1), id="r000001"), timeout=30).id == "r000001"
    broken = message("r000002").replace(b"r000002", b"r\xff00002")
    assert failure(server.channel.unary_unary(PATH), broken).code() == grpc.StatusCode.INVALID_ARGUMENT


def test_an_id_given_twice_is_the_last(server: Served) -> None:
    call = server.channel.unary_unary(PATH)
    for _ in range(3):
        answer = call(pb.ModelInferRequest(id="one").SerializeToString() + message("two"), timeout=30)
        assert pb.ModelInferResponse.FromString(answer).id == "two"


@pytest.mark.parametrize("kind", ["number", "uuid", "letters"])
def test_each_answer_has_its_own_id_and_rows(stub: GRPCInferenceServiceStub, kind: str) -> None:
    names = {
        "number": [str(number) for number in range(200)],
        "uuid": [str(uuid.UUID(int=number)) for number in range(200)],
        "letters": ["öäü漢🙂"[: 1 + number % 5] + f"{number:03}" for number in range(200)],
    }[kind]
    batch = pixels(len(names), seed=9)
    expected = graph_run("encode", "vae", batch)[0]
    asked = [request("vae.encode", row[None], id=name) for name, row in zip(names, batch, strict=True)]
    futures = [stub.ModelInfer.future(each, timeout=60) for each in asked]
    for future, name, row in zip(futures, names, expected, strict=True):
        answer = future.result()
        assert answer.id == name
        np.testing.assert_allclose(arrays(answer)["latents"][0], row, atol=1e-5)
