"""What the machine does to the server: its clock is set, its memory runs out."""

import itertools
import json
import logging
import os
import re
import resource
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc
from hourglass_client import Client

from examples.local_server import LocalServer, running
from tests.deploy.conftest import component, free_port
from tests.deploy.faults import killable_server
from tests.reliability.accounting import QUICK, code_of, ended
from tests.reliability.resources import MIB
from tests.server.conftest import GOLDEN, pixels

_LOGGER = logging.getLogger(__name__)
SCALE = int(os.environ.get("TEST_SCALE", "1"))
DAY = 86_400
JUMPS = (3600, -3600, 365 * DAY, -20 * 365 * DAY, 0)
CALLERS = 4
SPARE_BYTES = 20 * MIB
LARGE_BYTES = 30 * MIB


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is preloaded."""
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).with_name("clock.c")
    command = [component("gcc"), "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, "-o", library, source, "-ldl"], check=True)
    return library


@contextmanager
def calling(call: Callable[[], object]) -> Iterator[Counter[str]]:
    """A few callers that go on and on; what each call came to."""
    codes: Counter[str] = Counter()
    over = threading.Event()

    def go_on() -> Counter[str]:
        seen: Counter[str] = Counter()
        while not over.is_set():
            seen[str(call())] += 1
        return seen

    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(go_on) for _ in range(CALLERS)]
        try:
            yield codes
        finally:
            over.set()
        codes.update(sum((caller.result() for caller in callers), Counter()))


@pytest.mark.parametrize("transport", ["native", "grpcio"])
def test_a_clock_that_is_set_changes_no_answer_and_no_deadline(clock: Path, tmp_path: Path, transport: str) -> None:
    offset, log = tmp_path / "offset", tmp_path / "log"
    set_clock(offset, 0)
    environment = {"LD_PRELOAD": str(clock), "CLOCK_OFFSET_FILE": str(offset)}
    flags = ("--transport", transport, "--log-format", "json", "--poll-seconds", "0.2", "--lame-duck-seconds", "1")
    with running(GOLDEN, log, *flags, environment=environment) as server, ExitStack() as stack:
        stub = autoencoder_pb2_grpc.AutoencoderServiceStub(stack.enter_context(grpc.insecure_channel(server.address)))

        def encode(request: pb.EncodeRequest = QUICK) -> str:
            return code_of(stub.Encode.future(request, timeout=60))

        seen: Counter[str] = Counter()

        def jump() -> None:
            with calling(encode) as codes:
                for seconds in JUMPS * SCALE:
                    set_clock(offset, seconds)
                    # Refused and logged, with the time.
                    seen[encode(pb.EncodeRequest(model_name="nobody"))] += 1
                    seen.update(encode() for _ in range(50))
            seen.update(codes)

        assert ended(server, jump) == seen
        _LOGGER.info("%s: %d jumps, %s", transport, len(JUMPS) * SCALE, dict(seen))
        assert set(seen) == {"OK", "NOT_FOUND"}
        # While it stops, too.
        threading.Timer(0.3, set_clock, (offset, -10 * DAY)).start()
    assert jumps_back(log) >= 2 * SCALE


def set_clock(offset: Path, seconds: int) -> None:
    if not offset.exists():
        offset.write_bytes(bytes(8))
    with offset.open("r+b") as file:
        file.write(struct.pack("q", seconds))


def jumps_back(log: Path) -> int:
    """How often the time in the log has gone back."""
    times = [datetime.fromisoformat(json.loads(line)["time"]) for line in log.read_text().splitlines()]
    return sum(later < earlier for earlier, later in itertools.pairwise(times))


def test_a_server_that_runs_out_of_memory_takes_no_request_along(tmp_path: Path) -> None:
    """It ends, as gRPC and Rust end a process then; callers go on with the other one, and with its successor."""
    port = str(free_port())
    batch = pixels(2)
    with running(GOLDEN, tmp_path / "other.log") as other:
        with Client([f"127.0.0.1:{port}", other.address]) as client, ExitStack() as stack:
            expected = client.encode(batch, model="vae").latents

            def encode() -> str:
                return "right" if np.array_equal(client.encode(batch, model="vae").latents, expected) else "wrong"

            codes = stack.enter_context(calling(encode))
            for number in range(SCALE):
                with killable_server(tmp_path / f"{number}.log", "--port", port) as killed:
                    exhaust(killed)
            with killable_server(tmp_path / "successor.log", "--port", port):
                time.sleep(1)
        _LOGGER.info("%d servers out of memory, %s", SCALE, dict(codes))
        assert set(codes) == {"right"}


def exhaust(server: LocalServer) -> None:
    """Leave a server a little memory, and send it large messages until it has ended."""
    pid = server.process.pid
    data = int(re.search(r"VmData:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024
    resource.prlimit(pid, resource.RLIMIT_DATA, (data + SPARE_BYTES, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    file = bytes(LARGE_BYTES)
    large = pb.EncodeRequest(model_name="vae", images=pb.Images(encoded=pb.EncodedImages(files=[file])))
    end = time.monotonic() + 60
    with grpc.insecure_channel(server.address, [("grpc.max_send_message_length", -1)]) as channel:
        stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
        while server.process.poll() is None:
            assert time.monotonic() < end
            for call in [stub.Encode.future(large, timeout=5) for _ in range(3)]:
                with suppress(grpc.RpcError):
                    call.result()
    assert server.process.returncode < 0
