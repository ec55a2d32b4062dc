"""Models of free sizes and with noise levels, over the wire of both transports."""

import io
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.model_pb2 import DATA_TYPE_FLOAT16, DATA_TYPE_UINT16
from autoencoder.v1.shapes import pad
from PIL import Image

from tests.server import free_models
from tests.server.conftest import TRANSPORTS, Served, serving

RNG = np.random.default_rng(3)
LIMITS = {"max_untiled_pixels": 4096, "max_request_pixels": 65_536}
DTYPES = {1: np.uint8, 2: np.float16, 3: np.float32, 5: np.uint16}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A repository, and its graphs."""
    repository = tmp_path_factory.mktemp("models")
    found = free_models.write_autoencoder(repository)
    found["denoise"] = free_models.write_denoiser(repository)
    found["levels"] = free_models.write_denoiser(repository, "levels", levels=True)
    found["whole"] = free_models.write_denoiser(repository, "whole", whole=True)
    return repository, found


@pytest.fixture(scope="module", params=TRANSPORTS)
def free(request: pytest.FixtureRequest, graphs: tuple[Path, dict[str, bytes]]) -> Iterator[Served]:
    """A server of models of free sizes."""
    with serving(graphs[0], transport=request.param, poll_seconds=0, **LIMITS) as served:
        yield served


def tensor(array: np.ndarray) -> pb.Tensor:
    kind = next(kind for kind, dtype in DTYPES.items() if dtype == array.dtype)
    return pb.Tensor(data_type=kind, shape=array.shape, data=array.tobytes())


def images(array: np.ndarray) -> pb.Images:
    return pb.Images(tensor=tensor(array))


def array(message: pb.Tensor) -> np.ndarray:
    return np.frombuffer(message.data, DTYPES[message.data_type]).reshape(tuple(message.shape))


SMALL = tensor(np.zeros((1, 8, 8, 2), np.float16))
LARGE = tensor(np.zeros((3, 80, 80, 2), np.float16))


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels[:, :, 0]).save(stream, "PNG")
    return stream.getvalue()


def whole(graph: bytes, rows: np.ndarray, **more: np.ndarray) -> np.ndarray:
    """What the graph gives for padded images, cropped."""
    height, width = rows.shape[1:3]
    padded = pad(rows, (height + height % 2, width + width % 2))
    return free_models.run(graph, {"images": padded, **more})[0][:, :height, :width]


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (32, 32), (33, 31), (130, 77)])
def test_images_of_any_size_have_the_bits_of_the_whole(
    free: Served, graphs: tuple[Path, dict[str, bytes]], size: tuple[int, int]
) -> None:
    noisy = RNG.normal(0.5, 0.4, (2, *size, 1)).astype(np.float32)

    answer = free.stub.Denoise(
        pb.DenoiseRequest(model_name="free", images=images(noisy), image_format=pb.IMAGE_FORMAT_FLOAT32)
    )

    np.testing.assert_array_equal(array(answer.images.tensor), whole(graphs[1]["denoise"], noisy))
    assert answer.info.exact
    assert (answer.info.tiles > 0) == (max(size) > 32)


def test_sixteen_bits_are_neither_rounded_on_the_way_in_nor_out(
    free: Served, graphs: tuple[Path, dict[str, bytes]]
) -> None:
    words = RNG.integers(0, 65_536, (1, 20, 20, 1), dtype=np.uint16)
    expected = whole(graphs[1]["denoise"], words.astype(np.float32) / np.float32(65_535))
    expected = np.rint(np.clip(expected, 0, 1) * np.float32(65_535)).astype(np.uint16)
    request = pb.DenoiseRequest(model_name="free", images=images(words), image_format=pb.IMAGE_FORMAT_UINT16)

    answer = free.stub.Denoise(request)
    assert answer.images.tensor.data_type == DATA_TYPE_UINT16
    np.testing.assert_array_equal(array(answer.images.tensor), expected)

    request.images.CopyFrom(pb.Images(encoded=pb.EncodedImages(files=[png(words[0])])))
    request.image_format = pb.IMAGE_FORMAT_PNG16
    file = free.stub.Denoise(request).images.encoded.files[0]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file))), expected[0, :, :, 0])


def test_files_of_several_sizes_leave_as_files(free: Served) -> None:
    sizes = [(8, 8), (40, 9), (5, 61)]
    files = [png(RNG.integers(0, 256, (*size, 1), dtype=np.uint8)) for size in sizes]
    request = pb.DenoiseRequest(model_name="free", images=pb.Images(encoded=pb.EncodedImages(files=files)))

    with pytest.raises(grpc.RpcError) as refused:
        free.stub.Denoise(request)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "expected images of one size: ask for IMAGE_FORMAT_PNG" in refused.value.details()

    request.image_format = pb.IMAGE_FORMAT_PNG
    answer = free.stub.Denoise(request)
    assert [Image.open(io.BytesIO(file)).size[::-1] for file in answer.images.encoded.files] == sizes


def test_a_noise_level_for_each_image(free: Served, graphs: tuple[Path, dict[str, bytes]]) -> None:
    rows = RNG.random((3, 10, 12, 1), np.float32)
    request = pb.DenoiseRequest(model_name="levels", images=images(rows), image_format=pb.IMAGE_FORMAT_FLOAT32)

    for given, used in (((), [0.1] * 3), ((0.25,), [0.25] * 3), ((0.0, 0.25, 0.5), [0.0, 0.25, 0.5])):
        request.noise_levels[:] = given
        expected = whole(graphs[1]["levels"], rows, noise_levels=np.array(used, np.float32))
        np.testing.assert_array_equal(array(free.stub.Denoise(request).images.tensor), expected)


@pytest.mark.parametrize(
    ("model", "levels", "words"),
    [
        ("levels", [0.6], "noise_levels[0]: expected a level from 0 to 0.5, got 0.6"),
        ("levels", [0.1, 0.2], "expected one for all images or for each, got 2"),
        ("levels", [float("nan")], "expected a level from 0 to 0.5, got nan"),
        ("free", [0.1], "expected none, because model 'free' takes no noise level, got 1"),
    ],
)
def test_noise_levels_that_are_refused(free: Served, model: str, levels: list[float], words: str) -> None:
    request = pb.DenoiseRequest(model_name=model, images=images(np.zeros((3, 8, 8, 1), np.uint8)), noise_levels=levels)

    with pytest.raises(grpc.RpcError) as refused:
        free.stub.Denoise(request)

    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in refused.value.details()


def test_a_model_of_one_size_takes_no_noise_level(server: Served) -> None:
    zeros = images(np.zeros((1, 8, 8, 1), np.uint8))

    with pytest.raises(grpc.RpcError, match="takes no noise level"):
        server.stub.Denoise(pb.DenoiseRequest(model_name="denoiser", images=zeros, noise_levels=[0.1]))


def test_spatial_codes_there_and_back(free: Served, graphs: tuple[Path, dict[str, bytes]]) -> None:
    rows = RNG.random((2, 41, 50, 1), np.float32)
    expected = free_models.run(graphs[1]["encode"], {"images": pad(rows, (42, 50))})[0]

    encoded = free.stub.Encode(pb.EncodeRequest(model_name="free-ae", images=images(rows)))
    np.testing.assert_array_equal(array(encoded.latents), expected)
    assert encoded.latents.shape == [2, 21, 25, 2]

    request = pb.DecodeRequest(
        model_name="free-ae", latents=encoded.latents, image_format=pb.IMAGE_FORMAT_FLOAT32, height=41
    )
    decoded = array(free.stub.Decode(request).images.tensor)
    assert decoded.shape == (2, 41, 50, 1)
    np.testing.assert_array_equal(decoded, free_models.run(graphs[1]["decode"], {"latents": expected})[0][:, :41])


def test_half_precision_codes(free: Served) -> None:
    rows = images(RNG.random((1, 8, 8, 1), np.float32))
    single = free.stub.Encode(pb.EncodeRequest(model_name="free-ae", images=rows))
    half = free.stub.Encode(pb.EncodeRequest(model_name="free-ae", images=rows, latent_format=pb.LATENT_FORMAT_FLOAT16))

    assert half.latents.data_type == DATA_TYPE_FLOAT16
    np.testing.assert_array_equal(array(half.latents), array(single.latents).astype(np.float16))


def test_squared_errors_are_those_of_the_cropped_images(free: Served, graphs: tuple[Path, dict[str, bytes]]) -> None:
    rows = RNG.random((2, 45, 33, 1), np.float32)
    request = pb.ReconstructRequest(model_name="free-ae", images=images(rows), image_format=pb.IMAGE_FORMAT_FLOAT32)

    answer = free.stub.Reconstruct(request)

    reconstructions = whole(graphs[1]["reconstruct"], rows)
    np.testing.assert_array_equal(array(answer.images.tensor), reconstructions)
    expected = np.mean((reconstructions.astype(np.float64) - rows) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(array(answer.squared_errors), expected, rtol=1e-6)


def test_samples_of_a_size(free: Served) -> None:
    request = pb.SampleRequest(model_name="free-ae", count=2, seed=7, include_latents=True, height=20, width=31)

    answer = free.stub.Sample(request)

    # A code of 31 columns is that of 32.
    assert answer.latents.shape == [2, 10, 16, 2]
    assert answer.images.tensor.shape == [2, 20, 31, 1]
    request.first_index, request.count = 1, 1
    np.testing.assert_array_equal(array(free.stub.Sample(request).latents)[0], array(answer.latents)[1])


def test_a_path_between_images_of_one_size(free: Served) -> None:
    ends = RNG.random((2, 12, 10, 1), np.float32)
    request = pb.InterpolateRequest(
        model_name="free-ae", from_images=images(ends[:1]), to_images=images(ends[1:]), steps=3
    )

    answer = free.stub.Interpolate(request)

    assert answer.images.tensor.shape == [3, 12, 10, 1]
    path = array(answer.latents)
    np.testing.assert_allclose(path[1], (path[0] + path[2]) / 2, rtol=1e-5)

    odd = [images(end[None, :11, :9]) for end in ends]
    request.from_images.CopyFrom(odd[0])
    request.to_images.CopyFrom(odd[1])
    assert free.stub.Interpolate(request).images.tensor.shape == [3, 11, 9, 1]
    request.from_latents.CopyFrom(tensor(path[:1]))
    # An end without pixels says nothing of a size to crop to.
    assert free.stub.Interpolate(request).images.tensor.shape == [3, 12, 10, 1]

    request.to_images.CopyFrom(images(np.zeros((1, 14, 10, 1), np.float32)))
    with pytest.raises(grpc.RpcError, match="expected ends of one shape"):
        free.stub.Interpolate(request)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (pb.SampleRequest(model_name="free-ae", count=1), "expected a height and a width"),
        (pb.SampleRequest(model_name="free-ae", count=1024, height=9999, width=9999), "pixels in the images"),
        (pb.DecodeRequest(model_name="free-ae", latents=LARGE), "got 3 of 160 x 160"),
        (
            pb.InterpolateRequest(model_name="free-ae", from_latents=SMALL, to_latents=SMALL, steps=1000),
            "steps: expected at most 65536 pixels in the images of a request, got 1000 of 16 x 16",
        ),
        (
            pb.DecodeRequest(model_name="free-ae", latents=tensor(np.zeros((1, 4, 4, 3), np.float32))),
            "expected latents (h, w, 2)",
        ),
        (
            pb.DecodeRequest(model_name="free-ae", latents=tensor(np.zeros((17, 128, 128, 2), np.float16))),
            "expected at most 65536 pixels in the images of a request",
        ),
        (
            pb.InterpolateRequest(
                model_name="free-ae",
                from_images=images(np.zeros((1, 63, 64, 1), np.uint8)),
                to_images=images(np.zeros((1, 63, 64, 1), np.uint8)),
                steps=1024,
            ),
            "steps: expected at most 65536 pixels",
        ),
        (
            pb.DenoiseRequest(model_name="free", images=images(np.zeros((1, 2**19 + 1, 1, 1), np.uint8))),
            "got 1048580",
        ),
        (
            pb.DecodeRequest(model_name="free-ae", latents=tensor(np.zeros((1, 8), np.float32))),
            "expected latents (h, w",
        ),
        (
            pb.DecodeRequest(model_name="free-ae", latents=tensor(np.zeros((1, 4, 4, 2), np.float32)), width=9),
            "width: expected 1 to 8",
        ),
        (pb.DenoiseRequest(model_name="free", images=images(np.zeros((1, 4, 4, 3), np.uint8))), "(N, H, W, 1)"),
        (pb.DenoiseRequest(model_name="free", images=images(np.zeros((1, 0, 4, 1), np.uint8))), "at least 1 pixels"),
        (pb.DenoiseRequest(model_name="whole", images=images(np.zeros((1, 65, 65, 1), np.uint8))), "whole image"),
        (
            pb.EncodeRequest(model_name="free-ae", images=images(np.ones((1, 4, 4, 1), np.float32)), latent_format=7),
            "FLOAT16",
        ),
    ],
)
def test_requests_that_are_refused(free: Served, request_: object, words: str) -> None:
    method = type(request_).__name__.removesuffix("Request")

    with pytest.raises(grpc.RpcError) as refused:
        getattr(free.stub, method)(request_)

    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in refused.value.details()


def test_one_image_without_a_batch_axis(free: Served) -> None:
    answer = free.stub.Denoise(pb.DenoiseRequest(model_name="free", images=images(np.zeros((6, 9, 1), np.uint8))))
    assert answer.images.tensor.shape == [1, 6, 9, 1]

    grey = free.stub.Denoise(pb.DenoiseRequest(model_name="free", images=images(np.zeros((6, 9, 4), np.uint8))))
    assert grey.images.tensor.shape == [6, 9, 4, 1]
