"""Whatever runs together, every request gets the bits that it would get alone: each method, on both transports."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from google.protobuf.message import Message
from inference import open_inference_pb2 as oip
from inference import open_inference_pb2_grpc as oip_grpc

from tests.server.conftest import Served, array, graph_run, images, pixels, tensor

ROWS = 1500
CALLERS = 24
FLOATS = pb.IMAGE_FORMAT_FLOAT32
GREY = pixels(ROWS)
COLOUR = pixels(ROWS, (8, 8, 3))
NOISY = np.random.default_rng(1).random((ROWS, 8, 8, 1), np.float32)
CODES = np.random.default_rng(2).normal(size=(ROWS, 3)).astype(np.float32)


@dataclass(frozen=True)
class Way:
    """Some rows as a request, and the arrays that its answer must hold."""

    request: Callable[[slice], Message]
    answers: Callable[[Message], list[np.ndarray]]
    expected: list[np.ndarray]


def _encode(rows: slice) -> Message:
    return pb.EncodeRequest(model_name="vae", images=images(GREY[rows]))


def _reconstruct(rows: slice) -> Message:
    return pb.ReconstructRequest(model_name="vae", images=images(GREY[rows]), image_format=FLOATS)


def _classify(rows: slice) -> Message:
    return pb.ClassifyRequest(model_name="multitask", images=images(COLOUR[rows]))


def _denoise(rows: slice) -> Message:
    return pb.DenoiseRequest(model_name="denoiser", images=images(NOISY[rows]), image_format=FLOATS)


def _decode(rows: slice) -> Message:
    return pb.DecodeRequest(model_name="vae", latents=tensor(CODES[rows]), image_format=FLOATS)


def _sample(rows: slice) -> Message:
    count = rows.stop - rows.start
    return pb.SampleRequest(
        model_name="vae", seed=5, first_index=rows.start, count=count, include_latents=True, image_format=FLOATS
    )


def _infer(rows: slice) -> Message:
    request = oip.ModelInferRequest(model_name="vae.encode", raw_input_contents=[GREY[rows].tobytes()])
    request.inputs.add(name="images", datatype="UINT8", shape=GREY[rows].shape)
    return request


def _pictures(answer: pb.DecodeResponse) -> np.ndarray:
    return array(answer.images.tensor)


@pytest.fixture(scope="module")
def ways(server: Served) -> dict[str, Way]:
    """By method; what the samples of the seed are is asked for once, at once."""
    encoded = graph_run("encode", "vae", GREY)
    drawn = [server.stub.Sample(_sample(slice(first, first + 750)), timeout=60) for first in (0, 750)]
    codes = np.concatenate([array(each.latents) for each in drawn])
    return {
        "Encode": Way(_encode, lambda answer: [array(answer.latents), array(answer.log_variances)], encoded),
        "Reconstruct": Way(
            _reconstruct,
            lambda answer: [_pictures(answer), array(answer.squared_errors)],
            graph_run("reconstruct", "vae", GREY),
        ),
        "Classify": Way(
            _classify, lambda answer: [array(answer.probabilities)], graph_run("classify", "multitask", COLOUR)
        ),
        "Denoise": Way(_denoise, lambda answer: [_pictures(answer)], graph_run("denoise", "denoiser", NOISY)),
        "Decode": Way(_decode, lambda answer: [_pictures(answer)], graph_run("decode", "vae", CODES)),
        "Sample": Way(
            _sample,
            lambda answer: [array(answer.latents), _pictures(answer)],
            [codes, *graph_run("decode", "vae", codes)],
        ),
        "ModelInfer": Way(
            _infer,
            lambda answer: [np.frombuffer(raw, np.float32).reshape(-1, 3) for raw in answer.raw_output_contents],
            encoded,
        ),
    }


def splits(seed: int) -> list[slice]:
    """Cuts of 1 to 200 rows, most of them small, in any order."""
    chosen = random.Random(seed)
    cuts, first = [], 0
    while first < ROWS:
        size = min(ROWS - first, int(chosen.choice((1, 1, 1, 2, 5, 30, 200)) * chosen.uniform(0.5, 1) + 1))
        cuts.append(slice(first, first + size))
        first += size
    chosen.shuffle(cuts)
    return cuts


def check(way: Way, rows: slice, answer: Message) -> None:
    came = way.answers(answer)
    assert len(came) == len(way.expected)
    for got, wanted in zip(came, way.expected, strict=True):
        np.testing.assert_array_equal(got, wanted[rows])


def test_a_row_alone_is_the_row_in_company(ways: dict[str, Way]) -> None:
    """The bundles claim it; without it the tests below would prove nothing."""
    np.testing.assert_array_equal(ways["Encode"].expected[0][7:8], graph_run("encode", "vae", GREY[7:8])[0])


def test_batches_equal_singles_to_the_bit(server: Served, ways: dict[str, Way]) -> None:
    infer = oip_grpc.GRPCInferenceServiceStub(server.channel)
    company: list[int] = []

    def call(work: tuple[str, slice]) -> None:
        name, rows = work
        stub = infer if name == "ModelInfer" else server.stub
        answer = getattr(stub, name)(ways[name].request(rows), timeout=60)
        check(ways[name], rows, answer)
        if name != "ModelInfer":
            company.append(answer.info.batch_size - (rows.stop - rows.start))

    works = [(name, rows) for seed, name in enumerate(ways) for rows in splits(seed)]
    random.Random(0).shuffle(works)
    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(call, works))
    # Else nothing would have been proved.
    assert max(company) > 0


def test_items_of_streams_equal_singles_to_the_bit(server: Served, ways: dict[str, Way]) -> None:
    names = [name for name in ways if name != "ModelInfer"]

    def stream(seed: int) -> None:
        works = [(name, rows) for name in names for rows in splits(seed)]
        random.Random(seed).shuffle(works)

        def items() -> Iterator[pb.StreamRequest]:
            for number, (name, rows) in enumerate(works):
                yield pb.StreamRequest(id=str(number), **{name.lower(): ways[name].request(rows)})

        left = set(range(len(works)))
        for response in server.stub.Stream(items(), timeout=120):
            name, rows = works[int(response.id)]
            assert response.WhichOneof("response") == name.lower(), response.error
            check(ways[name], rows, getattr(response, name.lower()))
            left.remove(int(response.id))
        assert not left

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(stream, (11, 12)))
