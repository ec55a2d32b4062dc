import pickle
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

# `networks` is in the folder of the tests; with importlib's import mode pytest adds no folder to the path.
sys.path.insert(0, str(Path(__file__).parent))

import free_networks
import networks
import numpy as np
from autoencoder.v1.model_pb2 import Tiling

from bundle import layout
from bundle.detection import HeldOutScores, calibrate
from export.gate import gate, golden
from export.gate.gate import CheckedGraphs
from export.gate.sandbox import Sandbox
from export.graphs import build, methods, tensor_specs
from export.publication.model_json import describe
from export.publication.publish import Place, publish
from tests.conftest import MadeOnce


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """One sandbox for all tests: starting it takes a second."""
    with Sandbox() as started:
        yield started


@pytest.fixture(scope="session", autouse=True)
def _operators(known_operators: None) -> None:
    """Nearly all tests here build graphs."""


def make_checked(network: networks.Network, images: np.ndarray | None = None) -> CheckedGraphs:
    """A network, its graphs and images, as export hands them to the gate."""
    model = build.folded(network)
    facts = methods.facts(model)
    built = {m.name: build.build(m, tensor_specs.signature(m.name, facts)) for m in methods.methods(model)}
    return CheckedGraphs(model, built, networks.blobs(64, network.image_shape) if images is None else images)


@pytest.fixture(scope="session")
def checked(made_once: MadeOnce) -> dict[str, CheckedGraphs]:
    """The graphs of a network of each family, grey and colour, square and not."""

    def fill(folder: Path) -> None:
        folder.mkdir()
        made = {
            "ae": make_checked(networks.weighted(networks.Autoencoder((8, 8, 1)))),
            "multitask": make_checked(networks.weighted(networks.Multitask((6, 10, 3)))),
            "denoiser": make_checked(networks.weighted(networks.Denoiser((12, 8, 3)))),
            "detector": make_checked(networks.weighted(networks.Detector((8, 10, 3)))),
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


@pytest.fixture(scope="session")
def free(made_once: MadeOnce) -> CheckedGraphs:
    """The graph of a denoiser of free sizes, with a noise level as an input."""

    def fill(folder: Path) -> None:
        folder.mkdir()
        made = make_checked(networks.weighted(free_networks.FreeDenoiser()), networks.blobs(20, (24, 21, 1)))
        (folder / "free.pickle").write_bytes(pickle.dumps(made))

    return pickle.loads((made_once("free", fill) / "free.pickle").read_bytes())  # noqa: S301


@pytest.fixture
def detecting_version(checked: dict[str, CheckedGraphs], goldens: dict[str, golden.Golden], tmp_path: Path) -> Path:
    """A version with the graph of a detector, calibrated on 40 images."""
    one = checked["detector"]
    contents = {"detect.onnx": one.graphs["detect"], layout.GOLDEN_FILE: goldens["detector"].to_bytes()}
    model = describe(methods.facts(one.model), one.signatures, contents, {})
    maps = np.random.default_rng(0).random((40, 8, 10), np.float32)
    model.detection.CopyFrom(calibrate(HeldOutScores.of_maps(maps, "max"), "max"))
    place = Place(tmp_path / "repository", "detector")
    return publish(place, contents, partial(place.name_model, model))


@pytest.fixture
def free_version(free: CheckedGraphs, tmp_path: Path) -> Path:
    """A version with that graph, and what the gate would have found out about it."""
    about = methods.facts(free.model)
    (signature,) = free.signatures
    signature.tiling.CopyFrom(Tiling(halo=10, multiple=2, tile=64, exact=True))
    signature.batch_buckets.extend([1, 2, 4])
    signature.batch_invariant = True
    expected = golden.golden_vectors(gate.exact_methods(free.model), free.images, None)
    contents = {signature.file: free.graphs["denoise"], layout.GOLDEN_FILE: expected.to_bytes()}
    place = Place(tmp_path / "repository", "free")
    model = describe(about, [signature], contents, {})
    return publish(place, contents, partial(place.name_model, model))
