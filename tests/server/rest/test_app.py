"""The Open Inference Protocol over HTTP: JSON and binary answers against the graphs, errors, limits."""

import json
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from inference import open_inference_pb2 as pb

from tests.server.conftest import graph_run, metric, pixels
from tests.server.rest.conftest import Rest, document
from tests.server.services.open_inference.refusals import REFUSALS

IMAGES = pixels(3)
INFER = "/v2/models/vae.encode/infer"


def outputs(body: bytes) -> dict[str, np.ndarray]:
    return {
        output["name"]: np.float32(output["data"]).reshape(output["shape"]) for output in json.loads(body)["outputs"]
    }


@pytest.mark.parametrize("nested", [True, False])
def test_json_both_ways(rest: Rest, *, nested: bool) -> None:
    asked = document(IMAGES, id="r1")
    if not nested:
        asked["inputs"][0]["data"] = IMAGES.ravel().tolist()
    answer = rest.post(INFER, asked)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    told = answer.document
    assert (told["model_name"], told["model_version"], told["id"]) == ("vae.encode", "1", "r1")
    means, log_variances = graph_run("encode", "vae", IMAGES)
    np.testing.assert_array_equal(outputs(answer.body)["latents"], means)
    np.testing.assert_array_equal(outputs(answer.body)["log_variances"], log_variances)


def test_floats_and_a_version_in_the_path(rest: Rest) -> None:
    batch = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)
    answer = rest.post("/v2/models/denoiser/versions/1/infer", document(batch))
    np.testing.assert_array_equal(outputs(answer.body)["denoised"], graph_run("denoise", "denoiser", batch)[0])


def test_bytes_both_ways(rest: Rest) -> None:
    head = document(
        IMAGES, outputs=[{"name": "latents", "parameters": {"binary_data": True}}, {"name": "log_variances"}]
    )
    given = head["inputs"][0]
    del given["data"]
    given["parameters"] = {"binary_data_size": IMAGES.nbytes}
    encoded = json.dumps(head).encode()
    answer = rest.post(INFER, encoded + IMAGES.tobytes(), Inference_Header_Content_Length=str(len(encoded)))
    assert answer.status == 200
    size = int(answer.headers["inference-header-content-length"])
    latents, log_variances = json.loads(answer.body[:size])["outputs"]
    means, expected = graph_run("encode", "vae", IMAGES)
    assert latents["parameters"]["binary_data_size"] == means.nbytes == len(answer.body) - size
    np.testing.assert_array_equal(np.frombuffer(answer.body[size:], np.float32).reshape(3, 3), means)
    np.testing.assert_array_equal(np.float32(log_variances["data"]).reshape(3, 3), expected)


def test_all_outputs_in_bytes(rest: Rest) -> None:
    answer = rest.post(INFER, document(IMAGES, parameters={"binary_data_output": True}))
    size = int(answer.headers["inference-header-content-length"])
    assert answer.body[size:] == b"".join(array.tobytes() for array in graph_run("encode", "vae", IMAGES))


def test_health_and_metadata(rest: Rest) -> None:
    assert rest.get("/v2/health/live").document == {"live": True}
    assert rest.get("/v2/health/ready").document == {"ready": True}
    assert rest.get("/v2").document["name"] == "hourglass"
    assert rest.get("/v2/models/vae.encode").document["inputs"] == [
        {"name": "images", "datatype": "UINT8", "shape": [-1, 8, 8, 1]}
    ]
    assert rest.get("/v2/models/vae/versions/1/ready").document == {"name": "vae", "ready": True}
    assert rest.get("/v2/models/vae/config").document["version_policy"] == {"latest": {"num_versions": 1}}
    assert rest.get("/v2/models/nope/ready").status == 503
    assert rest.get("/v2/models/nope").status == 404
    assert {model["name"] for model in rest.post("/v2/repository/index", b"").document} == {
        "denoiser",
        "fc-ae",
        "multitask",
        "vae",
    }
    rest.post(INFER, document(IMAGES))
    (stats,) = rest.get("/v2/models/vae.encode/stats").document["model_stats"]
    assert stats["inference_stats"]["success"]["count"] >= 1
    assert len(rest.get("/v2/models/stats").document["model_stats"]) == 11


# What a JSON document cannot say, or says in another way: the two forms of contents, typed fields, garbage.
_UNSAYABLE = {"both forms", "wrong field", "two fields", "surplus data", "null in the name", "unknown graph"}


@pytest.mark.parametrize("case", sorted(set(REFUSALS) - _UNSAYABLE - {"no model", "empty graph"}))
def test_bad_request_is_refused_as_over_grpc(rest: Rest, case: str) -> None:
    bad, code, _ = REFUSALS[case]
    before = metric(rest.served, "autoencoder_requests_total", method="ModelInfer", code=code)
    head, binary = as_binary(bad)
    path = f"/v2/models/{bad.model_name}" + (f"/versions/{bad.model_version}" if bad.model_version else "")
    answer = rest.post(f"{path}/infer", head + binary, Inference_Header_Content_Length=str(len(head)))
    assert answer.status == {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404}[code]
    assert answer.document["error"]
    assert metric(rest.served, "autoencoder_requests_total", method="ModelInfer", code=code) == before + 1
    assert rest.post(INFER, document(IMAGES)).status == 200


def as_binary(message: pb.ModelInferRequest) -> tuple[bytes, bytes]:
    """A message of gRPC as a document with its data behind it."""
    told = MessageToDict(message, preserving_proto_field_name=True)
    head = {
        "inputs": [
            {
                "name": given.name,
                "datatype": given.datatype,
                "shape": list(given.shape),
                **inline(message, index),
            }
            for index, given in enumerate(message.inputs)
        ],
        "outputs": [
            {"name": output["name"], "parameters": dict.fromkeys(output.get("parameters", {}), 3)}
            for output in told.get("outputs", [])
        ],
    }
    return json.dumps(head).encode(), b"".join(message.raw_input_contents)


def inline(message: pb.ModelInferRequest, index: int) -> dict[str, Any]:
    given = message.inputs[index]
    if index < len(message.raw_input_contents):
        return {"parameters": {"binary_data_size": len(message.raw_input_contents[index])}}
    shared = {"shared_memory_region": "x"} if given.parameters else {}
    return {"parameters": shared, "data": [*given.contents.uint_contents, *given.contents.fp32_contents]}


ONE = document(pixels(1))


def with_data(data: Any, **fields: Any) -> dict[str, Any]:
    return {"inputs": [{**ONE["inputs"][0], "data": data, **fields}]}


BODIES: dict[str, tuple[Any, dict[str, str], str]] = {
    "empty": (b"", {}, "Invalid JSON"),
    "garbage": (b"\xff{", {}, "Invalid JSON"),
    "deep": (b"[" * 100_000, {}, "Invalid JSON"),
    "a list": ([], {}, "request"),
    "no inputs": ({}, {}, "inputs: "),
    "inputs of another kind": ({"inputs": {}}, {}, "inputs: "),
    "no name": ({"inputs": [{"datatype": "UINT8", "shape": [1]}]}, {}, "inputs.0.name"),
    "shape of texts": (with_data([0] * 64, shape=["1"]), {}, "inputs.0.shape"),
    "no data": (with_data(None), {}, "expected an array of numbers"),
    "a number": (with_data(7), {}, "expected an array of numbers"),
    "ragged": (with_data([[0], [0, 1]]), {}, "ragged"),
    "fractions for bytes": (with_data([0.5] * 64), {}, "expected numbers for UINT8, got fractions"),
    "nothing among numbers": (with_data([None] * 64), {}, "expected numbers for UINT8, got something else"),
    "truths for bytes": (with_data([True] * 64), {}, "got true and false"),
    "texts": (with_data(["0"] * 64), {}, "expected numbers for UINT8, got texts"),
    "a long text among short ones": (with_data([["x" * 20_000], *[[""]] * 20_000]), {}, "got texts"),
    "endless shape": (with_data([0] * 64, shape=[2**40] * 50_000), {}, "inputs.0.shape"),
    "truths for floats": (with_data([0.5, True] * 32, datatype="FP32"), {}, "for FP32, got true and false"),
    "a huge parameter": ({**ONE, "parameters": {"x": 10**400}}, {}, "parameters.x: expected a number within the range"),
    "a huge parameter of an input": (with_data([0] * 64, parameters={"x": -(10**400)}), {}, "inputs[0].parameters.x"),
    "a huge parameter of an output": (
        {**ONE, "outputs": [{"name": "latents", "parameters": {"x": 10**400}}]},
        {},
        "outputs[0].parameters.x",
    ),
    "a parameter of thousands of digits": (
        json.dumps(ONE).replace("{", '{"parameters": {"x": 1' + "0" * 5000 + "}, ", 1).encode(),
        {},
        "Invalid JSON",
    ),
    "a lone surrogate": (b'{"id": "\\ud800", "inputs": []}', {}, "Invalid JSON"),
    "too many bits": (with_data([2**70] * 64), {}, "expected numbers"),
    "beyond a byte": (with_data([256] * 64), {}, "expected 0 to 255"),
    "too few": (with_data([0] * 63), {}, "got 63"),
    "compressed": (ONE, {"Content_Encoding": "gzip"}, "content-encoding"),
    "size of JSON": (ONE, {"Inference_Header_Content_Length": "999999"}, "inference-header-content-length"),
    "a size of thousands of digits": (ONE, {"Inference_Header_Content_Length": "9" * 5000}, "the size of the JSON"),
    "no size of JSON": (ONE, {"Inference_Header_Content_Length": "-1"}, "inference-header-content-length"),
    "size beyond the body": (
        {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1], "parameters": {"binary_data_size": 5}}]},
        {},
        "binary_data_size",
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_bad_document_is_refused(rest: Rest, case: str) -> None:
    body, headers, words = BODIES[case]
    labels = {"method": "ModelInfer", "code": "INVALID_ARGUMENT"}
    before = metric(rest.served, "autoencoder_requests_total", **labels)
    answer = rest.post(INFER, body, **headers)
    assert answer.status == 400
    assert words in answer.document["error"]
    assert metric(rest.served, "autoencoder_requests_total", **labels) == before + 1


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "6.0", "-5"])
def test_bad_float_is_refused(rest: Rest, number: str) -> None:
    batch = document(np.full((1, 8, 8, 1), 0.5, np.float32))
    body = json.dumps(batch).replace("0.5", number, 1).encode()
    answer = rest.post("/v2/models/denoiser/infer", body)
    assert answer.status == 400
    assert "expected" in answer.document["error"]


def test_large_body_is_refused_unread(rest: Rest) -> None:
    answer = rest.post(INFER, b"", Content_Length=str(2**40))
    assert answer.status == 413
    chunks = (bytes(2**20) for _ in range(65))
    assert rest.send("POST", INFER, chunks, {}).status == 413


def test_unknown_paths_and_methods(rest: Rest) -> None:
    assert rest.get("/v1/models").status == 404
    assert rest.get(INFER).status == 405
    assert "error" in rest.get(INFER).document
