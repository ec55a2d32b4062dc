"""Anything in headers, paths, parameters and documents of the HTTP port: no HTTP 500, each request counted once."""

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from tests.reliability.mutation import FUZZED, damaged
from tests.reliability.test_fuzz_protocols import IN_JSON, REFUSED, SCALARS, VALUES, Counted, check_post, send, target
from tests.reliability.test_fuzz_requests import TYPED, VALID
from tests.server.conftest import Served

__all__ = ["target"]  # the fixture

NAMES_OF_PARAMETERS = st.text(max_size=9) | st.sampled_from(["binary_data_size", "binary_data_output", "\ud800"])
PARAMETERS = st.dictionaries(NAMES_OF_PARAMETERS, SCALARS, max_size=4)


def test_any_parameters_of_documents(target: Served) -> None:
    counted = Counted(target, "ModelInfer")

    @FUZZED
    @given(PARAMETERS, PARAMETERS, PARAMETERS)
    def fuzz(of_request: Any, of_input: Any, of_output: Any) -> None:
        changed: Any = json.loads(json.dumps(IN_JSON)) | {"parameters": of_request}
        changed["inputs"][0]["parameters"] = of_input
        changed["outputs"][0]["parameters"] = of_output
        check_post(target, counted, json.dumps(changed).encode())

    fuzz()
    counted.check()


HEADERS = [
    "inference-header-content-length", "authorization", "content-encoding", "content-type", "expect", "host", "origin",
    "traceparent", "tracestate", "x-request-id",
]  # fmt: skip
NUMBERS = st.integers().map(str) | st.sampled_from(["9" * 5000, "-1", "1e9", "0x10", "+5", "1_0", "\u0663", "NaN"])


@pytest.mark.parametrize("path", ["models/vae.encode/infer", "repository/models/none/load", "repository/index"])
def test_any_headers(target: Served, path: str) -> None:
    values = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60) | NUMBERS
    body = json.dumps(IN_JSON).encode()

    @FUZZED
    @given(st.dictionaries(st.sampled_from(HEADERS), values, max_size=3))
    def fuzz(headers: dict[str, str]) -> None:
        sent = {name: value.encode("latin-1", "replace") for name, value in headers.items()}
        status, answer = send(target, f"/v2/{path}", body, sent)
        assert status in REFUSED | {403}
        assert status == 200 or answer

    fuzz()
    Counted(target, "ModelInfer").check()


@pytest.mark.parametrize("action", ["load", "unload"])
def test_any_document_to_model_control(target: Served, action: str) -> None:
    counted = Counted(target, f"RepositoryModel{action.capitalize()}")

    @FUZZED
    @given(st.fixed_dictionaries({"parameters": PARAMETERS | VALUES}) | VALUES)
    def fuzz(document: Any) -> None:
        counted.sent += 1
        status, _ = send(target, f"/v2/repository/models/none/{action}", json.dumps(document).encode(), {})
        assert status in {400, 404, 413}

    fuzz()
    counted.check()


@pytest.mark.parametrize("method", ["Encode", "Edit", "Sample", "Detect"])
def test_damaged_protobuf_json(target: Served, method: str) -> None:
    counted = Counted(target, method)
    valid = MessageToDict(VALID[f"{TYPED}{method}"], preserving_proto_field_name=True)
    fields = st.sampled_from([*valid, "model_name", "images", "count"])
    changes = st.dictionaries(fields, VALUES, max_size=3).map(lambda changed: json.dumps(valid | changed).encode())
    status, _ = send(target, f"/v1/{method}", json.dumps(valid).encode(), {})
    counted.sent += 1
    assert status == 200

    @FUZZED
    @given(damaged(json.dumps(valid).encode()) | changes)
    def fuzz(body: bytes) -> None:
        counted.sent += 1
        status, answer = send(target, f"/v1/{method}", body, {})
        assert status in REFUSED
        assert json.loads(answer)

    fuzz()
    counted.check()


def test_any_path(target: Served) -> None:
    parts = st.binary(max_size=12).map(lambda raw: "".join(f"%{byte:02X}" for byte in raw)) | st.sampled_from(
        ["vae", "vae.encode", "..", "%2F", "%ED%A0%80", "versions", "1", "9" * 5000, "-1", "infer", "load", "stats"]
    )

    @FUZZED
    @given(st.lists(parts, max_size=5))
    def fuzz(path: list[str]) -> None:
        status, _ = send(target, f"/v2/models/{'/'.join(path)}", json.dumps(IN_JSON).encode(), {})
        assert status in REFUSED | {307, 405}

    fuzz()
    Counted(target, "ModelInfer").check()
