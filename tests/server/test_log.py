"""Log lines of a real server: one per request, no image data, no log injection by clients."""

import io
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
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from examples.local_server import running
from server.calls.call import Call
from server.calls.request_log import RequestLog
from server.log import BackgroundHandler, JsonFormatter, LoggedStream, TextFormatter, hide_bytes, is_no_disconnect
from tests.deploy.conftest import free_port
from tests.server.conftest import GOLDEN, copy_version, images, pixels
from tests.server.models.test_loader import write_graph_that_fails_on_zeros
from tests.server.models.test_manager import eventually
from tests.server.raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RawConnection,
    frame,
    header_block,
    message,
)


@pytest.fixture(params=["native", "grpcio"])
def logged(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[grpc.Channel, Path]]:
    log = tmp_path / "server.log"
    flags = ("--transport", request.param, "--log-level", "debug", "--log-format", "json")
    with running(GOLDEN, log, *flags) as server, grpc.insecure_channel(server.address) as channel:
        yield channel, log


def request_lines(log: Path, count: int) -> list[dict]:
    """The first lines of calls; they are written soon after the answers."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        found = [line for line in lines if line["logger"] == "server.calls.request_log"]
        if len(found) >= count:
            return found
        time.sleep(0.01)
    raise AssertionError(log.read_text())


def test_every_request_is_one_json_line(logged: tuple[grpc.Channel, Path]) -> None:
    channel, log = logged
    stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
    sent = pixels(3)
    request = pb.EncodeRequest(model_name="vae", images=images(sent))
    stub.Encode(request, timeout=10, metadata=(("x-request-id", "caller-7"),))
    stub.Encode(request, timeout=10, metadata=(("x-request-id", 'bad id "quoted"'),))
    with pytest.raises(grpc.RpcError):
        stub.Encode(pb.EncodeRequest(model_name='no\n"body"', images=images(sent)), timeout=10)
    answered, renamed, refused = request_lines(log, 3)
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


def test_what_onnxruntime_says_is_in_lines_of_the_log(tmp_path: Path) -> None:
    """Its own are coloured text on the same descriptor."""
    copy_version(tmp_path / "models", "vae", 1)
    write_graph_that_fails_on_zeros(tmp_path / "models", "broken")
    log = tmp_path / "server.log"
    with running(tmp_path / "models", log, "--log-format", "json"):
        eventually(lambda: "indices element out of data bounds" in log.read_text())
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any("indices element out of data bounds" in line.get("exception", "") for line in lines)


ODD_BYTES = {
    "authorization": (b"/autoencoder.v1.AutoencoderService/ListModels", b"Bearer secret-of-a-caller\xff"),
    "path": (b"/autoencoder.v1.AutoencoderService/\xff\x1b[31mred", b"Bearer x"),
}


@pytest.mark.parametrize("place", ODD_BYTES)
def test_bytes_of_a_caller_that_are_not_text_reach_no_line(place: str, tmp_path: Path) -> None:
    path, authorization = ODD_BYTES[place]
    block = header_block("PATH", {"authorization": "VALUE"})
    block = block.replace(b"\x04PATH", bytes([len(path)]) + path)
    block = block.replace(b"\x05VALUE", bytes([len(authorization)]) + authorization)
    log = tmp_path / "server.log"
    with (
        running(GOLDEN, log, "--transport", "grpcio", "--log-level", "debug") as server,
        RawConnection(server.address) as connection,
    ):
        call = frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, message(b""))
        connection.socket.sendall(call)
        assert any(kind == HEADERS and flags & 1 for kind, flags, _, _ in connection.frames(20))
    written = log.read_text()
    assert "secret" not in written
    assert all(line.isprintable() for line in written.splitlines())


class FullPipe(io.StringIO):
    """Takes no line until it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read_again = threading.Event()

    def write(self, text: str) -> int:
        self.read_again.wait(60)
        return super().write(text)


def test_lines_that_find_no_room_are_lost_and_counted() -> None:
    pipe = FullPipe()
    handler = BackgroundHandler(pipe)
    handler.setFormatter(TextFormatter())
    for number in range(300):
        handler.emit(record(f"line {number} {'x' * 10_000}"))
    pipe.read_again.set()
    handler.flush()
    handler.emit(record("the last"))
    handler.flush()
    lines = pipe.getvalue().splitlines()
    kept = [int(line.split()[5]) for line in lines if " line " in line]
    assert kept == sorted(kept)
    # A hundred wait, and those that the thread has taken.
    assert 100 <= len(kept) <= 250
    assert sum(int(line.split()[4]) for line in lines if "log lines were lost" in line) == 300 - len(kept)
    assert any(line.endswith("the last") for line in lines)


def test_control_characters_are_escaped_in_tracebacks_too() -> None:
    made = record("a \x1b[2J \x85 b")
    made.exc_info = (ValueError, ValueError("\x1b[31mred\x1b[0m\r\nforged"), None)
    text = TextFormatter().format(made)
    assert "a \\x1b[2J \\x85 b" in text
    assert "ValueError: \\x1b[31mred\\x1b[0m\\r" in text
    assert all(line.isprintable() for line in text.split("\n"))


def test_bytes_that_a_library_logs_are_not_shown() -> None:
    made = logging.LogRecord("grpc", logging.ERROR, "x", 1, "Invalid encoding on %s", (b"Bearer secret\xff",), None)
    assert hide_bytes(made)
    assert made.getMessage() == "Invalid encoding on 14 bytes"


def test_that_a_caller_left_is_no_line() -> None:
    def failed(error: Exception) -> logging.LogRecord:
        return logging.LogRecord("grpc", logging.ERROR, "x.py", 1, "raised", (), (type(error), error, None))

    assert not is_no_disconnect(failed(cygrpc.ExecuteBatchError("Failed")))
    assert is_no_disconnect(failed(ValueError("no")))
    assert is_no_disconnect(record("x"))


def test_what_is_printed_to_standard_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    stream = LoggedStream(logging.getLogger("stderr"))
    print("one\ntwo", file=stream)
    print("thr", end="", file=stream)
    print("ee", file=stream)
    assert [line.getMessage() for line in caplog.records] == ["one", "two", "three"]
