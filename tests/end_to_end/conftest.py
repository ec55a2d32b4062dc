"""Trains, exports and serves one model of each family, once for all tests here."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hourglass_client import Client

import export.__main__
import training.__main__
from examples.local_server import LocalServer, running
from tests.conftest import Demo, MadeOnce
from training import checkpoint

# It needs published weights and images that are not in the tree.
collect_ignore = () if "PHOTOS_DIR" in os.environ else ("test_foreign_denoiser.py",)
RECIPES = {
    "ae": "fc-ae",
    "vae": "vae",
    "vae-gan": "vae-gan",
    "multitask": "multitask-vae",
    "flow": "vae-flow",
    "denoiser": "denoiser",
}
# Training and the gate then take half as long; what is served and compared is the same.
SMALLER = {
    "vae-gan": ("model.channels=[8, 16]", "model.discriminator_channels=[8, 16]"),
    "vae-flow": ("model.hidden=[32]", "model.latent_size=6", "model.couplings=4", "evaluation.nll_samples=16"),
    "multitask-vae": ("model.hidden=[64]", "model.classifier_hidden=[32]"),
}
TRANSPORTS = ("native", "grpcio")


@dataclass(frozen=True)
class Journey:
    """What the models went through: the folder of their runs, and the repository that they were exported to."""

    runs: Path
    repository: Path

    def checkpoint(self, family: str) -> checkpoint.Checkpoint:
        return checkpoint.load(self.runs / RECIPES[family])


@pytest.fixture(scope="session")
def journey(demo: Demo, made_once: MadeOnce, known_operators: None) -> Journey:  # noqa: ARG001 (used while it exports)
    """One model of each family: those of the demo, and the others made in the same way."""

    def fill(folder: Path) -> None:
        shutil.copytree(demo.runs, folder / "runs")
        shutil.copytree(demo.models, folder / "models")
        for recipe in sorted(set(RECIPES.values()) - {path.name for path in demo.models.iterdir()}):
            run = str(folder / "runs" / recipe)
            smaller = [word for setting in SMALLER[recipe] for word in ("--set", setting)]
            assert training.__main__.main([recipe, "--data", "digits", "--epochs", "1", "--out", run, *smaller]) == 0
            assert export.__main__.main([run, "--repository", str(folder / "models")]) == 0

    folder = made_once("journey", fill)
    return Journey(folder / "runs", folder / "models")


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
