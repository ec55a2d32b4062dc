"""Production faults injected on purpose: after each, every call is counted once and no resource is left behind."""

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc
from onnx import helper, numpy_helper

from examples.local_server import LISTENING, LocalServer, running
from tests.reliability.accounting import QUICK, SLOW, await_arrival, check_healthy, client, code_of, ended, settle
from tests.reliability.resources import Holding, counted
from tests.server.conftest import GOLDEN, copy_version, images, pixels, write_graph, write_slow_denoiser
from tests.server.raw_http2 import DATA, RawConnection

# `make chaos` does more of everything.
SCALE = int(os.environ.get("TEST_SCALE", "1"))
QUEUE = ("--max-queue-rows", "1024")
SMALL = pb.DenoiseRequest(model_name="slow", images=images(pixels(1, (32, 32, 1))))
SAMPLE = "/autoencoder.v1.AutoencoderService/Sample"
# Of 32 KiB each, far more than a connection's window.
ANSWERS = 20


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chaos") / "models"
    shutil.copytree(GOLDEN, folder, ignore=shutil.ignore_patterns("*.py"))
    write_slow_denoiser(folder, layers=10)
    table = numpy_helper.from_array(np.zeros(1, np.float32), "table")
    nodes = [
        helper.make_node("Cast", ["images"], ["index"], to=7),
        helper.make_node("Gather", ["table", "index"], ["denoised"]),
    ]
    write_graph(folder, "fragile", 1, nodes, [table])
    return folder


@pytest.fixture(scope="module", params=["native", "grpcio"])
def server(
    request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServer]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    host = ("--host", "::", "--lame-duck-seconds", "0")
    flags = ("--transport", request.param, *host, "--poll-seconds", "0.2", "--concurrent-runs", "1", *QUEUE)
    with running(repository, log, *flags) as started:
        yield started


@pytest.fixture
def stub(server: LocalServer) -> Iterator[autoencoder_pb2_grpc.AutoencoderServiceStub]:
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield autoencoder_pb2_grpc.AutoencoderServiceStub(channel)


@pytest.fixture(autouse=True)
def nothing_left(server: LocalServer) -> Iterator[None]:
    """No request open, no row waiting, no thread more than the pools may have, and quick answers to other callers."""
    check_healthy(server)
    before = Holding.of(server.process.pid)
    yield
    settle(server)
    check_healthy(server)
    after = Holding.of(server.process.pid)
    assert after.threads <= before.threads + 4
    assert after.rss_bytes <= before.rss_bytes * 2


def test_clients_killed_in_mid_request(server: LocalServer) -> None:
    def kill() -> None:
        for _ in range(SCALE):
            process = client(server, again=True)
            time.sleep(0.2)
            process.kill()
            process.communicate()

    codes = ended(server, kill)
    assert codes["CANCELLED"] > 0
    assert set(codes) <= {"OK", "CANCELLED", "RESOURCE_EXHAUSTED"}


def test_calls_of_clients_killed_are_all_counted(server: LocalServer) -> None:
    got = sum(counted(server).values())

    def kill() -> None:
        for number in range(SCALE):
            process = client(server, again=False)
            await_arrival(server, got + 100 * (number + 1))
            process.kill()
            process.communicate()

    codes = ended(server, kill)
    assert codes.total() == 100 * SCALE
    assert set(codes) <= {"OK", "CANCELLED", "RESOURCE_EXHAUSTED"}


def test_a_reader_that_stops_reading_holds_up_nobody(server: LocalServer) -> None:
    """Its answers pile up at the server: it lets no more come than a connection's first window."""
    request = pb.SampleRequest(model_name="vae", count=512, image_format=pb.IMAGE_FORMAT_NONE)
    sampled = 512 * 8 * 8
    received: list[int] = []

    def stop_reading() -> None:
        for _ in range(SCALE):
            got = sum(counted(server).values())
            with RawConnection(server.address) as reader:
                for number in range(ANSWERS):
                    reader.call(2 * number + 1, SAMPLE, request.SerializeToString())
                    await_arrival(server, got + 2 * number + 1)
                    # Two at a time would be more rows than may wait.
                    settle(server)
                    check_healthy(server)
                settle(server)
                received.append(sum(len(data) for kind, _, _, data in reader.frames(0.5) if kind == DATA))

    assert ended(server, stop_reading) == {"OK": 2 * ANSWERS * SCALE}
    assert max(received) < 65536 < 2 * 65536 < ANSWERS * sampled


def test_a_storm_of_cancellations(server: LocalServer, stub: autoencoder_pb2_grpc.AutoencoderServiceStub) -> None:
    seen: Counter[str] = Counter()

    def storm() -> None:
        calls = [stub.Denoise.future(SMALL, timeout=60) for _ in range(150 * SCALE)]
        for call in random.Random(1).sample(calls, len(calls) * 9 // 10):
            call.cancel()
        seen.update(code_of(call) for call in calls)

    codes = ended(server, storm)
    assert sum(seen.values()) == 150 * SCALE
    # Some were cancelled before they left the client, and some answers were on their way.
    assert sum(codes.values()) <= 150 * SCALE
    # The native transport may close a connection on which many calls are reset before it has received them.
    assert codes["OK"] >= seen["OK"] > 0 or seen["UNAVAILABLE"], (seen, codes)
    assert set(codes) <= {"OK", "CANCELLED", "RESOURCE_EXHAUSTED"}


def test_calls_cancelled_after_their_arrival_are_all_counted(
    server: LocalServer, stub: autoencoder_pb2_grpc.AutoencoderServiceStub
) -> None:
    got = sum(counted(server).values())
    seen: Counter[str] = Counter()

    def storm() -> None:
        for number in range(SCALE):
            calls = [stub.Denoise.future(SLOW, timeout=600) for _ in range(150)]
            await_arrival(server, got + 150 * (number + 1))
            for call in random.Random(number).sample(calls, 135):
                call.cancel()
            seen.update(code_of(call) for call in calls)

    codes = ended(server, storm)
    assert codes.total() == seen.total() == 150 * SCALE
    # An answer that was on its way when its caller cancelled is an answer here, and none there.
    assert all(codes[code] >= seen[code] for code in ("OK", "RESOURCE_EXHAUSTED"))
    assert set(codes) <= {"OK", "CANCELLED", "RESOURCE_EXHAUSTED"}


def test_a_storm_of_deadlines(server: LocalServer, stub: autoencoder_pb2_grpc.AutoencoderServiceStub) -> None:
    seen: Counter[str] = Counter()
    drawn = random.Random(2)

    def storm() -> None:
        calls = [stub.Denoise.future(SLOW, timeout=drawn.uniform(0.001, 0.3)) for _ in range(300 * SCALE)]
        seen.update(code_of(call) for call in calls)

    codes = ended(server, storm)
    assert sum(seen.values()) == 300 * SCALE
    # Some had no time to arrive.
    assert sum(codes.values()) <= 300 * SCALE
    assert all(codes[code] >= seen[code] for code in ("OK", "RESOURCE_EXHAUSTED"))
    assert set(codes) <= {"OK", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED"}


def test_a_flood_is_refused_and_all_is_counted(
    server: LocalServer, stub: autoencoder_pb2_grpc.AutoencoderServiceStub
) -> None:
    """Ten times what may wait; every call ends once, on both sides with the same code."""
    batch = pb.DenoiseRequest(
        model_name="slow", images=images(pixels(128, (32, 32, 1))), image_format=pb.IMAGE_FORMAT_NONE
    )
    seen: Counter[str] = Counter()

    def flood() -> None:
        calls = [stub.Denoise.future(batch) for _ in range(80)]
        for _ in range(20):
            check_healthy(server)
        seen.update(code_of(call) for call in calls)
        seen["OK"] += 20

    assert ended(server, flood) == seen
    assert set(seen) == {"OK", "RESOURCE_EXHAUSTED"}


def test_a_failing_model_fails_alone(server: LocalServer, stub: autoencoder_pb2_grpc.AutoencoderServiceStub) -> None:
    white = pb.DenoiseRequest(model_name="fragile", images=images(np.full((1, 32, 32, 1), 255, np.uint8)))

    def fail() -> None:
        # At most as many at a time as one connection and one caller may have.
        for _ in range(SCALE):
            calls = [stub.Denoise.future(white, timeout=30) for _ in range(30)]
            others = [stub.Encode.future(QUICK, timeout=30) for _ in range(100)]
            assert [call.details() for call in others if code_of(call) != "OK"] == []
            assert {code_of(call) for call in calls} <= {"INTERNAL", "UNAVAILABLE"}

    codes = ended(server, fail)
    assert codes["OK"] == 100 * SCALE
    assert codes["INTERNAL"] + codes["UNAVAILABLE"] == 30 * SCALE
    assert codes["INTERNAL"] > 0


def test_versions_come_and_go_under_load(server: LocalServer, repository: Path) -> None:
    """Half-copied, damaged, whole, deleted: requests keep being answered, and no caller notices."""
    over = threading.Event()

    def call() -> Counter[str]:
        codes: Counter[str] = Counter()
        with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
            while not over.is_set():
                codes[code_of(stub.Encode.future(QUICK, timeout=30))] += 1
        return codes

    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(call) for _ in range(4)]
        for _ in range(SCALE):
            shuffle_versions(repository, server)
        over.set()
        codes = sum((caller.result() for caller in callers), Counter())
    assert set(codes) == {"OK"}


def shuffle_versions(repository: Path, server: LocalServer) -> None:
    copy_version(repository, "vae", 2)
    wait_for_version(server, "2")
    half = repository / "vae" / "3"
    half.mkdir()
    shutil.copy(GOLDEN / "vae" / "1" / "encode.onnx", half)
    damaged = copy_version(repository, "vae", 4)
    (damaged / "decode.onnx").write_bytes(b"not what was promised")
    time.sleep(0.6)
    wait_for_version(server, "2")
    shutil.rmtree(half)
    shutil.rmtree(damaged)
    shutil.rmtree(repository / "vae" / "2")
    wait_for_version(server, "1")


def wait_for_version(server: LocalServer, version: str) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
        end = time.monotonic() + 30
        while stub.GetModel(pb.GetModelRequest(model_name="vae"), timeout=30).model.version != version:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_full_disk_under_the_log_stops_nobody() -> None:
    command = [sys.executable, "-m", "server", "--repository", str(GOLDEN), "--port", "0", "--metrics-port", "0"]
    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen([*command, "--log-level", "debug"], stdout=subprocess.PIPE, stderr=full, text=True) as process,
    ):
        try:
            found = LISTENING.search(process.stdout.readline())
            check_healthy(LocalServer(found[1], found[2], process))
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_durations_and_deadlines_do_not_follow_the_wall_clock() -> None:
    """A clock that is set changes no deadline, because none is taken from it."""
    # The times of records, and the age of a file.
    expected = {"run_statistics.py", "otlp.py", "grpcio.py"}
    sources = (Path(__file__).parents[2] / "server").rglob("*.py")
    users = {path.name for path in sources if "time.time(" in path.read_text() or "time.time_ns(" in path.read_text()}
    assert users == expected
