"""Reading bodies and writing answers: authorisation first, timeouts, other callers are not blocked."""

import json
import socket
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inference import open_inference_pb2 as pb

from server.errors import InvalidArgumentError
from server.rest import json_arrays
from server.rest.infer_json import InferDocument, response_document
from tests.server.conftest import GOLDEN, graph_run, metric, pixels, write_slow_denoiser
from tests.server.rest.conftest import Rest, document, eventually, serving_rest

INFER = "/v2/models/vae.encode/infer"
LARGE = np.random.default_rng(0).random((500, 28, 28, 1), np.float32)


def opening(path: str, size: int, **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {size}", *map(": ".join, headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def until_closed(rest: Rest, sent: bytes) -> bytes:
    """All that comes back on a connection until the server ends it."""
    host, port = rest.address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as caller:
        caller.sendall(sent)
        return b"".join(iter(lambda: caller.recv(65536), b""))


def test_caller_without_a_token_is_refused_before_the_body(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("inference " + "t" * 20 + "\n")
    with serving_rest(GOLDEN, token_file=tokens, rest_body_seconds=3600) as own:
        host, port = own.address.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as caller:
            caller.sendall(opening(INFER, 1000))
            assert caller.recv(65536).startswith(b"HTTP/1.1 401 ")
        labels = {"method": "ModelInfer", "code": "UNAUTHENTICATED"}
        assert metric(own.served, "autoencoder_requests_total", **labels) == 1


def test_body_that_does_not_come_is_waited_for_so_long_alone() -> None:
    with serving_rest(GOLDEN, rest_body_seconds=0.2) as own:
        answer = until_closed(own, opening(INFER, 1000) + b"{")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"did not arrive within 0.2 s" in answer
        assert metric(own.served, "autoencoder_requests_total", method="ModelInfer", code="DEADLINE_EXCEEDED") == 1
        assert metric(own.served, "autoencoder_requests_in_flight") == 0
        assert own.post(INFER, document(pixels(1))).status == 200


def test_size_is_looked_at_while_a_body_comes() -> None:
    with serving_rest(GOLDEN, max_message_bytes=100_000, rest_body_seconds=3600) as own:
        host, port = own.address.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as caller:
            caller.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            for _ in range(2):
                caller.sendall(b"%x\r\n%b\r\n" % (60_000, bytes(60_000)))
            # The last chunk has not come.
            assert caller.recv(65536).startswith(b"HTTP/1.1 413 ")
        # More would be no use: that is no overload.
        labels = {"method": "ModelInfer", "code": "INVALID_ARGUMENT"}
        eventually(lambda: metric(own.served, "autoencoder_requests_total", **labels) == 1)


def test_stopping_server_leaves_no_call_open(repository: Path) -> None:
    write_slow_denoiser(repository, layers=120)
    rows = np.full((64, 32, 32, 1), 0.5, np.float32)
    given = {"name": "images", "datatype": "FP32", "shape": rows.shape, "parameters": {"binary_data_size": rows.nbytes}}
    head = json.dumps({"inputs": [given]}).encode()
    size = {"Inference-Header-Content-Length": str(len(head))}
    asked = opening("/v2/models/slow/infer", len(head) + rows.nbytes, **size) + head + rows.tobytes()
    with serving_rest(repository, drain_seconds=0.1) as own:
        host, port = own.address.split(":")
        callers = [socket.create_connection((host, int(port))) for _ in range(8)]
        for caller in callers:
            caller.sendall(asked)

        def count(name: str, **labels: str) -> float:
            return metric(own.served, f"autoencoder_requests_{name}", method="ModelInfer", **labels)

        # All have come in before it begins to stop.
        eventually(lambda: count("in_flight") + count("total") == len(callers))
    for caller in callers:
        caller.close()
    assert metric(own.served, "autoencoder_requests_in_flight") == 0
    assert count("total", code="OK") + count("total", code="UNAVAILABLE") == len(callers)
    assert count("total", code="UNAVAILABLE") > 0
    assert metric(own.served, "autoencoder_queue_rows", model="slow") == 0


def test_busy_server_tells_its_own_estimate(repository: Path) -> None:
    """As the same estimate over gRPC, in whole seconds."""
    write_slow_denoiser(repository, layers=120)
    asked = document(np.full((8, 32, 32, 1), 0.5, np.float32))
    with serving_rest(repository, max_queue_rows=8, max_request_rows=8) as own:
        refused: list[Any] = []

        def ask() -> None:
            while not refused:
                answer = own.post("/v2/models/slow/infer", asked)
                if answer.status != 200:
                    refused.append(answer)

        callers = [threading.Thread(target=ask) for _ in range(6)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
    assert {answer.status for answer in refused} == {429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


def large(data: list[Any]) -> bytes:
    given = {"name": "images", "datatype": "FP32", "shape": list(LARGE.shape), "data": data}
    return json.dumps({"inputs": [given]}).encode()


def read(body: bytes) -> bytes:
    return InferDocument("denoiser", "", body, None).message.raw_input_contents[0]


def write() -> bytes:
    response = pb.ModelInferResponse(model_name="m", raw_output_contents=[LARGE.tobytes()])
    response.outputs.add(name="denoised", datatype="FP32", shape=LARGE.shape)
    text, _ = response_document(InferDocument("m", "", b'{"inputs": []}', None), response)
    return np.float32(json.loads(text)["outputs"][0]["data"]).tobytes()


@pytest.mark.parametrize(
    "job",
    [lambda: read(large(LARGE.ravel().tolist())), lambda: read(large(LARGE.tolist())), write],
    ids=["flat", "nested", "written"],
)
def test_large_documents_keep_their_numbers(job: Callable[[], bytes]) -> None:
    assert job() == LARGE.tobytes()


def test_other_threads_run_while_numbers_are_read_and_written() -> None:
    """One call into C for all numbers would block every other thread."""
    texts = [json.dumps(LARGE.tolist()).encode(), json.dumps(LARGE.ravel().tolist()).encode()]
    jobs = [lambda each=each: json_arrays.from_text("data", "FP32", each, LARGE.shape) for each in texts]
    # By default threads change places every 5 ms, and how often that is depends on how fast the machine is.
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        turns = [turns_during(job) for job in [*jobs, lambda: json_arrays.text(LARGE.ravel())]]
    finally:
        sys.setswitchinterval(before)
    assert min(turns) > 10


def turns_during(job: Callable[[], object]) -> int:
    """How often this thread runs while another one does `job`."""
    worker = threading.Thread(target=job)
    worker.start()
    turns = 0
    while worker.is_alive():
        time.sleep(0)
        turns += 1
    return turns


def test_large_answers_are_whole_and_others_are_answered_meanwhile() -> None:
    batch = np.random.default_rng(0).random((1024, 8, 8, 1), np.float32)
    with serving_rest(GOLDEN) as own:
        answer = own.post("/v2/models/denoiser/infer", document(batch))
    (output,) = answer.document["outputs"]
    denoised = np.float32(output["data"]).reshape(output["shape"])
    np.testing.assert_allclose(denoised, graph_run("denoise", "denoiser", batch)[0], atol=1e-6)


# Each long enough to be cut out of its document: 40,000 elements.
MANY = 40_000
ODD: dict[str, tuple[str, list[int], str]] = {
    "surplus": ("[" + "1," * MANY + "1]", [MANY], "got 40001"),
    "ragged": ("[" + "[1,1],[1]," * (MANY // 2) + "[1]]", [MANY], "ragged"),
    "numbers outside brackets": ("[1[," + "1," * (MANY - 3) + "1]]", [1, MANY], "Invalid JSON"),
    "numbers behind brackets": ("[[" + "1," * (MANY - 2) + "1]1]", [1, MANY], "Invalid JSON"),
    "a number before a row": ("[" + "[" + "1," * 999 + "1]," + "1[" + "1," * 39_999 + "1]]", [MANY], "Invalid JSON"),
    "a number behind a row": ("[" + "[" + "1," * 999 + "1]1," + "[" + "1," * 39_999 + "1]]", [MANY], "Invalid JSON"),
    "closed too often": ("[1" + "]" * 2 * MANY, [1], "ragged|Invalid JSON"),
    "a list in a list in a list": ("[" * MANY + "1" + "]" * MANY, [1], "ragged|Invalid JSON"),
    "nothing between commas": ("[" + "1," * (MANY - 2) + ",1]", [MANY], "Invalid JSON"),
    "comma at the end": ("[" + "1," * (MANY - 1) + "]", [MANY], "Invalid JSON"),
    "no commas": ("[" + "1 " * MANY + "]", [1], "Invalid JSON"),
    "open": ("[" + "1," * (MANY - 1) + "1", [MANY], "Invalid JSON"),
    "too large": ("[" + "1," * (MANY - 1) + "256]", [MANY], "expected 0 to 255"),
    "too many bits": ("[" + "1," * (MANY - 1) + "1" * 30 + "]", [MANY], "expected numbers"),
    "fractions": ("[" + "1," * (MANY - 1) + "0.5]", [MANY], "got fractions"),
    "endless shape": ("[" + "1," * (MANY - 1) + "1]", [2**40] * 30, "expected as many elements"),
    "no shape": ("[" + "1," * (MANY - 1) + "1]", [], "expected as many elements"),
}


@pytest.mark.parametrize("long_bytes", [2**30, 0], ids=["at once", "in pieces"])
@pytest.mark.parametrize("case", ODD)
def test_odd_arrays_are_refused_as_short_ones_are(case: str, long_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_arrays, "_LONG_BYTES", long_bytes or json_arrays._LONG_BYTES)
    data, shape, words = ODD[case]
    assert len(data) > 65536
    body = f'{{"inputs": [{{"name": "x", "datatype": "UINT8", "shape": {shape}, "data": {data}}}]}}'
    with pytest.raises(InvalidArgumentError, match=words):
        InferDocument("vae", "", body.encode(), None)


# Each far longer than what is read at once.
REGULAR = {
    "flat": ([40_000], lambda numbers: numbers.tolist()),
    "as the shape": ([100, 4, 100, 1], lambda numbers: numbers.reshape(100, 4, 100, 1).tolist()),
    "rows": ([100, 4, 100, 1], lambda numbers: numbers.reshape(100, 400).tolist()),
    "a list per number": ([40_000], lambda numbers: numbers.reshape(40_000, 1, 1).tolist()),
    "one list too many": ([40_000], lambda numbers: [numbers.tolist()]),
}


@pytest.mark.parametrize("form", REGULAR)
@pytest.mark.parametrize("indent", [None, 1], ids=["dense", "indented"])
def test_long_arrays_of_any_regular_form_are_read(form: str, indent: int | None) -> None:
    numbers = np.random.default_rng(0).integers(0, 256, 40_000, dtype=np.uint8)
    shape, nest = REGULAR[form]
    given = {"name": "x", "datatype": "UINT8", "shape": shape, "data": nest(numbers)}
    body = json.dumps({"inputs": [given]}, indent=indent).encode()
    assert read(body) == numbers.tobytes()


@pytest.mark.parametrize(
    "case",
    [
        [1, [1] * 31, "," * (2**20 - 1)],
        [2**20, [1] * 31, "," * (2**20 - 1)],
        [2**20, [], "," * (2**20 - 1)],
    ],
    ids=["leading", "trailing", "flat"],
)
def test_brackets_of_a_shape_are_not_written_for_a_long_array(case: tuple[int, list[int], str]) -> None:
    size, more, data = case
    given = f'{{"name": "x", "datatype": "UINT8", "shape": {[size, *more]}, "data": [{data}]}}'
    # As many brackets as an array of lists has.
    body = f'{{"id": "{"[" * 20_000}", "inputs": [{given}]}}'.encode()
    tracemalloc.start()
    with pytest.raises(InvalidArgumentError):
        InferDocument("vae", "", body, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(body)


def test_a_long_document_without_arrays_is_refused_unparsed() -> None:
    outputs = [{"name": "latents"}] * 100_000
    with pytest.raises(InvalidArgumentError, match="at most 1048576 bytes of JSON besides arrays"):
        read(json.dumps({"inputs": [], "outputs": outputs}).encode())
    with pytest.raises(InvalidArgumentError, match="at most 64 items"):
        read(json.dumps({"inputs": [], "outputs": outputs[:65]}).encode())


@pytest.mark.parametrize(
    "body",
    [
        '{"inputs": [], "parameters": {"data": NUMBERS}}',
        '{"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1], "data": {"0": 0}}]}',
    ],
    ids=["elsewhere", "an object"],
)
def test_numbers_elsewhere_are_no_data(body: str) -> None:
    long = "[" + "1," * MANY + "1]"
    with pytest.raises(InvalidArgumentError):
        InferDocument("vae", "", body.replace("NUMBERS", long).encode(), None)


def test_text_that_looks_like_data_is_text() -> None:
    long = "[" + "1," * MANY + "1]"
    name = f'"data": {long}'
    asked = InferDocument("vae", "", json.dumps({"id": name, "inputs": []}).encode(), None)
    assert asked.message.id == name
