"""Storms of calls over ever new connections: memory is bounded, and honest callers are served beside them and after."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc

from examples.local_server import LocalServer, running
from tests.reliability.attacks.storm import PATHS
from tests.reliability.resources import MIB, Holding
from tests.server.conftest import GOLDEN, TRANSPORTS

_LOGGER = logging.getLogger(__name__)
SCALE = int(os.environ.get("TEST_SCALE", "1"))
CALLS, CONNECTIONS = 100, 1000 * SCALE
# More than fit the buffers of a connection, so that nothing says that the client has gone.
MANY_CALLS, FEWER_CONNECTIONS = 1000, 100 * SCALE
# Thirty seconds of waiting callers and five gigabytes were the rule before.
MOST_BYTES = 300 * MIB
# The worst of them in the short form.
KINDS = list(PATHS) if SCALE > 1 else ["reset"]
KINDS_OF_MANY = ["reset", "closed"] if SCALE > 1 else ["closed"]
SERVERS = TRANSPORTS if SCALE > 1 else ["grpcio"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transport", SERVERS)
def test_a_storm_neither_fills_the_memory_nor_holds_up_others(tmp_path: Path, transport: str, kind: str) -> None:
    attack(tmp_path, (kind, CALLS, CONNECTIONS), "--transport", transport)


@pytest.mark.parametrize("kind", KINDS_OF_MANY)
def test_a_storm_of_many_calls_a_connection_does_not_hold_up_other_addresses(tmp_path: Path, kind: str) -> None:
    attack(tmp_path, (kind, MANY_CALLS, FEWER_CONNECTIONS), "--transport", "grpcio")


def test_a_storm_on_a_unix_socket_does_not_hold_up_other_processes(tmp_path: Path) -> None:
    attack(
        tmp_path,
        ("reset", MANY_CALLS, FEWER_CONNECTIONS),
        *("--transport", "grpcio", "--host", f"unix:{tmp_path}/h.sock"),
    )


def attack(folder: Path, storm: tuple[str, int, int], *flags: str) -> None:
    """Have honest callers beside a storm and after it, all of whom must be answered, and the memory bounded."""
    with running(GOLDEN, folder / "server.log", *flags) as server:
        waits = [wait(server)]
        before = Holding.of(server.process.pid).rss_bytes
        command = [sys.executable, "-m", "tests.reliability.attacks.storm", server.address, *map(str, storm)]
        most = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attacker:
            while attacker.poll() is None:
                waits.append(wait(server))
                most = max(most, Holding.of(server.process.pid).rss_bytes)
            sent = int(attacker.stdout.read())
        after = [wait(server) for _ in range(10 * SCALE)]
        most = max(most, Holding.of(server.process.pid).rss_bytes)
        _LOGGER.info(
            "%s, %s: %d calls, +%d MiB, %d honest callers waited %.2f s at most, then %d for %.2f s",
            " ".join(flags),
            storm[0],
            sent,
            (most - before) // MIB,
            len(waits),
            max(waits),
            len(after),
            max(after),
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
