"""Image files that ask for more than their bytes and pixels justify, beside a caller of small PNG files."""

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc
from PIL import Image

from examples.local_server import LocalServer, running
from tests.image_kinds import saved
from tests.reliability.attacks.hostile_images import hostile, progressive
from tests.reliability.resources import MIB, Holding
from tests.server.conftest import GOLDEN, TRANSPORTS

_LOGGER = logging.getLogger(__name__)
SCALE = int(os.environ.get("TEST_SCALE", "1"))
# Of each file.
HOSTILE_BYTES = min(8, 2 * SCALE) * MIB
# More than the pool has threads.
AT_A_TIME = 4
HONEST, HOSTILE = "well-behaved-caller", "hostile-caller-0001"
SMALL = saved(Image.new("L", (8, 8), 128), "PNG")
LARGEST_GROWTH_BYTES = 256 * MIB
LATE_SECONDS = 60


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(f"inference {HONEST}\ninference {HOSTILE}\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def server(transport: str, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    with running(GOLDEN, log, "--transport", transport, "--token-file", str(tokens)) as started:
        yield started


class Caller:
    """Sends image files under one token, on a connection of its own."""

    def __init__(self, server: LocalServer, token: str) -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(server.address, options)
        self._stub = autoencoder_pb2_grpc.AutoencoderServiceStub(self.channel)
        self._metadata = [("authorization", f"Bearer {token}")]

    def send(self, file: bytes, timeout_seconds: float = LATE_SECONDS) -> grpc.Future:
        encoded = pb.EncodedImages(files=[file], resize=True)
        request = pb.EncodeRequest(model_name="vae", images=pb.Images(encoded=encoded))
        return self._stub.Encode.future(request, timeout=timeout_seconds, metadata=self._metadata)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return hostile(HOSTILE_BYTES)


@pytest.fixture
def callers(server: LocalServer) -> Iterator[tuple[Caller, Caller]]:
    honest, hostile_caller = Caller(server, HONEST), Caller(server, HOSTILE)
    with honest.channel, hostile_caller.channel:
        honest.send(SMALL).result()
        yield honest, hostile_caller


@pytest.mark.parametrize("name", hostile(1024, side=64))
def test_honest_callers_are_served_beside_hostile_files(
    name: str, server: LocalServer, callers: tuple[Caller, Caller], files: dict[str, bytes]
) -> None:
    honest, hostile_caller = callers
    file = files[name]
    before = Holding.of(server.process.pid)
    calls = [hostile_caller.send(file) for _ in range(AT_A_TIME)]
    waits: list[float] = []
    while not waits or (len(waits) < 1000 and not all(call.done() for call in calls)):
        started = time.monotonic()
        assert honest.send(SMALL).result().latents.shape[0] == 1
        waits.append(time.monotonic() - started)
    codes = Counter(call.code().name for call in calls)
    held = Holding.of(server.process.pid).rss_bytes - before.rss_bytes
    _LOGGER.info(
        "%d x %s of %d KiB: %s; longest of %d honest waits %.0f ms; +%d MiB",
        AT_A_TIME,
        name,
        len(file) // 1024,
        dict(codes),
        len(waits),
        1000 * max(waits),
        held // MIB,
    )
    assert codes == {"INVALID_ARGUMENT": AT_A_TIME}
    assert "images.encoded.files[0]: expected" in calls[0].details()
    assert held < LARGEST_GROWTH_BYTES


def test_a_deadline_ends_a_long_decode(transport: str, tokens: Path, tmp_path: Path) -> None:
    """With the limit on scans raised, each of these files takes a thread of the pool for minutes."""
    flags = (
        "--transport",
        transport,
        "--token-file",
        str(tokens),
        "--max-image-scans",
        "1000000",
        "--max-image-parts",
        "1000000",
    )
    with running(GOLDEN, tmp_path / "server.log", *flags) as started:
        honest, hostile_caller = Caller(started, HONEST), Caller(started, HOSTILE)
        with honest.channel, hostile_caller.channel:
            calls = [hostile_caller.send(progressive(40_000), 1) for _ in range(AT_A_TIME)]
            assert {call.exception().code().name for call in calls} == {"DEADLINE_EXCEEDED"}
            begun = time.monotonic()
            honest.send(SMALL).result()
            _LOGGER.info("after the deadlines an honest call took %.0f ms", 1000 * (time.monotonic() - begun))
