"""Bad bytes on streams, to model control and over HTTP: the same promises as for unary calls."""

import json
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st
from inference import open_inference_pb2 as oip

from tests.reliability.mutation import FUZZED, damaged
from tests.reliability.test_fuzz_requests import CALLERS_FAULTS, OPEN, TYPED, VALID, every_model
from tests.server.conftest import Served, metric, pixels, serving

NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
INFER = oip.ModelInferRequest.FromString(VALID[f"{OPEN}ModelInfer"].SerializeToString())
ITEMS = {
    name: pb.StreamRequest(id=name, **{name: VALID[f"{TYPED}{name.capitalize()}"]}).SerializeToString()
    for name in ("encode", "decode", "reconstruct", "denoise", "sample", "interpolate", "edit", "classify", "detect")
}
PIXELS = pixels(2)
INPUT = {"name": "images", "datatype": "UINT8", "shape": list(PIXELS.shape)}
IN_JSON = {"id": "r", "inputs": [{**INPUT, "data": PIXELS.ravel().tolist()}], "outputs": [{"name": "latents"}]}
IN_BYTES = {"inputs": [{**INPUT, "parameters": {"binary_data_size": PIXELS.nbytes}}]}
REFUSED = {200, 400, 404, 413}


@pytest.fixture(scope="module", params=["native", "grpcio"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Small limits; everything that may be asked for is on."""
    limits = {"max_request_rows": 64, "max_message_bytes": 2**20, "max_image_pixels": 2**16}
    more = {"model_control": True, "rest_port": 0}
    models = every_model(tmp_path_factory.mktemp("fuzz"))
    with serving(models, transport=request.param, poll_seconds=0, **limits, **more) as served:
        yield served


class Counted:
    """Every request sent to a method is counted, and none stays open."""

    def __init__(self, served: Served, method: str) -> None:
        self._served = served
        self._method = method
        self._before = self._total()
        self.sent = 0

    def check(self) -> None:
        assert self._total() - self._before == self.sent
        assert metric(self._served, "autoencoder_requests_in_flight", method=self._method) == 0
        assert self._served.stub.Encode(VALID[f"{TYPED}Encode"], timeout=30).latents.data

    def _total(self) -> float:
        return metric(self._served, "autoencoder_requests_total", method=self._method)


def codes_of_stream(answers: list[bytes]) -> list[str]:
    parsed = [pb.StreamResponse.FromString(answer) for answer in answers]
    return [NAMES[each.error.code] if each.HasField("error") else "OK" for each in parsed]


def codes_of_infer_stream(answers: list[bytes]) -> list[str]:
    parsed = [oip.ModelStreamInferResponse.FromString(answer) for answer in answers]
    return [each.error_message.partition(":")[0] or "OK" for each in parsed]


@pytest.mark.parametrize("name", ITEMS)
def test_damaged_items_of_a_stream(target: Served, name: str) -> None:
    send_damaged(target, f"{TYPED}Stream", ITEMS[name], ITEMS["encode"], codes_of_stream)


def test_damaged_items_of_an_infer_stream(target: Served) -> None:
    valid = INFER.SerializeToString()
    send_damaged(target, f"{OPEN}ModelStreamInfer", valid, valid, codes_of_infer_stream)


def send_damaged(
    target: Served, path: str, item: bytes, last: bytes, codes_of: Callable[[list[bytes]], list[str]]
) -> None:
    """Streams of damaged items, each with a right one at its end."""
    counted = Counted(target, path.rpartition("/")[2])

    @FUZZED
    @given(st.lists(damaged(item), max_size=6))
    def fuzz(damages: list[bytes]) -> None:
        call = target.channel.stream_stream(path)
        codes = codes_of(list(call(iter([*damages, last]), timeout=60)))
        counted.sent += len(damages) + 1
        assert len(codes) == len(damages) + 1
        assert "OK" in codes
        assert set(codes) <= CALLERS_FAULTS

    fuzz()
    counted.check()


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_damaged_model_control(target: Served, method: str) -> None:
    """No fuzzed name escapes the repository folder or unloads another model."""
    counted = Counted(target, method)
    valid: Any = getattr(oip, f"{method}Request")(model_name="multitask")
    valid.parameters["unload_dependents"].bool_param = False
    names = st.text(max_size=40) | st.sampled_from(
        ["multitask", "../vae", "/", ".", "..", "multitask/1", "\0", "x" * 9000]
    )

    @FUZZED
    @given(
        damaged(valid.SerializeToString()) | names.map(lambda name: type(valid)(model_name=name).SerializeToString())
    )
    def fuzz(payload: bytes) -> None:
        counted.sent += 1
        assert code_of(target.channel.unary_unary(f"{OPEN}{method}"), payload) in CALLERS_FAULTS

    fuzz()
    counted.check()
    assert {served.name for served in target.app.table.all()} >= {"vae", "fc-ae", "denoiser"}


def code_of(call: Any, payload: bytes) -> str:
    try:
        call(payload, timeout=60)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def post(target: Served, body: bytes, **headers: str) -> tuple[int, bytes]:
    named = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    return send(target, "/v2/models/vae.encode/infer", body, named)


def send(target: Served, path: str, body: bytes, headers: dict[str, bytes]) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", target.app.rest_port, timeout=60)
    try:
        connection.putrequest("POST", path, skip_host="host" in headers)
        for name, value in ({"content-length": str(len(body)).encode()} | headers).items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def check_post(target: Served, counted: Counted, body: bytes, **headers: str) -> None:
    counted.sent += 1
    status, answer = post(target, body, **headers)
    assert status in REFUSED
    if status != 200:
        assert json.loads(answer)["error"]


def test_damaged_documents(target: Served) -> None:
    counted = Counted(target, "ModelInfer")
    valid = json.dumps(IN_JSON).encode()
    assert post(target, valid)[0] == 200
    counted.sent += 1

    @FUZZED
    @given(damaged(valid))
    def fuzz(body: bytes) -> None:
        check_post(target, counted, body)

    fuzz()
    counted.check()


# Beyond 64 bits, beyond a float, beyond the digits that Python reads; texts that are no UTF-8.
EXTREMES = st.sampled_from([2**63, -(2**64), 10**400, -(10**400), 10**4200, 1e308, "\ud800", "\udfff\0"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | EXTREMES
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner))
PARTS = ["name", "datatype", "shape", "data", "parameters"]


def test_documents_with_anything_in_a_place(target: Served) -> None:
    counted = Counted(target, "ModelInfer")

    @FUZZED
    @given(part=st.sampled_from([*PARTS, "id", "inputs", "outputs", "all"]), value=VALUES)
    def fuzz(part: str, value: Any) -> None:
        changed: Any = json.loads(json.dumps(IN_JSON))
        if part in PARTS:
            changed["inputs"][0][part] = value
        elif part == "all":
            changed = value
        else:
            changed[part] = value
        check_post(target, counted, json.dumps(changed).encode())

    fuzz()
    counted.check()


def test_damaged_bytes_behind_documents(target: Served) -> None:
    counted = Counted(target, "ModelInfer")
    head = json.dumps(IN_BYTES).encode()
    valid = head + PIXELS.tobytes()
    assert post(target, valid, Inference_Header_Content_Length=str(len(head)))[0] == 200
    counted.sent += 1
    sizes = st.just(str(len(head))) | st.integers().map(str) | st.text("0123456789+-_xe. ", max_size=8)

    @FUZZED
    @given(damaged(valid), sizes)
    def fuzz(body: bytes, size: str) -> None:
        check_post(target, counted, body, Inference_Header_Content_Length=size)

    fuzz()
    counted.check()


def test_damaged_http(target: Served) -> None:
    """Bytes that are not HTTP are not counted as calls; the next caller is served."""
    body = json.dumps(IN_JSON).encode()
    opening = f"POST /v2/models/vae.encode/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    seen: Counter[bytes] = Counter()

    @FUZZED
    @given(damaged(opening), st.booleans())
    def fuzz(damage: bytes, whole: bool) -> None:
        with socket.create_connection(("127.0.0.1", target.app.rest_port or 0), timeout=60) as caller:
            caller.sendall(damage + (body if whole else b""))
            caller.shutdown(socket.SHUT_WR)
            try:
                answer = b"".join(iter(lambda: caller.recv(65536), b""))
            except ConnectionError:
                answer = b""
        seen[answer[:12]] += 1
        assert b" 500 " not in answer[:40]
        assert post(target, body)[0] == 200

    fuzz()
    assert sum(seen.values()) > 0
