"""Every RPC on both transports, compared with the graphs run directly."""

import io

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from PIL import Image

from bundle.latents import LatentStatistics
from bundle.layout import LATENTS_FILE
from bundle.noise import SCHEME, Purpose, normals
from tests.server.conftest import GOLDEN, Served, array, graph_run, images, pixels, tensor

UINT8_GRID = 255.0


def statistics(model: str) -> LatentStatistics:
    return LatentStatistics.from_bytes((GOLDEN / model / "1" / LATENTS_FILE).read_bytes())


@pytest.mark.parametrize("model", ["fc-ae", "vae", "multitask"])
def test_encode(server: Served, model: str) -> None:
    batch = pixels(5, (8, 8, 3) if model == "multitask" else (8, 8, 1))
    answer = server.stub.Encode(pb.EncodeRequest(model_name=model, images=images(batch)))
    expected = graph_run("encode", model, batch)
    np.testing.assert_array_equal(array(answer.latents), expected[0])
    assert answer.HasField("log_variances") == (model != "fc-ae")
    if model != "fc-ae":
        np.testing.assert_array_equal(array(answer.log_variances), expected[1])
    assert (answer.info.model_name, answer.info.model_version, answer.info.batch_size) == (model, "1", 5)
    assert answer.info.run_microseconds > 0
    assert not answer.HasField("seed")


@pytest.mark.parametrize("form", ["grey", "float32", "float16", "float_grid"])
def test_images_come_in_every_form(server: Served, form: str) -> None:
    batch = pixels(3)
    sent = {
        "grey": batch[..., 0],
        "float32": (batch / UINT8_GRID).astype(np.float32),
        "float16": (batch / UINT8_GRID).astype(np.float16),
        "float_grid": ((batch + np.float32(0.4)) / UINT8_GRID).clip(0, 1).astype(np.float32),
    }[form]
    answer = server.stub.Encode(pb.EncodeRequest(model_name="fc-ae", images=images(sent)))
    np.testing.assert_array_equal(array(answer.latents), graph_run("encode", "fc-ae", batch)[0])


def test_decode_in_every_format(server: Served) -> None:
    latents = np.random.default_rng(3).normal(size=(4, 4)).astype(np.float32)
    (expected,) = graph_run("decode", "fc-ae", latents)

    def decode(image_format: int) -> pb.Images:
        request = pb.DecodeRequest(model_name="fc-ae", latents=tensor(latents), image_format=image_format)
        return server.stub.Decode(request).images

    np.testing.assert_array_equal(array(decode(pb.IMAGE_FORMAT_FLOAT32).tensor), expected)
    grid = np.rint(expected * UINT8_GRID).astype(np.uint8)
    np.testing.assert_array_equal(array(decode(pb.IMAGE_FORMAT_UNSPECIFIED).tensor), grid)
    np.testing.assert_array_equal(array(decode(pb.IMAGE_FORMAT_UINT8).tensor), grid)
    files = decode(pb.IMAGE_FORMAT_PNG).encoded.files
    drawn = np.stack([np.asarray(Image.open(io.BytesIO(file)))[..., None] for file in files])
    np.testing.assert_array_equal(drawn, grid)
    assert decode(pb.IMAGE_FORMAT_NONE).WhichOneof("source") is None


def test_decode_takes_half_precision(server: Served) -> None:
    latents = np.random.default_rng(3).normal(size=(2, 4)).astype(np.float16)
    request = pb.DecodeRequest(model_name="fc-ae", latents=tensor(latents), image_format=pb.IMAGE_FORMAT_FLOAT32)
    (expected,) = graph_run("decode", "fc-ae", latents.astype(np.float32))
    np.testing.assert_array_equal(array(server.stub.Decode(request).images.tensor), expected)


def test_reconstruct(server: Served) -> None:
    batch = pixels(6)
    request = pb.ReconstructRequest(model_name="vae", images=images(batch), image_format=pb.IMAGE_FORMAT_FLOAT32)
    answer = server.stub.Reconstruct(request)
    reconstructions, errors = graph_run("reconstruct", "vae", batch)
    np.testing.assert_array_equal(array(answer.images.tensor), reconstructions)
    np.testing.assert_array_equal(array(answer.squared_errors), errors)
    np.testing.assert_allclose(errors, ((reconstructions - batch / UINT8_GRID) ** 2).mean((1, 2, 3)), rtol=1e-4)


def test_denoise_keeps_floats(server: Served) -> None:
    batch = np.random.default_rng(2).random((3, 8, 8, 1), np.float32)
    request = pb.DenoiseRequest(model_name="denoiser", images=images(batch), image_format=pb.IMAGE_FORMAT_FLOAT32)
    (expected,) = graph_run("denoise", "denoiser", batch)
    np.testing.assert_array_equal(array(server.stub.Denoise(request).images.tensor), expected)


def test_denoise_scales_bytes(server: Served) -> None:
    batch = pixels(3)
    request = pb.DenoiseRequest(model_name="denoiser", images=images(batch), image_format=pb.IMAGE_FORMAT_FLOAT32)
    (expected,) = graph_run("denoise", "denoiser", batch.astype(np.float32) / np.float32(UINT8_GRID))
    np.testing.assert_array_equal(array(server.stub.Denoise(request).images.tensor), expected)


def test_classify(server: Served) -> None:
    batch = pixels(4, (8, 8, 3))
    answer = server.stub.Classify(pb.ClassifyRequest(model_name="multitask", images=images(batch)))
    np.testing.assert_array_equal(array(answer.probabilities), graph_run("classify", "multitask", batch)[0])
    model = server.stub.GetModel(pb.GetModelRequest(model_name="multitask")).model
    assert list(answer.labels) == list(model.labels)
    assert len(answer.labels) == answer.probabilities.shape[1]


@pytest.mark.parametrize(("model", "prior"), [("fc-ae", "mixture"), ("vae", "normal")])
def test_sample(server: Served, model: str, prior: str) -> None:
    request = pb.SampleRequest(
        model_name=model,
        count=5,
        seed=11,
        temperature=0.5,
        include_latents=True,
        image_format=pb.IMAGE_FORMAT_FLOAT32,
    )
    answer = server.stub.Sample(request)
    latents = statistics(model).sample(11, 0, 5, 0.5, prior)
    np.testing.assert_array_equal(array(answer.latents), latents)
    np.testing.assert_array_equal(array(answer.images.tensor), graph_run("decode", model, latents)[0])
    assert (answer.seed, answer.noise_scheme) == (11, SCHEME)


def test_sample_does_not_depend_on_the_count(server: Served) -> None:
    def draw(count: int) -> pb.SampleResponse:
        return server.stub.Sample(pb.SampleRequest(model_name="fc-ae", count=count, seed=7, include_latents=True))

    many, few = draw(1000), draw(3)
    np.testing.assert_array_equal(array(many.latents)[:3], array(few.latents))
    np.testing.assert_array_equal(array(many.images.tensor)[:3], array(few.images.tensor))


@pytest.mark.parametrize("model", ["fc-ae", "vae"])
def test_sample_goes_on_where_another_request_ended(server: Served, model: str) -> None:
    def draw(first: int, count: int) -> pb.SampleResponse:
        request = pb.SampleRequest(model_name=model, count=count, seed=7, first_index=first, include_latents=True)
        return server.stub.Sample(request)

    whole, parts = draw(0, 10), [draw(0, 4), draw(4, 6)]
    np.testing.assert_array_equal(np.concatenate([array(part.latents) for part in parts]), array(whole.latents))
    images = [array(part.images.tensor) for part in parts]
    np.testing.assert_array_equal(np.concatenate(images), array(whole.images.tensor))
    assert len(array(draw(2**64 - 1, 2).latents)) == 2


def test_sample_without_a_seed_tells_the_one_it_drew(server: Served) -> None:
    first = server.stub.Sample(pb.SampleRequest(model_name="vae", count=2))
    again = server.stub.Sample(pb.SampleRequest(model_name="vae", count=2, seed=first.seed))
    other = server.stub.Sample(pb.SampleRequest(model_name="vae", count=2))
    assert first.seed < 2**53
    assert first.images == again.images
    assert other.seed != first.seed
    assert not first.HasField("latents")


def test_sample_takes_seed_zero_and_temperature_zero(server: Served) -> None:
    answer = server.stub.Sample(
        pb.SampleRequest(model_name="vae", count=2, seed=0, temperature=0.0, include_latents=True)
    )
    assert answer.HasField("seed")
    np.testing.assert_array_equal(array(answer.latents), np.zeros((2, 3), np.float32))


def test_posterior_sample(server: Served) -> None:
    batch = pixels(4)
    request = pb.EncodeRequest(model_name="vae", images=images(batch), posterior=pb.POSTERIOR_SAMPLE, seed=5)
    answer = server.stub.Encode(request)
    means, log_variances = graph_run("encode", "vae", batch)
    expected = means + np.exp(0.5 * log_variances.astype(np.float64)) * normals(5, Purpose.ENCODE, 0, 4, 3)
    np.testing.assert_allclose(array(answer.latents), expected, rtol=1e-6)
    np.testing.assert_array_equal(array(answer.log_variances), log_variances)
    assert answer.seed == 5
    first = server.stub.Encode(
        pb.EncodeRequest(model_name="vae", images=images(batch[:1]), posterior=pb.POSTERIOR_SAMPLE, seed=5)
    )
    np.testing.assert_array_equal(array(first.latents), array(answer.latents)[:1])


def test_interpolate_between_images(server: Served) -> None:
    batch = pixels(2)
    request = pb.InterpolateRequest(
        model_name="vae",
        from_images=images(batch[:1]),
        to_images=images(batch[1:]),
        steps=5,
        image_format=pb.IMAGE_FORMAT_FLOAT32,
    )
    answer = server.stub.Interpolate(request)
    ends = graph_run("encode", "vae", batch)[0]
    path = array(answer.latents)
    np.testing.assert_array_equal(path[[0, -1]], ends)
    np.testing.assert_allclose(path[2], ends.mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(array(answer.images.tensor), graph_run("decode", "vae", path)[0])


def test_interpolate_on_a_great_circle(server: Served) -> None:
    ends = np.array([[3, 0, 0], [0, 1, 0]], np.float32)
    request = pb.InterpolateRequest(
        model_name="vae",
        from_latents=tensor(ends[:1]),
        to_latents=tensor(ends[1:]),
        steps=3,
        interpolation=pb.INTERPOLATION_SPHERICAL,
    )
    path = array(server.stub.Interpolate(request).latents)
    np.testing.assert_allclose(path[1], np.array([1, 1, 0]) * np.sqrt(0.5) * 2, rtol=1e-6, atol=1e-7)


def test_interpolate_mixes_images_and_latents(server: Served) -> None:
    batch = pixels(1)
    end = np.array([[1, 2, 3]], np.float32)
    request = pb.InterpolateRequest(model_name="vae", from_latents=tensor(end), to_images=images(batch), steps=2)
    expected = np.concatenate([end, graph_run("encode", "vae", batch)[0]])
    np.testing.assert_array_equal(array(server.stub.Interpolate(request).latents), expected)


@pytest.mark.parametrize("given", ["images", "latents"])
def test_edit(server: Served, given: str) -> None:
    batch = pixels(3)
    points = graph_run("encode", "vae", batch)[0]
    source = {"images": images(batch)} if given == "images" else {"latents": tensor(points)}
    shifts = [pb.AttributeShift(attribute="brightness", amount=amount) for amount in (2.0, -0.5)]
    answer = server.stub.Edit(
        pb.EditRequest(model_name="vae", shifts=shifts, image_format=pb.IMAGE_FORMAT_FLOAT32, **source)
    )
    moved = points + 1.5 * statistics("vae").attribute_directions[0]
    np.testing.assert_allclose(array(answer.latents), moved, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(array(answer.images.tensor), graph_run("decode", "vae", array(answer.latents))[0])


def file_of(picture: np.ndarray, kind: str, size: tuple[int, int] = (8, 8)) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).resize(size).save(stream, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_encoded_images(server: Served, kind: str) -> None:
    batch = pixels(3, (8, 8, 3))
    files = [file_of(picture, kind) for picture in batch]
    request = pb.EncodeRequest(model_name="multitask", images=pb.Images(encoded=pb.EncodedImages(files=files)))
    np.testing.assert_array_equal(
        array(server.stub.Encode(request).latents), graph_run("encode", "multitask", batch)[0]
    )


def test_jpeg_of_another_size_is_resized_when_asked(server: Served) -> None:
    picture = np.full((16, 16, 3), 200, np.uint8)
    encoded = pb.EncodedImages(files=[file_of(picture, "JPEG", (16, 16))], resize=True)
    answer = server.stub.Encode(pb.EncodeRequest(model_name="multitask", images=pb.Images(encoded=encoded)))
    expected = graph_run("encode", "multitask", np.full((1, 8, 8, 3), 200, np.uint8))[0]
    np.testing.assert_allclose(array(answer.latents), expected, atol=0.05)


def test_colour_becomes_grey(server: Served) -> None:
    picture = np.full((8, 8, 3), 100, np.uint8)
    encoded = pb.EncodedImages(files=[file_of(picture, "PNG")])
    answer = server.stub.Encode(pb.EncodeRequest(model_name="fc-ae", images=pb.Images(encoded=encoded)))
    expected = graph_run("encode", "fc-ae", np.full((1, 8, 8, 1), 100, np.uint8))[0]
    np.testing.assert_array_equal(array(answer.latents), expected)


def test_list_models(server: Served) -> None:
    models = server.stub.ListModels(pb.ListModelsRequest()).models
    assert [(model.name, model.version) for model in models] == [
        ("denoiser", "1"),
        ("fc-ae", "1"),
        ("multitask", "1"),
        ("vae", "1"),
    ]
    assert models[3] == server.stub.GetModel(pb.GetModelRequest(model_name="vae", model_version="1")).model


def test_large_requests_are_split_and_joined(server: Served) -> None:
    batch = pixels(1000)
    request = pb.ReconstructRequest(model_name="fc-ae", images=images(batch), image_format=pb.IMAGE_FORMAT_FLOAT32)
    answer = server.stub.Reconstruct(request)
    np.testing.assert_array_equal(array(answer.images.tensor), graph_run("reconstruct", "fc-ae", batch)[0])
    assert answer.info.batch_size < 1000


@pytest.mark.parametrize("path", ["/autoencoder.v1.AutoencoderService/Refine", "/autoencoder.v1.Nobody/Encode"])
def test_methods_of_other_builds(server: Served, path: str) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        server.channel.unary_unary(path)(b"")
    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert path in failed.value.details()
