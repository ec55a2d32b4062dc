"""A server of the golden models on each transport, and the outputs of its graphs for the clients' images."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.server.conftest import GOLDEN, TRANSPORTS, Served, graph_run, serving

IMAGES = (np.arange(3 * 64, dtype=np.uint32) * 7 % 256).astype(np.uint8).reshape(3, 8, 8, 1)


@pytest.fixture(scope="session", params=TRANSPORTS)
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serving(GOLDEN, transport=request.param, rest_port=0, poll_seconds=0) as served:
        yield served


@pytest.fixture(scope="session")
def latents() -> np.ndarray:
    """(3, D) of the golden VAE."""
    return graph_run("encode", "vae", IMAGES)[0]
