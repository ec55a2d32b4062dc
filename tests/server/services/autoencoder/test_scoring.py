"""Score, and Sample through a learned prior, on both transports: noise, binary images, limits, and what is refused."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.model_pb2 import Likelihood
from inference import open_inference_pb2 as oip
from inference import open_inference_pb2_grpc

from bundle.density import likelihood
from bundle.latents import standard
from tests.server import score_models
from tests.server.conftest import GOLDEN, TRANSPORTS, Served, array, images, metric, pixels, serving
from tests.server.models.test_manager import eventually
from tests.server.score_models import SHIFT, SIDE, SIZE

SHAPE = (SIDE, SIDE, 1)
MODELS = ("scorer", "binary", "learned")
LIMIT = 6000


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    score_models.write_scorer(folder)
    score_models.write_scorer(folder, "binary", likelihood=Likelihood(distribution="bernoulli", binarised=True))
    score_models.write_scorer(folder, "learned", learned=True)
    shutil.copytree(GOLDEN / "fc-ae", folder / "fc-ae")
    return folder


@pytest.fixture(scope="module", params=TRANSPORTS)
def served(request: pytest.FixtureRequest, repository: Path) -> Iterator[Served]:
    with serving(repository, transport=request.param, poll_seconds=0, max_score_rows=LIMIT) as made:
        yield made


def score(served: Served, batch: np.ndarray, name: str = "scorer", **more: Any) -> np.ndarray:
    answer = served.stub.Score(pb.ScoreRequest(model_name=name, images=images(batch), **more))
    assert answer.info.model_name == name
    return array(answer.log_likelihoods)


def expected(batch: np.ndarray, samples: int, seed: int, first: int = 0, *, binary: bool = False) -> np.ndarray:
    seen = likelihood.binarised(batch, seed, first) if binary else batch
    found: list[float] = []
    for index, image in enumerate(seen):
        noise = likelihood.sample_noise(seed, first + index, 0, samples, SIZE)
        weights = score_models.log_weights(np.repeat(image[None], samples, 0), noise)
        found.append(float(np.logaddexp.reduce(weights) - np.log(samples)))
    return np.array(found)


@pytest.mark.parametrize("samples", [1, 64, 1000])
@pytest.mark.parametrize("name", MODELS)
def test_scores_are_the_bounds_of_the_noise_of_the_seed(served: Served, name: str, samples: int) -> None:
    batch = pixels(5, SHAPE)
    wanted = expected(batch, samples, 7, binary=name == "binary")
    np.testing.assert_allclose(score(served, batch, name, samples=samples, seed=7), wanted, rtol=1e-5, atol=1e-4)


def test_a_score_does_not_depend_on_its_company(served: Served) -> None:
    batch = pixels(5, SHAPE, seed=3)
    together = score(served, batch, "binary", samples=50, seed=2**64 - 1)
    for index in range(5):
        alone = score(served, batch[index : index + 1], "binary", samples=50, seed=2**64 - 1, first_index=index)
        np.testing.assert_array_equal(alone, together[index : index + 1])
    assert len(set(score(served, np.repeat(batch[:1], 3, 0), samples=4, seed=1))) == 3


def test_no_samples_are_64_and_a_seed_is_drawn_and_returned(served: Served) -> None:
    batch = pixels(2, SHAPE)
    first, second = (
        served.stub.Score(pb.ScoreRequest(model_name="scorer", images=images(batch), samples=samples))
        for samples in (0, 64)
    )
    assert first.HasField("seed")
    assert first.seed != second.seed
    for answer in (first, second):
        np.testing.assert_allclose(array(answer.log_likelihoods), expected(batch, 64, answer.seed), rtol=1e-5)


def test_black_and_white_images_stay_as_they_are(served: Served) -> None:
    batch = np.where(pixels(3, SHAPE) > 127, 255, 0).astype(np.uint8)
    wanted = score(served, batch, samples=9, seed=5)
    np.testing.assert_array_equal(score(served, batch, "binary", samples=9, seed=5), wanted)
    np.testing.assert_array_equal(score(served, (batch / 255).astype(np.float32), samples=9, seed=5), wanted)


def test_over_a_stream(served: Served) -> None:
    batch = pixels(2, SHAPE)
    wanted = score(served, batch, samples=9, seed=5)
    request = pb.ScoreRequest(model_name="scorer", images=images(batch), samples=9, seed=5)
    (answer,) = served.stub.Stream(iter([pb.StreamRequest(id="a", score=request)]))
    np.testing.assert_array_equal(array(answer.score.log_likelihoods), wanted)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"samples": -1}, "samples: expected 1 to 6000 samples an image, or 0 for 64, got -1"),
        ({"samples": 6001}, "samples: expected 1 to 6000 samples an image, or 0 for 64, got 6001"),
        (
            {"samples": 3001},
            "samples: expected at most 6000 samples of all images together, got 2 x 3001: ask for fewer, or send",
        ),
        ({"first_index": 2**64 - 1}, "first_index: expected images of indexes below 2^64, got 18446744073709551615"),
        ({"images": images(pixels(1, (5, 4, 1)))}, "images"),
        ({"images": pb.Images()}, "images: expected images as a tensor or as encoded files, got neither"),
        ({"images": images(np.full((1, *SHAPE), np.nan, np.float32))}, "images.tensor.data: expected"),
    ],
)
def test_what_cannot_be_scored_is_refused(served: Served, request_: dict[str, Any], text: str) -> None:
    whole = {"model_name": "scorer", "images": images(pixels(2, SHAPE)), **request_}
    with pytest.raises(grpc.RpcError) as error:
        served.stub.Score(pb.ScoreRequest(**whole))
    assert (error.value.code(), error.value.details()[: len(text)]) == (grpc.StatusCode.INVALID_ARGUMENT, text)


def test_a_limit_below_the_default_asks_for_a_number(repository: Path) -> None:
    with serving(repository, poll_seconds=0, max_score_rows=32) as small:
        with pytest.raises(grpc.RpcError) as error:
            score(small, pixels(1, SHAPE))
        assert error.value.details() == "samples: expected 1 to 32 samples an image, got 0, which means 64"
        assert score(small, pixels(1, SHAPE), samples=32).shape == (1,)


def test_a_model_without_it_says_what_it_serves(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as error:
        served.stub.Score(pb.ScoreRequest(model_name="fc-ae", images=images(pixels(1))))
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "has no Score: it serves Decode," in error.value.details()


def test_samples_go_through_a_learned_prior(served: Served) -> None:
    request = pb.SampleRequest(model_name="learned", count=5, seed=3, temperature=0.5, include_latents=True)
    answer = served.stub.Sample(request)
    wanted = score_models.SCALE * standard(3, 0, 5, SIZE, 0.5) + np.float32(SHIFT)
    np.testing.assert_array_equal(array(answer.latents), wanted)
    later = pb.SampleRequest(model_name="learned", count=2, seed=3, temperature=0.5, first_index=3)
    np.testing.assert_array_equal(
        array(served.stub.Sample(later).images.tensor), array(answer.images.tensor)[3:], strict=True
    )
    plain = served.stub.Sample(pb.SampleRequest(model_name="scorer", count=5, seed=3, include_latents=True))
    np.testing.assert_array_equal(array(plain.latents), standard(3, 0, 5, SIZE))


def test_the_graphs_are_models_of_the_open_inference_protocol(served: Served) -> None:
    stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(served.channel)
    batch, noise = pixels(3, SHAPE), standard(1, 0, 3, SIZE)

    def infer(name: str, **inputs: np.ndarray) -> np.ndarray:
        request = oip.ModelInferRequest(model_name=name)
        for key, value in inputs.items():
            request.inputs.add(name=key, datatype="UINT8" if value.dtype == np.uint8 else "FP32", shape=value.shape)
            request.raw_input_contents.append(value.tobytes())
        answer = stub.ModelInfer(request)
        return np.frombuffer(answer.raw_output_contents[0], np.float32)

    weights = infer("scorer.log_weights", noise=noise, images=batch)
    np.testing.assert_allclose(weights, score_models.log_weights(batch, noise), rtol=1e-4)
    points = infer("learned.prior", noise=noise).reshape(3, SIZE)
    np.testing.assert_allclose(
        infer("learned.log_density", latents=points), score_models.log_density(points), rtol=1e-5
    )
    metadata = stub.ModelMetadata(oip.ModelMetadataRequest(name="scorer.log_weights"))
    assert [(each.name, list(each.shape)) for each in metadata.inputs] == [
        ("images", [-1, *SHAPE]),
        ("noise", [-1, SIZE]),
    ]
    for inputs, text in (
        ({"images": batch}, "got no 'noise'"),
        ({"images": batch, "noise": noise[:2]}, "expected 3 rows, one an image, got 2"),
        ({"images": batch, "noise": noise * np.float32(np.nan)}, "finite"),
    ):
        with pytest.raises(grpc.RpcError) as error:
            infer("scorer.log_weights", **inputs)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert text in error.value.details()


def test_an_idle_model_with_a_learned_prior_costs_few_series(repository: Path) -> None:
    with serving(repository, poll_seconds=0) as fresh:
        shown = [
            sample
            for family in fresh.app.metrics.registry.collect()
            for sample in family.samples
            if sample.labels.get("model") == "learned"
        ]
        # Reconstruct beside these graphs, and a classifier.
        assert len(shown) + 3 * 2 <= 40
        fresh.stub.Sample(pb.SampleRequest(model_name="learned", count=3))
        labels = {"model": "learned", "signature": "prior"}
        assert metric(fresh, "autoencoder_rows_total", **labels) == 3
        assert metric(fresh, "autoencoder_self_test_max_error", **labels) < 1e-4


def test_drift_is_told_by_the_density_of_a_learned_prior(served: Served) -> None:
    batch = pixels(7, SHAPE, seed=5)
    labels = {"model": "learned", "version": "1"}
    before = metric(served, "autoencoder_latent_distance_count", **labels)
    summed = metric(served, "autoencoder_latent_distance_sum", **labels)
    outside = metric(served, "autoencoder_out_of_distribution_total", **labels, signal="latent")
    codes = array(served.stub.Encode(pb.EncodeRequest(model_name="learned", images=images(batch))).latents)
    energies = -score_models.log_density(codes)
    distances = np.sqrt(np.maximum(1 + 2 * (energies - score_models.ENERGIES[0]) / SIZE, 0))
    assert metric(served, "autoencoder_latent_distance_count", **labels) == before + 7
    assert metric(served, "autoencoder_latent_distance_sum", **labels) - summed == pytest.approx(distances.sum(), 1e-4)
    rare = int((energies > score_models.ENERGIES[1]).sum())
    assert 0 < rare < 7
    found = metric(served, "autoencoder_out_of_distribution_total", **labels, signal="latent")
    assert found == outside + rare


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_score_is_queued_a_part_at_a_time_and_ends_with_its_caller(repository: Path, transport: str) -> None:
    settings = {"max_batch_rows": 1, "concurrent_runs": 1, "poll_seconds": 0, "transport": transport}
    with serving(repository, **settings) as served:
        labels = {"model": "scorer", "signature": "log_weights"}
        request = pb.ScoreRequest(model_name="scorer", images=images(pixels(2, SHAPE)), samples=131_072)
        call = served.stub.Score.future(request)
        waiting = 0.0
        while metric(served, "autoencoder_rows_total", **labels) < 50:
            waiting = max(waiting, metric(served, "autoencoder_queue_rows", **labels))
            time.sleep(0.001)
        assert waiting <= 2
        call.cancel()
        eventually(lambda: metric(served, "autoencoder_requests_total", method="Score", code="CANCELLED") == 1)
        eventually(lambda: metric(served, "autoencoder_queue_rows", **labels) == 0)
        with pytest.raises(grpc.RpcError) as error:
            served.stub.Score(request, timeout=0.05)
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        score(served, pixels(1, SHAPE), samples=2)
        assert metric(served, "autoencoder_rows_total", **labels) < 262_144
        eventually(lambda: metric(served, "autoencoder_requests_in_flight", method="Score") == 0)
