"""What goes wrong in production, done on purpose; after each the books balance and nothing is left behind."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc
from onnx import helper, numpy_helper

from examples.local_server import LISTENING, LocalServer, running
from tests.server.conftest import GOLDEN, copy_version, images, pixels, write_graph, write_slow_denoiser

from .resources import Holding, counted, metrics

# `make chaos` does more of everything.
SCALE = int(os.environ.get("HOURGLASS_SCALE", "1"))
QUEUE = ("--max-queue-rows", "1024")
SLOW = pb.DenoiseRequest(model_name="slow", images=images(pixels(8, (32, 32, 1))), image_format=pb.IMAGE_FORMAT_NONE)
SMALL = pb.DenoiseRequest(model_name="slow", images=images(pixels(1, (32, 32, 1))))
QUICK = pb.EncodeRequest(model_name="vae", images=images(pixels(2)))
CLIENT = """
import sys, grpc
from autoencoder.v1 import autoencoder_pb2 as pb, autoencoder_pb2_grpc
request = pb.{kind}.FromString(bytes.fromhex(sys.argv[2]))
channel = grpc.insecure_channel(sys.argv[1])
call = getattr(autoencoder_pb2_grpc.AutoencoderServiceStub(channel), sys.argv[3])
calls = [call.future(request) for _ in range(100)]
print("sent", flush=True)
while True:
    for index, done in enumerate(calls):
        if done.done():
            calls[index] = call.future(request)
"""


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
    flags = ("--transport", request.param, "--poll-seconds", "0.2", "--concurrent-runs", "1", *QUEUE)
    with running(repository, log, *flags) as started:
        yield started


@pytest.fixture
def stub(server: LocalServer) -> Iterator[autoencoder_pb2_grpc.AutoencoderServiceStub]:
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield autoencoder_pb2_grpc.AutoencoderServiceStub(channel)


@pytest.fixture(autouse=True)
def nothing_left(server: LocalServer) -> Iterator[None]:
    """No request open, no row waiting, no thread more than the pools may have, and quick answers to honest callers."""
    honest(server)
    before = Holding.of(server.process.pid)
    yield
    settle(server)
    honest(server)
    after = Holding.of(server.process.pid)
    assert after.threads <= before.threads + 4
    assert after.rss_bytes <= before.rss_bytes * 2


def honest(server: LocalServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        autoencoder_pb2_grpc.AutoencoderServiceStub(channel).Encode(QUICK, timeout=30)


def settle(server: LocalServer) -> None:
    end = time.monotonic() + 60
    while metrics(server, "autoencoder_requests_in_flight") or metrics(server, "autoencoder_queue_rows"):
        assert time.monotonic() < end, "requests are stuck"
        time.sleep(0.05)


def ended(server: LocalServer, act: Callable[[], None]) -> Counter[str]:
    """Codes that the server counted while something was done."""
    before = Counter(counted(server))
    act()
    settle(server)
    return Counter(counted(server)) - before


def code_of(call: grpc.Future) -> str:
    try:
        return call.code().name
    except grpc.FutureCancelledError:
        return "CANCELLED"


def client(server: LocalServer, method: str, request: pb.DenoiseRequest | pb.SampleRequest) -> subprocess.Popen[str]:
    """A program that keeps a hundred calls open."""
    source = CLIENT.replace("{kind}", type(request).__name__)
    command = [sys.executable, "-c", source, server.address, request.SerializeToString().hex(), method]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "sent\n"
    return process


def test_clients_killed_in_mid_request(server: LocalServer) -> None:
    def kill() -> None:
        for _ in range(2 * SCALE):
            process = client(server, "Denoise", SLOW)
            time.sleep(0.2)
            process.kill()
            process.communicate()

    codes = ended(server, kill)
    assert codes["CANCELLED"] > 0
    assert set(codes) <= {"OK", "CANCELLED", "RESOURCE_EXHAUSTED"}


def test_a_reader_that_stops_reading_holds_up_nobody(server: LocalServer) -> None:
    def stop_reading() -> None:
        process = client(server, "Sample", pb.SampleRequest(model_name="vae", count=1024, image_format=2))
        try:
            process.send_signal(signal.SIGSTOP)
            for _ in range(50 * SCALE):
                honest(server)
        finally:
            process.kill()
            process.communicate()

    codes = ended(server, stop_reading)
    assert codes["OK"] >= 50 * SCALE
    # The reader asks for more rows than may wait.
    assert set(codes) <= {"OK", "CANCELLED", "RESOURCE_EXHAUSTED"}


def test_a_storm_of_cancellations(server: LocalServer, stub: autoencoder_pb2_grpc.AutoencoderServiceStub) -> None:
    seen: Counter[str] = Counter()

    def storm() -> None:
        calls = [stub.Denoise.future(SMALL, timeout=60) for _ in range(300 * SCALE)]
        for call in random.Random(1).sample(calls, len(calls) * 9 // 10):
            call.cancel()
        seen.update(code_of(call) for call in calls)

    codes = ended(server, storm)
    assert sum(seen.values()) == 300 * SCALE
    # Some were cancelled before they left the client, and some answers were on their way.
    assert sum(codes.values()) <= 300 * SCALE
    assert codes["OK"] >= seen["OK"] > 0
    assert set(codes) <= {"OK", "CANCELLED", "RESOURCE_EXHAUSTED"}


def test_a_storm_of_deadlines(server: LocalServer, stub: autoencoder_pb2_grpc.AutoencoderServiceStub) -> None:
    seen: Counter[str] = Counter()
    drawn = random.Random(2)

    def storm() -> None:
        calls = [stub.Denoise.future(SLOW, timeout=drawn.uniform(0.001, 0.3)) for _ in range(300 * SCALE)]
        seen.update(code_of(call) for call in calls)

    codes = ended(server, storm)
    assert sum(seen.values()) == 300 * SCALE
    assert codes["OK"] >= seen["OK"]
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
            honest(server)
        seen.update(code_of(call) for call in calls)
        seen["OK"] += 20

    assert ended(server, flood) == seen
    assert set(seen) == {"OK", "RESOURCE_EXHAUSTED"}


def test_a_failing_model_fails_alone(server: LocalServer, stub: autoencoder_pb2_grpc.AutoencoderServiceStub) -> None:
    white = pb.DenoiseRequest(model_name="fragile", images=images(np.full((1, 32, 32, 1), 255, np.uint8)))

    def fail() -> None:
        calls = [stub.Denoise.future(white, timeout=30) for _ in range(30 * SCALE)]
        others = [stub.Encode.future(QUICK, timeout=30) for _ in range(100 * SCALE)]
        assert {code_of(call) for call in others} == {"OK"}
        assert {code_of(call) for call in calls} <= {"INTERNAL", "UNAVAILABLE"}

    codes = ended(server, fail)
    assert codes["OK"] == 100 * SCALE
    assert codes["INTERNAL"] + codes["UNAVAILABLE"] == 30 * SCALE
    assert codes["INTERNAL"] > 0


def test_versions_come_and_go_under_load(server: LocalServer, repository: Path) -> None:
    """Half-copied, damaged, whole, deleted: somebody is always served, and nobody hears of it."""
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
            honest(LocalServer(found[1], found[2], process))
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_durations_and_deadlines_do_not_follow_the_wall_clock() -> None:
    """A clock that is set changes no deadline, because none is taken from it."""
    told = {"run_record.py", "tracing.py"}
    sources = (Path(__file__).parents[2] / "server").rglob("*.py")
    users = {path.name for path in sources if "time.time(" in path.read_text() or "time.time_ns(" in path.read_text()}
    assert users == told
