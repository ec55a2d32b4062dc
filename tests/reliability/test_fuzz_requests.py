"""Arbitrary bytes: the status is clear, never INTERNAL, never a crash, and the next request is answered."""

import io
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st
from inference import open_inference_pb2 as oip
from PIL import Image

from tests.reliability.mutation import FUZZED, damaged
from tests.server.conftest import GOLDEN, Served, images, metric, pixels, serving
from tests.server.free_models import write_detector

TYPED, OPEN = "/autoencoder.v1.AutoencoderService/", "/inference.GRPCInferenceService/"
LATENTS = pb.Tensor(data_type=3, shape=[1, 3], data=np.zeros(3, "<f4").tobytes())
PICTURE = images(pixels(1))
VALID = {
    f"{TYPED}Encode": pb.EncodeRequest(model_name="vae", images=PICTURE),
    f"{TYPED}Decode": pb.DecodeRequest(model_name="vae", latents=LATENTS),
    f"{TYPED}Reconstruct": pb.ReconstructRequest(model_name="vae", images=PICTURE),
    f"{TYPED}Denoise": pb.DenoiseRequest(model_name="denoiser", images=PICTURE),
    f"{TYPED}Sample": pb.SampleRequest(model_name="vae", count=2, seed=1),
    f"{TYPED}Interpolate": pb.InterpolateRequest(model_name="vae", from_images=PICTURE, to_latents=LATENTS, steps=3),
    f"{TYPED}Edit": pb.EditRequest(
        model_name="vae", latents=LATENTS, shifts=[pb.AttributeShift(attribute="brightness", amount=1)]
    ),
    f"{TYPED}Classify": pb.ClassifyRequest(model_name="multitask", images=images(pixels(1, (8, 8, 3)))),
    f"{TYPED}Detect": pb.DetectRequest(
        model_name="detector", images=PICTURE, threshold=0.5, map_format=pb.IMAGE_FORMAT_PNG
    ),
    f"{TYPED}ListModels": pb.ListModelsRequest(),
    f"{TYPED}GetModel": pb.GetModelRequest(model_name="vae"),
    f"{OPEN}ModelInfer": oip.ModelInferRequest(
        model_name="vae.decode",
        inputs=[oip.ModelInferRequest.InferInputTensor(name="latents", datatype="FP32", shape=[1, 3])],
        raw_input_contents=[np.zeros(3, "<f4").tobytes()],
    ),
    f"{OPEN}ModelMetadata": oip.ModelMetadataRequest(name="vae"),
    f"{OPEN}RepositoryIndex": oip.RepositoryIndexRequest(),
}
CALLERS_FAULTS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}


def every_model(folder: Path) -> Path:
    """A repository of the golden models and a detector."""
    shutil.copytree(GOLDEN, folder / "models", ignore=shutil.ignore_patterns("*.py"))
    write_detector(folder / "models")
    return folder / "models"


@pytest.fixture(scope="module", params=["native", "grpcio"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Small limits, so that a number gone large costs nothing; at the end what was sent is what was counted."""
    limits = {"max_request_rows": 64, "max_message_bytes": 2**20, "max_image_pixels": 2**16}
    models = every_model(tmp_path_factory.mktemp("fuzz"))
    with serving(models, transport=request.param, poll_seconds=0, **limits) as served:
        yield served
        assert metric(served, "autoencoder_requests_total") == request.node.fuzzed[served.address]
        assert metric(served, "autoencoder_requests_in_flight") == 0


@pytest.fixture
def send(target: Served, request: pytest.FixtureRequest) -> "Send":
    module = request.node.getparent(pytest.Module)
    counts = module.__dict__.setdefault("fuzzed", Counter())
    return Send(target, counts)


class Send:
    """Sends bytes and counts them."""

    def __init__(self, served: Served, counts: Counter[str]) -> None:
        self._served = served
        self._counts = counts

    def __call__(self, path: str, payload: bytes) -> str:
        self._counts[self._served.address] += 1
        try:
            self._served.channel.unary_unary(path)(payload, timeout=30)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"


def check(send: Send, path: str, payload: bytes) -> None:
    assert send(path, payload) in CALLERS_FAULTS
    assert send(f"{TYPED}Encode", VALID[f"{TYPED}Encode"].SerializeToString()) == "OK"


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.rpartition("/")[2])
def test_damaged_messages(send: Send, path: str) -> None:
    valid = VALID[path].SerializeToString()
    assert send(path, valid) == "OK"

    @FUZZED
    @given(damaged(valid))
    def fuzz(payload: bytes) -> None:
        check(send, path, payload)

    fuzz()


NUMBERS = st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 20)
TENSORS = st.builds(pb.Tensor, data_type=NUMBERS, shape=st.lists(NUMBERS, max_size=6), data=st.binary(max_size=300))


@FUZZED
@given(tensor=TENSORS, model=st.sampled_from(["vae", "fc-ae", "denoiser", "", "nobody", "\x00", "é" * 300]))
def test_tensors_of_any_kind(send: Send, tensor: pb.Tensor, model: str) -> None:
    source = pb.Images(tensor=tensor)
    for path, request in (
        ("Encode", pb.EncodeRequest(model_name=model, images=source)),
        ("Decode", pb.DecodeRequest(model_name=model, latents=tensor)),
        ("Denoise", pb.DenoiseRequest(model_name=model, images=source)),
    ):
        check(send, TYPED + path, request.SerializeToString())


@FUZZED
@given(
    count=NUMBERS,
    seed=st.integers(0, 2**64 - 1),
    temperature=st.floats(width=32),
    image_format=st.integers(-1, 9),
    steps=NUMBERS,
    amount=st.floats(width=32),
    levels=st.dictionaries(
        st.sampled_from(["threshold", "map_threshold", "false_alarm_rate"]), st.floats(width=32) | st.floats(0, 1)
    ),
)
def test_numbers_of_any_size(send: Send, levels: dict[str, float], **drawn: float) -> None:
    sample = {name: drawn[name] for name in ("count", "seed", "temperature", "image_format")}
    shift = pb.AttributeShift(attribute="brightness", amount=drawn["amount"])
    ends = {"from_latents": LATENTS, "to_latents": LATENTS}
    for path, request in (
        ("Sample", pb.SampleRequest(model_name="vae", **sample)),
        ("Interpolate", pb.InterpolateRequest(model_name="vae", steps=drawn["steps"], **ends)),
        ("Edit", pb.EditRequest(model_name="vae", latents=LATENTS, shifts=[shift])),
        ("Detect", pb.DetectRequest(model_name="detector", images=PICTURE, map_format=drawn["image_format"], **levels)),
    ):
        check(send, TYPED + path, request.SerializeToString())


def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(1)[0, ..., 0]).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_damaged_image_files(send: Send, kind: str) -> None:
    @FUZZED
    @given(damaged(picture(kind)), st.booleans())
    def fuzz(file: bytes, resize: bool) -> None:
        encoded = pb.EncodedImages(files=[file], resize=resize)
        request = pb.EncodeRequest(model_name="vae", images=pb.Images(encoded=encoded))
        check(send, f"{TYPED}Encode", request.SerializeToString())

    fuzz()
