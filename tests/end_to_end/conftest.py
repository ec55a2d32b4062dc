"""Trains, exports and serves one model of each family, once for all tests here."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import export.__main__
import numpy as np
import pytest
from hourglass_client import Client

import training.__main__
from examples.local_server import LocalServer, running
from training import checkpoint

RECIPES = {"ae": "fc-ae", "vae": "vae", "denoiser": "denoiser"}
TRANSPORTS = ("native", "grpcio")


@dataclass(frozen=True)
class Journey:
    """What a model went through: its run's folder, and the repository that it was exported to."""

    runs: Path
    repository: Path

    def checkpoint(self, family: str) -> checkpoint.Checkpoint:
        return checkpoint.load(self.runs / RECIPES[family])


@pytest.fixture(scope="session")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    root = tmp_path_factory.mktemp("journey")
    made = Journey(root / "runs", root / "models")
    for recipe in RECIPES.values():
        run = str(made.runs / recipe)
        assert training.__main__.main([recipe, "--data", "digits", "--epochs", "2", "--out", run]) == 0
        assert export.__main__.main([run, "--repository", str(made.repository)]) == 0
    return made


@pytest.fixture(scope="session", params=TRANSPORTS)
def server(
    journey: Journey, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServer]:
    log = tmp_path_factory.mktemp("server") / "server.log"
    with running(journey.repository, log, "--transport", request.param) as started:
        yield started


@pytest.fixture(scope="session")
def client(server: LocalServer) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


@pytest.fixture(scope="session")
def images(journey: Journey) -> np.ndarray:
    """(N, H, W, C) uint8: images that the models did not learn from."""
    return journey.checkpoint("ae").reference.images[:9]
