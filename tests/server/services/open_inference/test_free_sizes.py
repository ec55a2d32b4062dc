"""Graphs of free sizes and with noise levels over the Open Inference Protocol."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1.shapes import pad
from inference import open_inference_pb2 as pb
from inference.open_inference_pb2_grpc import GRPCInferenceServiceStub

from tests.server import free_models
from tests.server.conftest import TRANSPORTS, serving
from tests.server.services.open_inference.conftest import arrays, failure, request, typed

RNG = np.random.default_rng(4)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A repository, and its graphs."""
    repository = tmp_path_factory.mktemp("models")
    found = free_models.write_autoencoder(repository)
    found["levels"] = free_models.write_denoiser(repository, "levels", levels=True)
    return repository, found


@pytest.fixture(scope="module", params=TRANSPORTS)
def free(request: pytest.FixtureRequest, graphs: tuple[Path, dict[str, bytes]]) -> Iterator[GRPCInferenceServiceStub]:
    """A server of models of free sizes."""
    with serving(graphs[0], transport=request.param, poll_seconds=0) as served:
        yield GRPCInferenceServiceStub(served.channel)


def with_levels(made: pb.ModelInferRequest, levels: np.ndarray) -> pb.ModelInferRequest:
    made.inputs.add(name="noise_levels", datatype="FP32", shape=levels.shape)
    if made.raw_input_contents:
        made.raw_input_contents.append(levels.tobytes())
    else:
        made.inputs[1].contents.fp32_contents.extend(levels.tolist())
    return made


def test_metadata_has_free_axes(free: GRPCInferenceServiceStub) -> None:
    metadata = free.ModelMetadata(pb.ModelMetadataRequest(name="free-ae.encode"))

    assert list(metadata.inputs[0].shape) == [-1, -1, -1, 1]
    assert list(metadata.outputs[0].shape) == [-1, -1, -1, 2]
    config = free.ModelConfig(pb.ModelConfigRequest(name="free-ae.encode")).config
    assert list(config.input[0].dims) == [-1, -1, 1]


@pytest.mark.parametrize("form", [request, typed])
def test_images_are_padded_and_cropped(
    free: GRPCInferenceServiceStub, graphs: tuple[Path, dict[str, bytes]], form: object
) -> None:
    rows = RNG.random((2, 35, 40, 1), np.float32)
    expected = free_models.run(graphs[1]["reconstruct"], {"images": pad(rows, (36, 40))})[0][:, :35]

    answer = free.ModelInfer(form("free-ae.reconstruct", rows, id="r1"))

    np.testing.assert_array_equal(arrays(answer)["reconstructions"], expected)
    assert answer.id == "r1"
    assert bool(answer.raw_output_contents) == (form is request)


def test_spatial_codes(free: GRPCInferenceServiceStub, graphs: tuple[Path, dict[str, bytes]]) -> None:
    codes = RNG.normal(size=(3, 5, 6, 2)).astype(np.float32)

    answer = free.ModelInfer(request("free-ae.decode", codes, "latents"))

    np.testing.assert_array_equal(arrays(answer)["images"], free_models.run(graphs[1]["decode"], {"latents": codes})[0])


@pytest.mark.parametrize("form", [request, typed])
def test_noise_levels_are_an_input(
    free: GRPCInferenceServiceStub, graphs: tuple[Path, dict[str, bytes]], form: object
) -> None:
    rows = RNG.normal(0.5, 0.5, (2, 8, 10, 1)).astype(np.float32)
    levels = np.array([0.2, 0.5], np.float32)
    expected = free_models.run(graphs[1]["levels"], {"images": rows, "noise_levels": levels})[0]

    answer = free.ModelInfer(with_levels(form("levels", rows), levels))

    np.testing.assert_array_equal(arrays(answer)["denoised"], expected)


ONE = np.zeros((1, 4, 4, 1), np.float32)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (request("free-ae.encode", np.zeros((1, 4, 4, 3), np.float32)), "expected (N, 4, 4, 1)"),
        (request("free-ae.encode", np.zeros((1, 4, 4), np.float32)), "expected (N, any, any, 1)"),
        (request("free-ae.encode", np.zeros((1, 0, 4, 1), np.float32)), "at least 1 pixels"),
        (
            pb.ModelInferRequest(
                model_name="free-ae.encode",
                inputs=[{"name": "images", "datatype": "FP32", "shape": [1, -2, -2, 1]}],
                raw_input_contents=[bytes(16)],
            ),
            "at least 1 pixels",
        ),
        (request("free-ae.encode", np.zeros((0, 4, 4, 1), np.float32)), "rows"),
        (request("free-ae.encode", np.full((1, 4, 4, 1), 1.5, np.float32)), "floats from 0 to 1"),
        (request("free-ae.encode", np.full((1, 4, 4, 1), np.nan, np.float32)), "finite"),
        (request("free-ae.encode", ONE, raw_input_contents=[ONE.tobytes()[:-4]]), "expected 64 bytes"),
        (request("free-ae.encode", ONE, "pictures"), "expected 'images', once each, got 'pictures'"),
        (request("free-ae.decode", np.zeros((1, 4, 4, 3), np.float32), "latents"), "expected (N, 4, 4, 2)"),
        (with_levels(request("free-ae.encode", ONE), np.zeros(1, np.float32)), "expected 'images', once each"),
        (with_levels(request("levels", ONE), np.full(1, 0.6, np.float32)), "expected a level from 0 to 0.5"),
        (with_levels(request("levels", ONE), np.zeros(3, np.float32)), "one for all images or for each"),
        (with_levels(request("levels", ONE), np.zeros((1, 1), np.float32)), "noise_levels"),
    ],
)
def test_requests_that_are_refused(free: GRPCInferenceServiceStub, made: pb.ModelInferRequest, words: str) -> None:
    refused = failure(free.ModelInfer, made)

    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in refused.details()
