"""Storms of calls over ever new connections: memory is bounded, and honest callers are served beside them and after."""

import logging
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc

from examples.local_server import LocalServer, running
from tests.reliability.resources import MIB, Holding
from tests.server.conftest import GOLDEN, TRANSPORTS
from tests.server.raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
    header_block,
    message,
)

_LOGGER = logging.getLogger(__name__)
SCALE = int(os.environ.get("TEST_SCALE", "1"))
SECONDS = 0.5 if SCALE == 1 else 2.0
CALLS = 100
# Thirty seconds of waiting callers and five gigabytes were the rule before.
MOST_BYTES = 300 * MIB
PATHS = {
    "reset": "/autoencoder.v1.AutoencoderService/Encode",
    "closed": "/autoencoder.v1.AutoencoderService/Encode",
    "health": "/grpc.health.v1.Health/Check",
    "unknown": "/no.Such/Method",
}
# The worst of them in the short form.
KINDS = list(PATHS) if SCALE > 1 else ["reset"]
SERVERS = TRANSPORTS if SCALE > 1 else ["grpcio"]


def storm(address: str, kind: str, seconds: float) -> int:
    """Connect, make calls, close, again; returns how many calls were sent."""
    host, _, port = address.rpartition(":")
    reset, block = kind == "reset", header_block(PATHS[kind])
    calls = [
        frame(HEADERS, END_HEADERS, stream, block)
        + frame(DATA, 0 if reset else END_STREAM, stream, message(b""))
        + (frame(RST_STREAM, 0, stream, struct.pack(">I", 8)) if reset else b"")
        for stream in range(1, 2 * CALLS, 2)
    ]
    data = PREFACE + frame(SETTINGS, 0, 0) + b"".join(calls)
    sent, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                connection.sendall(data)
                sent += CALLS
        except OSError:
            continue
    return sent


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transport", SERVERS)
def test_a_storm_neither_fills_the_memory_nor_holds_up_others(tmp_path: Path, transport: str, kind: str) -> None:
    with running(GOLDEN, tmp_path / "server.log", "--transport", transport) as server:
        waits = [wait(server)]
        before = Holding.of(server.process.pid).rss_bytes
        command = [sys.executable, "-m", __name__, server.address, kind, str(SECONDS)]
        most = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attacker:
            while attacker.poll() is None:
                waits.append(wait(server))
                most = max(most, Holding.of(server.process.pid).rss_bytes)
            sent = int(attacker.stdout.read())
        after = wait(server)
        most = max(most, Holding.of(server.process.pid).rss_bytes)
        _LOGGER.info(
            "%s, %s: %d calls, +%d MiB, %d honest callers waited %.2f s at most, then %.2f s",
            transport,
            kind,
            sent,
            (most - before) // MIB,
            len(waits),
            max(waits),
            after,
        )
        assert sent
        assert most - before < MOST_BYTES


def wait(server: LocalServer) -> float:
    """Seconds until a new caller has its answer, which may connect more than once."""
    started = time.monotonic()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100)]
    with grpc.insecure_channel(server.address, options) as channel:
        stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
        assert stub.ListModels(pb.ListModelsRequest(), timeout=60, wait_for_ready=True).models
    return time.monotonic() - started


if __name__ == "__main__":
    sys.stdout.write(str(storm(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
