"""A server of the models that a test module writes, and a client of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hourglass_client import Client

from tests.server.conftest import Served, serving


@pytest.fixture(scope="module")
def server(graphs: tuple[Path, dict[str, bytes]]) -> Iterator[Served]:
    with serving(graphs[0], poll_seconds=0) as served:
        yield served


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected
