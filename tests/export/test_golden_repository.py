"""The committed repository is what its script makes: the same weights behind the same operators."""

import bundles
import networks
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bundle import layout
from bundle.noise import SCHEME
from export.graphs import build, methods, tensor_specs

NETWORKS = {
    "fc-ae": networks.Autoencoder((8, 8, 1)),
    "vae": networks.VariationalAutoencoder((8, 8, 1)),
    "denoiser": networks.Denoiser((8, 8, 1)),
    "multitask": networks.Multitask((8, 8, 3)),
}


def content(data: bytes) -> tuple[list[str], dict[str, np.ndarray]]:
    model = onnx.load_model_from_string(data)
    weights = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    return [node.op_type for node in model.graph.node], weights


def test_it_holds_every_model_once_and_is_small() -> None:
    assert SCHEME == "philox4x64-10-as241-v1"
    assert layout.model_names(bundles.GOLDEN) == sorted(NETWORKS)
    for name in NETWORKS:
        assert layout.versions(bundles.GOLDEN, name) == [1]
        assert sum(path.stat().st_size for path in (bundles.GOLDEN / name / "1").iterdir()) < 100_000


@pytest.mark.parametrize(("name", "method"), [("fc-ae", "encode"), ("denoiser", "denoise")])
def test_its_graphs_can_be_made_again(name: str, method: str) -> None:
    network = networks.weighted(NETWORKS[name])
    module = next(each for each in methods.methods(network) if each.name == method)
    made = build.build(module, tensor_specs.signature(method, methods.facts(network)))
    operators, weights = content(made)
    committed_operators, committed_weights = content((bundles.GOLDEN / name / "1" / f"{method}.onnx").read_bytes())
    assert operators == committed_operators
    assert weights.keys() == committed_weights.keys()
    for key, array in weights.items():
        np.testing.assert_allclose(array, committed_weights[key], rtol=1e-6)
