import free_networks
import networks
import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from bundle.graph import read_graph
from export.errors import ExportError
from export.gate import gate
from export.gate.parity import outputs
from export.gate.sandbox import Sandbox
from export.gate.weights import weight_problems
from export.graphs import build, methods, tensor_specs
from export.graphs.methods import Method


def method_of(network: nn.Module, name: str) -> Method:
    return next(each for each in methods.methods(network) if each.name == name)


def built(network: nn.Module, name: str) -> bytes:
    return build.build(method_of(network, name), tensor_specs.signature(name, methods.facts(network)))


@pytest.fixture(scope="module")
def normed() -> networks.Network:
    """A decoder with weight norm, an encoder with spectral norm."""
    network = networks.weighted(networks.Autoencoder((8, 8, 1)))
    parametrizations.weight_norm(network.decoder)
    parametrizations.spectral_norm(network.encoder[1])
    network.decoder.parametrizations.weight.original0.data.mul_(1.5)
    return network.eval()


def test_parametrisations_are_folded(normed: networks.Network, sandbox: Sandbox) -> None:
    folded = build.folded(normed)
    assert set(dict(folded.named_parameters())) == {
        "decoder.weight",
        "decoder.bias",
        "encoder.1.weight",
        "encoder.1.bias",
    }
    graph = built(folded, "reconstruct")
    assert weight_problems(graph, folded) == []
    assert {name for _, name in read_graph(graph).operators} <= {
        "Cast",
        "Div",
        "Gemm",
        "Mul",
        "ReduceMean",
        "Relu",
        "Reshape",
        "Sigmoid",
        "Sub",
        "Transpose",
    }
    images = networks.blobs(5, (8, 8, 1))
    got = sandbox.run(outputs, graph, [{"images": images}])[0]["reconstructions"]
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        expected = normed.decode(normed.encode(pixels)).sigmoid().permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_folding_leaves_the_network_alone(normed: networks.Network) -> None:
    before = {name: value.clone() for name, value in normed.state_dict().items()}
    build.folded(normed)
    assert before.keys() == normed.state_dict().keys()
    assert all(torch.equal(value, normed.state_dict()[name]) for name, value in before.items())


def test_two_builds_are_the_same_bytes_without_a_trace_of_the_machine() -> None:
    network = networks.weighted(networks.Denoiser((8, 8, 1)))
    first, second = built(network, "denoise"), built(network, "denoise")
    assert first == second
    model = onnx.load_model_from_string(first)
    assert not model.metadata_props
    assert not model.graph.metadata_props
    assert all(not node.metadata_props and not node.doc_string for node in model.graph.node)
    assert b".py" not in first


@pytest.mark.parametrize("image_shape", [(4, 4, 1), (12, 8, 3), (32, 32, 3)])
def test_any_size_and_colour(image_shape: tuple[int, int, int], sandbox: Sandbox) -> None:
    network = networks.weighted(networks.Denoiser(image_shape))
    images = networks.blobs(3, image_shape).astype(np.float32) / 255
    got = sandbox.run(outputs, built(network, "denoise"), [{"images": images}])[0]["denoised"]
    exact, signature = gate.exact_methods(network)[0]
    np.testing.assert_allclose(got, gate.answer(exact, images, signature)["denoised"], atol=1e-5)


def test_a_downsampling_that_no_size_fits_is_refused() -> None:
    class Uneven(free_networks.FreeAutoencoder):
        downsampling = 3

    with pytest.raises(ExportError, match="divides its multiple, got multiple 4 and downsampling 3"):
        methods.facts(Uneven())
