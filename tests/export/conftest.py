import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# `networks` is in the folder of the tests; with importlib's import mode pytest adds no folder to the path.
sys.path.insert(0, str(Path(__file__).parent))

import networks

from export.gate import gate, golden
from export.gate.gate import CheckedGraphs
from export.gate.sandbox import Sandbox
from export.graphs import build, methods, tensor_specs
from tests.conftest import MadeOnce


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """One sandbox for all tests: starting it takes a second."""
    with Sandbox() as started:
        yield started


@pytest.fixture(scope="session", autouse=True)
def _operators(known_operators: None) -> None:
    """Nearly all tests here build graphs."""


def make_checked(network: networks.Network) -> CheckedGraphs:
    """A network, its graphs and images, as export hands them to the gate."""
    model = build.folded(network)
    facts = methods.facts(model)
    built = {m.name: build.build(m, tensor_specs.signature(m.name, facts)) for m in methods.methods(model)}
    return CheckedGraphs(model, built, networks.blobs(64, network.image_shape))


@pytest.fixture(scope="session")
def checked(made_once: MadeOnce) -> dict[str, CheckedGraphs]:
    """The graphs of a network of each family, grey and colour, square and not."""

    def fill(folder: Path) -> None:
        folder.mkdir()
        made = {
            "ae": make_checked(networks.weighted(networks.Autoencoder((8, 8, 1)))),
            "multitask": make_checked(networks.weighted(networks.Multitask((6, 10, 3)))),
            "denoiser": make_checked(networks.weighted(networks.Denoiser((12, 8, 3)))),
        }
        (folder / "checked.pickle").write_bytes(pickle.dumps(made))

    # Of this very run.
    return pickle.loads((made_once("checked", fill) / "checked.pickle").read_bytes())  # noqa: S301


@pytest.fixture(scope="session")
def goldens(checked: dict[str, CheckedGraphs]) -> dict[str, golden.Golden]:
    """Golden vectors of each one."""
    return {
        family: golden.golden_vectors(gate.exact_methods(one.model), one.images, None)
        for family, one in checked.items()
    }
