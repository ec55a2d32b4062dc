"""Log lines of a real server: one per request, no image data, no log injection by clients."""

import json
import logging
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from examples.local_server import running
from server.calls.call import Call
from server.calls.request_log import RequestLog
from server.log import JsonFormatter, TextFormatter
from tests.deploy.conftest import free_port
from tests.server.conftest import GOLDEN, images, pixels


@pytest.fixture(params=["native", "grpcio"])
def logged(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[grpc.Channel, Path]]:
    log = tmp_path / "server.log"
    flags = ("--transport", request.param, "--log-level", "debug", "--log-format", "json")
    with running(GOLDEN, log, *flags) as server, grpc.insecure_channel(server.address) as channel:
        yield channel, log


def request_lines(log: Path) -> list[dict]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line["logger"] == "server.calls.request_log"]


def test_every_request_is_one_json_line(logged: tuple[grpc.Channel, Path]) -> None:
    channel, log = logged
    stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
    sent = pixels(3)
    request = pb.EncodeRequest(model_name="vae", images=images(sent))
    stub.Encode(request, timeout=10, metadata=(("x-request-id", "caller-7"),))
    stub.Encode(request, timeout=10, metadata=(("x-request-id", 'bad id "quoted"'),))
    with pytest.raises(grpc.RpcError):
        stub.Encode(pb.EncodeRequest(model_name='no\n"body"', images=images(sent)), timeout=10)
    answered, renamed, refused = request_lines(log)
    assert (answered["level"], answered["code"], answered["request_id"]) == ("debug", "OK", "caller-7")
    assert (answered["method"], answered["model"], answered["version"]) == ("Encode", "vae", "1")
    assert (answered["rows"], answered["batch_size"]) == (3, 3)
    assert 0 < answered["run_ms"] <= answered["duration_ms"]
    assert re.fullmatch("[0-9a-f]{16}", renamed["request_id"])
    assert (refused["level"], refused["code"]) == ("info", "NOT_FOUND")
    assert "body" in refused["error"]
    text = log.read_text()
    assert all(str(row) not in text for row in sent[0, :, :, 0].tolist())


def test_what_libraries_tell_has_the_same_form_and_the_same_limit(tmp_path: Path) -> None:
    """Uvicorn warns about malformed HTTP requests, OpenTelemetry about an unreachable collector: both are limited."""
    log = tmp_path / "server.log"
    port = free_port()
    flags = ("--rest-port", str(port), "--otlp-endpoint", "http://127.0.0.1:1", "--log-format", "json")
    with running(GOLDEN, log, *flags, environment={"OTEL_BSP_SCHEDULE_DELAY": "100"}) as server:
        with grpc.insecure_channel(server.address) as channel:
            autoencoder_pb2_grpc.AutoencoderServiceStub(channel).ListModels(pb.ListModelsRequest(), timeout=10)
        started = time.monotonic()
        for _ in range(300):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(b"no HTTP\r\n\r\n")
                assert client.recv(1000).startswith(b"HTTP/1.1 400")
        seconds = time.monotonic() - started
    loggers = Counter(line["logger"].partition(".")[0] for line in map(json.loads, log.read_text().splitlines()))
    assert 1 <= loggers["uvicorn"] <= 100 * (seconds + 2)
    assert loggers["opentelemetry"] >= 1


def test_an_orderly_stop_is_no_error(tmp_path: Path, transport: str) -> None:
    """With callers who watch and who have a stream open."""
    log, over = tmp_path / "server.log", threading.Event()
    with ExitStack() as stack:
        with running(GOLDEN, log, "--transport", transport, "--log-format", "json") as server:
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            stack.callback(over.set)
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            stream = autoencoder_pb2_grpc.AutoencoderServiceStub(channel).Stream(open_until(over))
            assert next(stream).encode.latents.data
        assert codes(watch) == [health_pb2.HealthCheckResponse.NOT_SERVING, grpc.StatusCode.UNAVAILABLE]
        assert codes(stream) == [grpc.StatusCode.UNAVAILABLE]
    assert {json.loads(line)["level"] for line in log.read_text().splitlines()} == {"info"}


def open_until(over: threading.Event) -> Iterator[pb.StreamRequest]:
    yield pb.StreamRequest(encode=pb.EncodeRequest(model_name="vae", images=images(pixels(1))))
    over.wait()


def codes(answers: grpc.Call) -> list[object]:
    """What is left of a stream, and how it ended."""
    seen: list[object] = []
    try:
        for answer in answers:
            seen.append(answer.status)  # noqa: PERF401 (those before the error count)
    except grpc.RpcError as error:
        seen.append(error.code())
    return seen


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("server.x", logging.INFO, "x.py", 1, message, (), None)
    made.fields = fields
    return made


def test_text_lines_cannot_be_forged() -> None:
    line = TextFormatter().format(record("a\nb", error="c\nd", rows=3))
    assert "\n" not in line
    assert line.endswith("INFO server.x: a\\nb error='c\\nd' rows=3")


def test_json_lines_carry_exceptions() -> None:
    try:
        int("deep down")
    except ValueError as error:
        made = record("failed")
        made.exc_info = (type(error), error, error.__traceback__)
    line = JsonFormatter().format(made)
    assert "\n" not in line
    assert "ValueError: invalid literal" in json.loads(line)["exception"]


def test_a_flood_of_failures_is_no_flood_of_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "server.calls.request_log")
    log = RequestLog()
    call = Call("Encode", 0.0, 1.0, (), None, None, lambda *_: None)
    for _ in range(1000):
        log.finished(call, "RESOURCE_EXHAUSTED")
    written = [line for line in caplog.records if line.message == "Encode RESOURCE_EXHAUSTED"]
    assert 100 <= len(written) <= 200


def test_answers_cost_nothing_at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "server.calls.request_log")
    assert not RequestLog().wants("OK")
    assert RequestLog().wants("INTERNAL")
