"""Reference points and metrics as JSON: against the bundle, the metrics page, and callers without a token."""

import base64
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.model_pb2 import Model

from bundle.latents import LatentStatistics
from server.rest.views import FAMILIES, reference_document
from tests.server.conftest import GOLDEN, copy_version, images, metric, pixels
from tests.server.explorer.models import NAMES, POINTS, add_points
from tests.server.free_models import write_autoencoder
from tests.server.rest.conftest import Rest, eventually, serving_rest


def decoded(message: dict[str, object]) -> np.ndarray:
    kind = {"DATA_TYPE_FLOAT16": np.float16, "DATA_TYPE_FLOAT32": np.float32}[str(message["data_type"])]
    return np.frombuffer(base64.b64decode(str(message["data"])), kind).reshape(message["shape"])


def test_reference_points_are_those_of_the_bundle(repository: Path) -> None:
    folder = copy_version(repository, "vae", 1)
    add_points(folder)
    statistics = LatentStatistics.from_bytes((folder / "latents.npz").read_bytes())
    with serving_rest(repository) as rest:
        answer = rest.get("/v1/models/vae/reference")
        by_version = rest.get("/v1/models/vae/reference?version=1")
    assert (answer.status, answer.body) == (200, by_version.body)
    document = answer.document
    assert (document["model_name"], document["model_version"]) == ("vae", "1")
    points = document["points"]
    assert points["coordinates"] == "latents"
    assert points["label_names"] == list(NAMES)
    assert statistics.reference_points is not None
    np.testing.assert_array_equal(decoded(points["values"]), statistics.reference_points)
    np.testing.assert_array_equal(points["labels"], statistics.reference_labels)
    assert len(points["labels"]) == POINTS
    axes = document["axes"]
    np.testing.assert_allclose(decoded(axes["mean"]), statistics.mean, rtol=1e-6)
    np.testing.assert_allclose(decoded(axes["components"]), statistics.components, rtol=1e-6)
    np.testing.assert_allclose(np.square(axes["deviations"]), statistics.variances)
    assert sum(axes["explained"]) == pytest.approx(1)


def test_older_bundles_have_axes_without_points(rest: Rest) -> None:
    document = rest.get("/v1/models/vae/reference").document
    assert document.keys() == {"model_name", "model_version", "axes"}


def test_models_without_a_single_latent_vector_have_neither(rest: Rest, repository: Path) -> None:
    assert rest.get("/v1/models/denoiser/reference").document == {"model_name": "denoiser", "model_version": "1"}
    write_autoencoder(repository)
    with serving_rest(repository) as free:
        assert free.get("/v1/models/free-ae/reference").document.keys() == {"model_name", "model_version"}


def test_wide_latents_are_shown_by_their_leading_axes() -> None:
    statistics = LatentStatistics.from_bytes((GOLDEN / "vae" / "1" / "latents.npz").read_bytes())
    wide = dataclasses.replace(
        statistics,
        mean=np.zeros(100_000),
        components=np.zeros((64, 100_000)),
        variances=np.ones(64),
        reference_points=np.ones((5, 16), np.float16),
    )

    class Served:
        name, version, statistics = "wide", "1", wide
        model = Model(height=8)

    document = reference_document(Served())  # type: ignore[arg-type]
    assert document["axes"]["components"]["shape"] == [2, 100_000]  # type: ignore[index]
    assert document["points"]["coordinates"] == "components"  # type: ignore[index]
    assert document["points"]["label_names"] == []  # type: ignore[index]


def test_an_unknown_model_is_named(rest: Rest) -> None:
    answer = rest.get("/v1/models/none/reference")
    assert answer.status == 404
    assert answer.document["error"].startswith("There is no model 'none': loaded are")


def test_metrics_are_those_of_the_metrics_page(rest: Rest) -> None:
    rest.served.stub.Encode(pb.EncodeRequest(model_name="vae", images=images(pixels(2))))
    wanted = {"method": "Encode", "model": "vae", "code": "OK"}
    eventually(lambda: metric(rest.served, "autoencoder_requests_total", **wanted) > 0)
    document = rest.get("/v1/metrics").document
    assert document["ready"] is True
    assert "versions serve" in document["reason"]
    counted = [
        sample["value"]
        for sample in document["samples"]
        if sample["name"] == "autoencoder_requests_total" and wanted.items() <= sample["labels"].items()
    ]
    assert counted == [metric(rest.served, "autoencoder_requests_total", **wanted)]
    names = {sample["name"] for sample in document["samples"]}
    assert all(any(name.startswith(family) for family in FAMILIES) for name in names)
    assert "autoencoder_latent_distance_count" in names
    assert "autoencoder_latent_distance_bucket" not in names


def test_families_exist(rest: Rest) -> None:
    known = {family.name for family in rest.served.app.metrics.registry.collect()}
    assert set(FAMILIES) <= known


def test_an_unready_server_says_why(repository: Path) -> None:
    with serving_rest(repository) as empty:
        document = empty.get("/v1/metrics").document
        assert document["ready"] is False
        assert document["reason"].startswith("no model serves")
        assert empty.get("/v1/models/vae/reference").status == 503


def test_both_ask_for_a_token(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("inference a-token-of-the-tests\nadmin another-token-of-the-tests\n")
    with serving_rest(GOLDEN, token_file=tokens) as closed:
        for path in ("/v1/metrics", "/v1/models/vae/reference"):
            assert closed.get(path).status == 401
            assert closed.get(path, Authorization="Bearer another-token-of-the-tests").status == 403
            assert closed.get(path, Authorization="Bearer a-token-of-the-tests").status == 200
        assert closed.get("/explorer/").status == 200
