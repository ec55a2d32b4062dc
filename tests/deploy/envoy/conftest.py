"""Two replicas, one on each transport, behind Envoy."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from examples.local_server import LocalServer, running
from tests.deploy.conftest import GOLDEN
from tests.deploy.envoy.proxy import Envoy, envoy

FLAGS = ("--poll-seconds", "0", "--trusted-proxies", "127.0.0.1,unix", "--lame-duck-seconds", "3")


@pytest.fixture(scope="session")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LocalServer]]:
    folder = tmp_path_factory.mktemp("replicas")
    with ExitStack() as stack:
        found = [
            stack.enter_context(
                running(
                    GOLDEN,
                    folder / f"{transport}.log",
                    *("--transport", transport, "--log-level", "debug", *FLAGS, "--lame-duck-seconds", "0"),
                )
            )
            for transport in ("native", "grpcio")
        ]
        yield found


@pytest.fixture(scope="session")
def proxy(replicas: list[LocalServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    folder = tmp_path_factory.mktemp("envoy")
    with envoy(folder / "run", *(replica.address for replica in replicas)) as running_proxy:
        yield running_proxy
