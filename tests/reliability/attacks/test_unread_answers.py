"""Callers who do not read their answers: what the server holds for them is bounded, and others are served."""

import logging
import os
import time
from pathlib import Path

import grpc
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc

from examples.local_server import LocalServer, running
from tests.reliability.resources import MIB, Holding, counted
from tests.server.conftest import GOLDEN
from tests.server.raw_http2 import RawConnection

_LOGGER = logging.getLogger(__name__)
SCALE = int(os.environ.get("TEST_SCALE", "1"))
CONNECTIONS = 8 * SCALE
CALLS = 100
QUIET_SECONDS = 10
PATH = "/autoencoder.v1.AutoencoderService/"
SAMPLE = pb.SampleRequest(model_name="vae", count=1024, image_format=pb.IMAGE_FORMAT_FLOAT32).SerializeToString()
LIMITS = {"connection-unsent-bytes": 4 * MIB, "unsent-bytes": 8 * MIB, "queue-rows": 1_000_000}
FLAGS = [word for name, limit in LIMITS.items() for word in (f"--max-{name}", str(limit))]


def await_calls(server: LocalServer, expected: int) -> int:
    """Wait until more than so many calls have ended, or no further one does; returns how many.

    Of a connection that is ended for what it holds, the server may never see the calls still under way.
    """
    ended, since = 0, time.monotonic()
    while ended <= expected and time.monotonic() - since < QUIET_SECONDS:
        time.sleep(0.05)
        now = sum(counted(server).values())
        if now != ended:
            ended, since = now, time.monotonic()
    return ended


def test_unread_answers_are_bounded(tmp_path: Path) -> None:
    """Each answer has a quarter of a MiB."""
    log = tmp_path / "server.log"
    with (
        running(GOLDEN, log, "--transport", "grpcio", *FLAGS) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
        size = stub.Sample(pb.SampleRequest.FromString(SAMPLE), timeout=30).ByteSize()
        before = Holding.of(server.process.pid)
        connections = [RawConnection(server.address) for _ in range(CONNECTIONS)]
        for connection in connections:
            for call in range(CALLS):
                connection.call(1 + 2 * call, f"{PATH}Sample", SAMPLE)
        assert await_calls(server, CONNECTIONS * CALLS) > CALLS
        held = Holding.of(server.process.pid).rss_bytes - before.rss_bytes
        _LOGGER.info(
            "%d unread answers of %d KiB: +%d MiB, %s",
            CONNECTIONS * CALLS,
            size // 1024,
            held // MIB,
            counted(server),
        )
        # Without the limits: all of them, twice.
        assert held < CONNECTIONS * CALLS * size / 2
        assert stub.ListModels(pb.ListModelsRequest(), timeout=30).models
        # Those who hold most are ended for others.
        for _ in range(3):
            assert stub.Sample(pb.SampleRequest.FromString(SAMPLE), timeout=30).ByteSize() > size / 2
        for connection in connections:
            connection.socket.close()
        # What was held is given back.
        assert stub.Sample(pb.SampleRequest.FromString(SAMPLE), timeout=30).ByteSize() > size / 2
    # That callers leave is no error of the server.
    assert " ERROR " not in log.read_text()
