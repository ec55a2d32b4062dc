import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# `networks` lies beside the tests; with importlib's import mode pytest adds no folder to the path.
sys.path.insert(0, str(Path(__file__).parent))

import networks

from export.gate import gate, golden
from export.gate.gate import Subject
from export.gate.sandbox import Isolation
from export.graphs import build, methods, tensor_specs
from tests.conftest import MadeOnce


@pytest.fixture(scope="session")
def apart() -> Iterator[Isolation]:
    """One process apart for all tests: starting it takes a second."""
    with Isolation() as isolation:
        yield isolation


def make_subject(network: networks.Network) -> Subject:
    """A network, its graphs and images, as export hands them to the gate."""
    model = build.folded(network)
    about = methods.facts(model)
    built = {m.name: build.build(m, tensor_specs.signature(m.name, about)) for m in methods.methods(model)}
    return Subject(model, built, networks.blobs(64, network.image_shape))


@pytest.fixture(scope="session")
def subjects(made_once: MadeOnce) -> dict[str, Subject]:
    """A subject of each family, grey and colour, square and not."""

    def fill(folder: Path) -> None:
        folder.mkdir()
        made = {
            "ae": make_subject(networks.weighted(networks.Autoencoder((8, 8, 1)))),
            "multitask": make_subject(networks.weighted(networks.Multitask((6, 10, 3)))),
            "denoiser": make_subject(networks.weighted(networks.Denoiser((12, 8, 3)))),
        }
        (folder / "subjects.pickle").write_bytes(pickle.dumps(made))

    # Of this very run.
    return pickle.loads((made_once("subjects", fill) / "subjects.pickle").read_bytes())  # noqa: S301


@pytest.fixture(scope="session")
def goldens(subjects: dict[str, Subject]) -> dict[str, golden.Golden]:
    """Golden vectors of each subject."""
    return {
        family: golden.golden(gate.exact_methods(subject.model), subject.images, None)
        for family, subject in subjects.items()
    }
