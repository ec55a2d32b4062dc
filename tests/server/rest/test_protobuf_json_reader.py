"""autoencoder.v1 over HTTP in protobuf JSON: the answers of gRPC, and bodies made to cost much."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from google.protobuf.json_format import MessageToDict, MessageToJson, Parse

from server.errors import InvalidArgumentError
from server.rest import protobuf_json_reader
from tests.server import free_models, score_models
from tests.server.conftest import copy_version, images, metric, pixels
from tests.server.rest.conftest import Answer, Rest, serving_rest


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    folder = tmp_path_factory.mktemp("models")
    for name in ("vae", "denoiser", "multitask"):
        copy_version(folder, name, 1)
    free_models.write_detector(folder)
    score_models.write_scorer(folder)
    with serving_rest(folder) as started:
        yield started


def call(rest: Rest, method: str, request: Any) -> Answer:
    return rest.post(f"/v1/{method}", MessageToDict(request))


PAGE = Path(__file__).parents[3] / "docs" / "open-inference.md"
VAE = {"model_name": "vae"}
BATCH = images(pixels(2))
CALLS: dict[str, Any] = {
    "Encode": pb.EncodeRequest(**VAE, images=BATCH, posterior=pb.POSTERIOR_SAMPLE, seed=2**63),
    "Decode": pb.DecodeRequest(**VAE, latents={"data_type": 3, "shape": [1, 3], "data": bytes(12)}),
    "Reconstruct": pb.ReconstructRequest(**VAE, images=images(pixels(300))),
    "Denoise": pb.DenoiseRequest(model_name="denoiser", images=BATCH, image_format=pb.IMAGE_FORMAT_PNG),
    "Sample": pb.SampleRequest(**VAE, count=3, seed=7, include_latents=True, image_format=pb.IMAGE_FORMAT_PNG16),
    "Interpolate": pb.InterpolateRequest(
        **VAE, from_images=images(pixels(1)), to_images=images(pixels(1, seed=1)), steps=3
    ),
    "Classify": pb.ClassifyRequest(model_name="multitask", images=images(pixels(2, (8, 8, 3)))),
    "Detect": pb.DetectRequest(
        model_name="detector", images=images(np.ones((1, 40, 60, 1), np.float32)), map_format=pb.IMAGE_FORMAT_FLOAT32
    ),
    "Score": pb.ScoreRequest(model_name="scorer", images=images(pixels(2, (4, 4, 1))), samples=9, seed=2**60),
    "ListModels": pb.ListModelsRequest(),
    "GetModel": pb.GetModelRequest(**VAE),
}


def test_the_page_names_every_path() -> None:
    named = re.findall(r"`(?:POST )?/v1/([A-Z][a-z]\w+)`", PAGE.read_text())
    unary = [method.name for method in pb.DESCRIPTOR.services_by_name["AutoencoderService"].methods]
    assert sorted(named) == sorted(name for name in unary if name != "Stream") == sorted([*CALLS, "Edit"])


@pytest.mark.parametrize("method", CALLS)
def test_answers_are_those_of_grpc(rest: Rest, method: str) -> None:
    before = metric(rest.served, "autoencoder_requests_total", method=method, code="OK")
    answer = call(rest, method, CALLS[method])
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    expected = getattr(rest.served.stub, method)(CALLS[method])
    got = Parse(answer.body, type(expected)())
    if hasattr(expected, "info"):
        assert got.info.model_name
        got.info.CopyFrom(expected.info)
    assert got == expected
    assert metric(rest.served, "autoencoder_requests_total", method=method, code="OK") == before + 2


def test_an_edit_is_refused_as_over_grpc(rest: Rest) -> None:
    request = pb.EditRequest(**VAE, images=BATCH, shifts=[pb.AttributeShift(attribute="x", amount=1)])
    answer = call(rest, "Edit", request)
    with pytest.raises(grpc.RpcError, match="expected one of brightness") as error:
        rest.served.stub.Edit(request)
    assert (answer.status, answer.document) == (400, {"error": error.value.details()})


def test_fields_have_the_names_of_the_proto_file_and_none_is_left_out(rest: Rest) -> None:
    batch = np.zeros((1, 16, 16, 1), np.float32)
    batch[0, 0, 0] = 1
    answer = call(rest, "Detect", pb.DetectRequest(model_name="detector", images=images(batch), threshold=0))
    document = answer.document
    assert document["regions"] == [{"image": 0, "top": 0, "left": 0, "height": 1, "width": 1, "score": 1.0}]
    assert (document["threshold"], document["map_threshold"], document["anomalous"]) == (0.0, 0.625, [True])
    assert document["scores"] == {"data_type": "DATA_TYPE_FLOAT32", "shape": [1], "data": "AACAPw=="}
    assert isinstance(document["info"]["run_microseconds"], str)
    assert "maps" not in document


def test_both_spellings_of_names_and_an_empty_body(rest: Rest) -> None:
    for name in ("model_name", "modelName"):
        assert rest.post("/v1/GetModel", {name: "vae"}).document["model"]["name"] == "vae"
    models = rest.post("/v1/ListModels", b"").document["models"]
    assert [model["name"] for model in models] == ["denoiser", "detector", "multitask", "scorer", "vae"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/v1/Stream", 404), ("POST", "/v1/Guess", 404), ("GET", "/v1/Encode", 405), ("POST", "/v1/", 404)],
)
def test_other_paths(rest: Rest, method: str, path: str, status: int) -> None:
    answer = rest.send(method, path, b"{}", {})
    assert (answer.status, "error" in answer.document) == (status, True)


def encode(data: Any) -> dict[str, Any]:
    return {**VAE, "images": {"tensor": {"data_type": "DATA_TYPE_UINT8", "shape": [100, 8, 8, 1], "data": data}}}


BASE64 = base64.b64encode(pixels(100).tobytes()).decode()


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("form", ["padded", "not padded", "safe in a URL", "escaped"])
def test_every_form_of_base64(rest: Rest, form: str, size: int) -> None:
    data = pixels(size).tobytes()
    text = base64.b64encode(data).decode()
    text = text.rstrip("=") if form != "padded" else text
    text = text.translate(str.maketrans("+/", "-_")) if form == "safe in a URL" else text
    request = encode(text)
    request["images"]["tensor"]["shape"][0] = size
    body = json.dumps(request)
    answer = rest.post("/v1/Encode", (body.replace("/", "\\/") if form == "escaped" else body).encode())
    assert answer.status == 200
    expected = rest.served.stub.Encode(pb.EncodeRequest(**VAE, images=images(pixels(size))))
    assert answer.document["latents"]["data"] == base64.b64encode(expected.latents.data).decode()


def test_many_files_that_are_short_and_long() -> None:
    files = [base64.b64encode(bytes([number % 256]) * (300 + number)).decode() for number in range(1024)]
    message = protobuf_json_reader.read(
        pb.DetectRequest, 1024, json.dumps({"images": {"encoded": {"files": files}}}).encode()
    )
    expected = [bytes([number % 256]) * (300 + number) for number in range(1024)]
    assert list(message.images.encoded.files) == expected


LONG = "x" * 600
BODIES: dict[str, tuple[Any, str]] = {
    "not JSON": (b"{", "request: expected a JSON object"),
    "not UTF-8": (b'{"model_name": "\xff"}', "request: expected a JSON object"),
    "a list": ([], "request: expected a JSON object, got another JSON value"),
    "deep": (b'{"images":' * 10_000, "request: expected a JSON object"),
    "unknown field": ({"modell": "vae"}, 'no field named "modell"'),
    "wrong type": ({"model_name": 3}, "expected EncodeRequest in protobuf JSON"),
    "a message that is a text": ({"images": "x"}, "expected EncodeRequest in protobuf JSON"),
    "a list for a message": ({"images": [[]]}, "expected EncodeRequest in protobuf JSON"),
    "unknown enumeration": ({"posterior": "POSTERIOR_MODE"}, "expected EncodeRequest in protobuf JSON"),
    "not base64": (encode("*" * 2000), "images.tensor.data: expected base64"),
    "padding inside": (encode("A" * 3 + "=" + "A" * 2000), "images.tensor.data: expected base64"),
    "padding between pieces": (encode("A" * (2**17 - 1) + "=" + "A" * 2000), "images.tensor.data: expected base64"),
    "a line break": (encode("A" * 1000 + "\n" + "A" * 1000), "images.tensor.data: expected base64"),
    "a short text that is not base64": (encode("A" * 8 + "$$$$"), "images.tensor.data: expected base64"),
    "a short line break": (encode("AAAA\nAAAA"), "images.tensor.data: expected base64"),
    "letters beyond ASCII": (encode("AAAé"), "images.tensor.data: expected base64"),
    "short padding inside": (encode("AAA=AAAA"), "images.tensor.data: expected base64"),
    "a file that is not base64": (
        {"images": {"encoded": {"files": ["AAAA", "A-_*"]}}},
        "images.encoded.files[1]: expected base64",
    ),
    "a long name": ({"model_name": LONG}, "request: expected texts of more than 512 bytes for fields of bytes only"),
    "a long key": ({LONG: 1}, "no field named"),
    "one field twice": (
        f'{{"images":{{"tensor":{{"data":"{BASE64}","data":"{BASE64}"}}}}}}'.encode(),
        "request: expected texts of more than 512 bytes for fields of bytes only, and each of them once",
    ),
    "too few bytes": (encode(BASE64[:-4000]), "images.tensor.data: expected 6400 bytes"),
    "many numbers": (
        {"images": {"tensor": {"shape": [1] * 100_000}}},
        "request: expected at most 5120 values, got more",
    ),
    "many messages": ({"images": {"encoded": {"files": [""] * 10_000}}}, "request: expected at most 5120 values"),
    "blanks": (b'{"model_name": "vae"' + b" " * 2_000_000 + b"}", "request: expected at most 1048576 bytes of JSON"),
    "quotes": (b'"' * 3_000_000, "request: expected at most 5120 values, got more"),
    "backslashes": (b'"' + b"\\" * 3_000_001 + b'"', "request: expected base64 in texts of more than 512 bytes"),
    "escaped quotes": (b'"' + b'\\"' * 1_000_000, "request: expected base64 in texts of more than 512 bytes"),
    "long texts": (
        b"[" + b",".join([b'"' + b"A" * 600 + b'"'] * 50_000) + b"]",
        "request: expected at most 5120 values, got more",
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_bad_bodies_are_refused_in_one_sentence(rest: Rest, case: str) -> None:
    body, text = BODIES[case]
    before = metric(rest.served, "autoencoder_requests_total", method="Encode", code="INVALID_ARGUMENT")
    answer = rest.post("/v1/Encode", body)
    assert (answer.status, list(answer.document)) == (400, ["error"])
    assert text in answer.document["error"]
    assert "\n" not in answer.document["error"]
    assert metric(rest.served, "autoencoder_requests_total", method="Encode", code="INVALID_ARGUMENT") == before + 1


def test_whatever_comes_is_read_or_refused() -> None:
    """Random changes of a document raise nothing else."""
    rng = np.random.default_rng(0)
    document = bytearray(MessageToJson(CALLS["Encode"], indent=None).encode())
    pieces = [b'"', b"\\", b"{", b"}", b"[", b"]", b"null", b"1e400", b"-1", b"NaN", b'"\\ud800"', b"true", b"A" * 600]
    for _ in range(2000):
        changed = bytearray(document)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(changed)))
            changed[at : at + int(rng.integers(4))] = pieces[rng.integers(len(pieces))]
        try:
            protobuf_json_reader.read(pb.EncodeRequest, 1024, bytes(changed))
        except InvalidArgumentError:
            continue


def test_tokens_and_message_limits_hold(repository: Path, tmp_path: Path) -> None:
    copy_version(repository, "vae", 1)
    tokens = tmp_path / "tokens"
    tokens.write_text("inference secret-of-many-letters\n")
    with serving_rest(repository, token_file=tokens, max_message_bytes=4096) as rest:
        assert rest.post("/v1/ListModels", {}).status == 401
        named = {"Authorization": "Bearer secret-of-many-letters"}
        assert rest.post("/v1/ListModels", {}, **named).status == 200
        assert rest.post("/v1/Encode", encode(BASE64), **named).status == 413
