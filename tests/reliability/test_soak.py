"""Memory, threads and counts after many mixed requests; `make soak` sends a million."""

import logging
import os
import random
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc

from examples.local_server import LISTENING, LocalServer, running
from tests.reliability.resources import MIB, Holding, counted
from tests.server.conftest import GOLDEN, images, pixels

_LOGGER = logging.getLogger(__name__)
REQUESTS = int(os.environ.get("TEST_REQUESTS", "3000"))
# numbers.md compares with the state after ten thousand.
WARM = min(10_000, REQUESTS // 2)
IN_FLIGHT = 64
LEAKY = Path(__file__).with_name("leaky_server.py")


def requests(seed: int) -> Iterator[tuple[str, object]]:
    """Every method in every size, a few wrong ones, for ever."""
    chosen = random.Random(seed)
    made = {
        rows: [
            ("Encode", pb.EncodeRequest(model_name="vae", images=images(pixels(rows)))),
            ("Reconstruct", pb.ReconstructRequest(model_name="fc-ae", images=images(pixels(rows)))),
            ("Denoise", pb.DenoiseRequest(model_name="denoiser", images=images(pixels(rows)), image_format=3)),
            ("Sample", pb.SampleRequest(model_name="vae", count=rows, seed=rows)),
            ("Classify", pb.ClassifyRequest(model_name="multitask", images=images(pixels(rows, (8, 8, 3))))),
            ("Encode", pb.EncodeRequest(model_name="nobody", images=images(pixels(rows)))),
        ]
        for rows in (1, 1, 2, 5, 16, 64)
    }
    while True:
        yield chosen.choice(made[chosen.choice(tuple(made))])


def drive(server: LocalServer, count: int, seed: int) -> Counter[str]:
    """Codes of so many calls, a few dozen at a time."""
    codes: Counter[str] = Counter()
    waiting: deque[grpc.Future] = deque()
    with grpc.insecure_channel(server.address) as channel:
        stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
        for (method, request), _ in zip(requests(seed), range(count), strict=False):
            waiting.append(getattr(stub, method).future(request, timeout=60))
            if len(waiting) == IN_FLIGHT:
                codes[waiting.popleft().code().name] += 1
        codes.update(call.code().name for call in waiting)
    return codes


@contextmanager
def leaking(log: Path) -> Iterator[LocalServer]:
    """The server that keeps what it gets."""
    command = [sys.executable, str(LEAKY), "--repository", str(GOLDEN), "--port", "0", "--metrics-port", "0"]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            found = LISTENING.search(process.stdout.readline())
            yield LocalServer(found[1], found[2], process)
        finally:
            process.kill()


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("transport", ["native", "grpcio"])
def test_nothing_grows_and_every_call_is_counted_once(tmp_path: Path, transport: str) -> None:
    with running(GOLDEN, tmp_path / "server.log", "--transport", transport) as server:
        codes = drive(server, WARM, 1)
        warm = Holding.of(server.process.pid)
        codes += drive(server, REQUESTS - WARM, 2)
        now = Holding.of(server.process.pid)
        assert counted(server) == codes
    _LOGGER.info(
        "%s: %d requests, %.1f to %.1f MiB, %d to %d threads",
        *(transport, codes.total(), warm.rss_bytes / MIB, now.rss_bytes / MIB, warm.threads, now.threads),
    )
    assert set(codes) == {"OK", "NOT_FOUND"}
    assert not now.leaked(warm)
    # Pools grow to their bounds, once.
    assert now.threads <= warm.threads + 8


def test_a_planted_leak_is_caught(tmp_path: Path) -> None:
    with leaking(tmp_path / "server.log") as server:
        drive(server, WARM, 1)
        warm = Holding.of(server.process.pid)
        drive(server, max(REQUESTS - WARM, 4000), 2)
        assert Holding.of(server.process.pid).leaked(warm)
