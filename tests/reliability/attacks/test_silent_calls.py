"""Calls that are opened and never sent: what they take, and the wait of honest callers beside them."""

import logging
import os
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc

from examples.local_server import running
from tests.reliability.resources import MIB, Holding, counted
from tests.server.conftest import GOLDEN
from tests.server.raw_http2 import END_HEADERS, HEADERS, RawConnection, frame, header_block

_LOGGER = logging.getLogger(__name__)
SCALE = int(os.environ.get("TEST_SCALE", "1"))
CONNECTIONS = 4 * SCALE
CALLS = 1000 if SCALE > 1 else 500
# In the long form the default.
MOST = 16_384 if SCALE > 1 else 500
PATH = "/autoencoder.v1.AutoencoderService/Encode"


def test_silent_calls_are_limited_and_hold_up_no_others(tmp_path: Path) -> None:
    flags = ("--transport", "grpcio", "--max-waiting-calls", str(MOST))
    block = header_block(PATH)
    opened = b"".join(frame(HEADERS, END_HEADERS, 1 + 2 * call, block) for call in range(CALLS))
    with running(GOLDEN, tmp_path / "server.log", *flags) as server, ExitStack() as stack:
        stub = autoencoder_pb2_grpc.AutoencoderServiceStub(stack.enter_context(grpc.insecure_channel(server.address)))
        waits = [wait(stub)]
        before = Holding.of(server.process.pid).rss_bytes
        for _ in range(CONNECTIONS):
            stranger = stack.enter_context(RawConnection(server.address, "127.0.0.2"))
            # Who sends so many calls before the server's first frame is taken for a storm.
            next(stranger.frames(20))
            stranger.socket.sendall(opened)
            waits.append(wait(stub))
        surplus = max(CONNECTIONS * CALLS - MOST, 0)
        end = time.monotonic() + 120
        while counted(server).get("RESOURCE_EXHAUSTED", 0) < surplus:
            assert time.monotonic() < end
            waits.append(wait(stub))
        held = Holding.of(server.process.pid).rss_bytes - before
        _LOGGER.info(
            "%d silent calls, at most %d kept: +%d MiB, %d honest callers waited %.2f s at most; %s",
            CONNECTIONS * CALLS,
            MOST,
            held // MIB,
            len(waits),
            max(waits),
            counted(server),
        )
        assert set(counted(server)) <= {"OK", "RESOURCE_EXHAUSTED"}


def wait(stub: autoencoder_pb2_grpc.AutoencoderServiceStub) -> float:
    """Seconds until a caller has its answer."""
    started = time.monotonic()
    assert stub.ListModels(pb.ListModelsRequest(), timeout=60).models
    return time.monotonic() - started
