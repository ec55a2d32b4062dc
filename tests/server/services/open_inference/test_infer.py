"""ModelInfer, compared with the graphs run directly and with the typed service."""

from collections.abc import Callable

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2
from inference import open_inference_pb2 as pb
from inference.open_inference_pb2_grpc import GRPCInferenceServiceStub

from tests.server.conftest import Served, array, graph_run, images, metric, pixels
from tests.server.services.open_inference.conftest import arrays, failure, request, typed

GRAPHS = {
    "fc-ae.encode": ("images", pixels(5)),
    "fc-ae.decode": ("latents", np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)),
    "fc-ae.reconstruct": ("images", pixels(1)),
    "vae.encode": ("images", pixels(7)),
    "multitask.classify": ("images", pixels(2, (8, 8, 3))),
    "denoiser.denoise": ("images", np.random.default_rng(0).random((4, 8, 8, 1), np.float32)),
}


@pytest.mark.parametrize("form", [request, typed])
@pytest.mark.parametrize("name", GRAPHS)
def test_outputs_are_those_of_the_graph(
    stub: GRPCInferenceServiceStub, name: str, form: Callable[..., pb.ModelInferRequest]
) -> None:
    model, _, signature = name.partition(".")
    tensor_name, batch = GRAPHS[name]
    response = stub.ModelInfer(form(name, batch, tensor_name, id="öne", model_version="1"))
    assert (response.model_name, response.model_version, response.id) == (name, "1", "öne")
    assert bool(response.raw_output_contents) == (form is request)
    for actual, expected in zip(arrays(response).values(), graph_run(signature, model, batch), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("rows", [2, 300])
@pytest.mark.parametrize("name", ["vae.decode", "vae.reconstruct", "denoiser.denoise"])
def test_typed_outputs_of_any_number_are_those_of_raw_ones(
    stub: GRPCInferenceServiceStub, name: str, rows: int
) -> None:
    random = np.random.default_rng(0)
    batches = {"vae.decode": random.normal(size=(rows, 3)), "denoiser.denoise": random.random((rows, 8, 8, 1))}
    batch = batches[name].astype(np.float32) if name in batches else pixels(rows)
    tensor_name = "latents" if name == "vae.decode" else "images"
    raw, made = (arrays(stub.ModelInfer(form(name, batch, tensor_name))) for form in (request, typed))
    assert list(raw) == list(made)
    for output, expected in raw.items():
        np.testing.assert_array_equal(made[output], expected)


@pytest.mark.parametrize(
    ("model", "outputs"), [("vae", ["reconstructions", "squared_errors"]), ("denoiser", ["denoised"])]
)
def test_plain_name_takes_images_to_images(stub: GRPCInferenceServiceStub, model: str, outputs: list[str]) -> None:
    batch = pixels(2) if model == "vae" else np.full((2, 8, 8, 1), 0.5, np.float32)
    assert list(arrays(stub.ModelInfer(request(model, batch)))) == outputs


def test_outputs_come_in_the_order_asked_for(stub: GRPCInferenceServiceStub) -> None:
    batch = pixels(2)
    means, log_variances = graph_run("encode", "vae", batch)
    for names in (["log_variances"], ["log_variances", "latents"]):
        wanted = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in names]
        found = arrays(stub.ModelInfer(request("vae.encode", batch, outputs=wanted)))
        assert list(found) == names
        np.testing.assert_array_equal(found["log_variances"], log_variances)
    np.testing.assert_array_equal(found["latents"], means)


def test_unknown_parameters_are_ignored(stub: GRPCInferenceServiceStub) -> None:
    batch = pixels(1)
    made = request("vae.encode", batch)
    made.parameters["priority"].int64_param = 1
    made.inputs[0].parameters["content_type"].string_param = "np"
    assert stub.ModelInfer(made).outputs


def test_both_services_answer_alike_and_count_alike(server: Served, stub: GRPCInferenceServiceStub) -> None:
    batch = pixels(3, seed=5)
    rows = {"model": "vae", "signature": "encode"}
    before = metric(server, "autoencoder_rows_total", **rows)
    ours = server.stub.Encode(autoencoder_pb2.EncodeRequest(model_name="vae", images=images(batch)))
    theirs = arrays(stub.ModelInfer(request("vae.encode", batch)))
    np.testing.assert_array_equal(array(ours.latents), theirs["latents"])
    assert metric(server, "autoencoder_rows_total", **rows) == before + 6


@pytest.mark.parametrize(
    ("name", "series"),
    [("vae.encode", "autoencoder_latent_distance_count"), ("vae", "autoencoder_reconstruction_error_count")],
)
def test_drift_sees_the_protocol_too(server: Served, stub: GRPCInferenceServiceStub, name: str, series: str) -> None:
    before = metric(server, series, model="vae")
    stub.ModelInfer(request(name, pixels(4)))
    assert metric(server, series, model="vae") == before + 4


def test_each_request_is_counted_once(server: Served, stub: GRPCInferenceServiceStub) -> None:
    labels = {"method": "ModelInfer", "model": "fc-ae", "version": "1", "code": "OK"}
    before = metric(server, "autoencoder_requests_total", **labels)
    stub.ModelInfer(request("fc-ae.encode", pixels(1)))
    assert metric(server, "autoencoder_requests_total", **labels) == before + 1
    assert metric(server, "autoencoder_requests_in_flight", method="ModelInfer") == 0


def test_repeated_requests_are_answered_as_if_they_came_first(stub: GRPCInferenceServiceStub) -> None:
    rng = np.random.default_rng(0)
    for _ in range(80):
        name, rows, order = "vae.encode", int(rng.integers(1, 4)), int(rng.integers(2))
        sent = request(name, batch := pixels(rows, seed=int(rng.integers(4))), id=f"r{rng.integers(3)}")
        wanted = [["latents", "log_variances"], ["log_variances", "latents"]][order]
        sent.outputs.extend(pb.ModelInferRequest.InferRequestedOutputTensor(name=each) for each in wanted)
        response = stub.ModelInfer(sent)
        assert (response.model_name, response.id, [each.name for each in response.outputs]) == (name, sent.id, wanted)
        expected = dict(zip(("latents", "log_variances"), graph_run("encode", "vae", batch), strict=True))
        for output, actual in arrays(response).items():
            np.testing.assert_array_equal(actual, expected[output])


def test_values_of_repeated_requests_are_checked(stub: GRPCInferenceServiceStub) -> None:
    for name, tensor_name, shape in (("vae.decode", "latents", (1, 3)), ("denoiser.denoise", "images", (1, 8, 8, 1))):
        for value, refused in ((0.5, False), (np.nan, True), (0.25, False), (np.inf, True)):
            sent = request(name, np.full(shape, value, np.float32), tensor_name)
            if refused:
                assert failure(stub.ModelInfer, sent).code().name == "INVALID_ARGUMENT"
            else:
                assert stub.ModelInfer(sent).raw_output_contents


def test_many_at_a_time_get_their_own_rows(stub: GRPCInferenceServiceStub) -> None:
    sent = [request("fc-ae.encode", pixels(1 + seed % 3, seed=seed), id=str(seed % 5)) for seed in range(200)]
    calls = [stub.ModelInfer.future(each, timeout=60) for each in sent]
    for seed, call in enumerate(calls):
        assert call.result().id == str(seed % 5)
        expected = graph_run("encode", "fc-ae", pixels(1 + seed % 3, seed=seed))[0]
        np.testing.assert_array_equal(arrays(call.result())["latents"], expected)
