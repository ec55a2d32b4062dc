"""Reconnection: how soon clients that called a server while it was down are answered once it is up again."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from hourglass_client import AsyncClient, Client, HourglassError
from hourglass_client.cli.main import main

from examples.local_server import running
from tests.server.conftest import GOLDEN

# gRPC's own backoff has grown to about 10 s after 20 s, and to 120 s after some minutes.
OUTAGES_SECONDS = (8, 60, 150) if int(os.environ.get("TEST_SCALE", "1")) > 1 else (20,)
PERIOD_SECONDS = 1.0
# Twice the longest wait between two attempts to connect, and time for a busy machine.
LIMIT_SECONDS = 5.0

LOGGER = logging.getLogger(__name__)

Call = Callable[[], bool]
"""Whether it was answered."""


def answered(client: Client) -> bool:
    try:
        client.list_models()
    except HourglassError:
        return False
    return True


def command(address: str) -> bool:
    """The command line, in this process."""
    return main(["models", "--address", address]) == 0


def from_new_client(address: str) -> bool:
    with Client(address) as client:
        return answered(client)


@contextmanager
def asyncio_client(address: str) -> Iterator[Call]:
    """Call through a client that lives in an event loop of its own thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def make() -> AsyncClient:
        return AsyncClient(address)

    def wait(coroutine: object) -> object:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    client = wait(make())

    def call() -> bool:
        try:
            wait(client.list_models())
        except HourglassError:
            return False
        return True

    try:
        yield call
    finally:
        wait(client.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def back_after(call: Call, up: float) -> float:
    while not call():
        time.sleep(0.05)
    return time.monotonic() - up


@pytest.mark.slow
@pytest.mark.parametrize("outage_seconds", OUTAGES_SECONDS)
def test_clients_come_back_within_seconds_of_the_server(outage_seconds: int, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with running(GOLDEN, log) as server:
        address = server.address
        port = address.rpartition(":")[2]
        with Client(address) as client:
            assert answered(client)
    with Client(address) as client, asyncio_client(address) as from_asyncio, ThreadPoolExecutor() as pool:
        calls = {
            "blocking": lambda: answered(client),
            "asyncio": from_asyncio,
            "new client": lambda: from_new_client(address),
            "command line": lambda: command(address),
        }
        end = time.monotonic() + outage_seconds
        while time.monotonic() < end:
            assert not any(pool.map(lambda call: call(), calls.values()))
            time.sleep(PERIOD_SECONDS)
        with running(GOLDEN, log, "--port", port):
            up = time.monotonic()
            waits = [pool.submit(back_after, call, up) for call in calls.values()]
            seconds = {kind: wait.result(120) for kind, wait in zip(calls, waits, strict=True)}
    LOGGER.info("after %d s of outage, seconds until answered: %s", outage_seconds, seconds)
    assert max(seconds.values()) < LIMIT_SECONDS
